"""Written records held against what is read back of them: changes of dtype are named, changes of values are refused."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from datarax_core.config.base import same
from datarax_core.errors import SpecError
from datarax_core.records.joining import joined_columns
from datarax_core.records.spec import Batch, named_fields


def first_and_last(blocks: Sequence[Batch]) -> Batch:
    """Return the first record of the first block and the last record of the last one, as a batch of two."""
    head, tail = blocks[0], blocks[-1]
    return jax.tree.map(lambda first, last: joined_columns([first[:1], last[-1:]]), head, tail)


def changes_of(given: Batch, found: Batch, title: str) -> tuple[str, ...]:
    """Return how fields that are read back differ in dtype from those that were written, with equal values.

    Text of any width is one dtype with text as objects, and so are bytes.

    Args:
        given: Records as they were given to be written.
        found: The same records as they are read back.
        title: The writer, for the error: ``"the decoder 'msgpack'"``.

    Raises:
        SpecError: A field is gone, new, or has another shape or other values; names each.
    """
    wanted, read = named_fields(given), named_fields(found)
    lost = [f"field {name!r} is gone" for name in wanted if name not in read]
    lost += [f"field {name!r} ({_described(read[name])}) is new" for name in read if name not in wanted]
    changed = []
    for name in wanted.keys() & read.keys():
        column, other = np.asarray(wanted[name]), np.asarray(read[name])
        difference = f"field {name!r} is {_described(other)} where {_described(column)} was written"
        if column.shape != other.shape or not _are_equal(column, other):
            kept = column.shape == other.shape and column.dtype == other.dtype
            lost.append(f"field {name!r} ({_described(column)}) has other values" if kept else difference)
        elif column.dtype != other.dtype and not _are_texts(column, other):
            changed.append(difference)
    if lost:
        raise SpecError(
            f"{title} does not keep the records: read back, {'; '.join(sorted(lost))}; choose another format, or convert the "
            "fields first"
        )
    return tuple(sorted(changed))


def _described(column: np.ndarray) -> str:
    return f"{column.dtype}{list(column.shape[1:])}"


def _are_texts(one: np.ndarray, other: np.ndarray) -> bool:
    return {one.dtype.kind, other.dtype.kind} in ({"U", "O"}, {"S", "O"}, {"U"}, {"S"})


def _are_equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two columns of one shape hold the same values, NaN included, whatever their dtypes are."""
    if one.dtype == other.dtype and not one.dtype.hasobject and one.tobytes() == other.tobytes():
        return True
    return same(_values(one), _values(other))


def _values(column: np.ndarray) -> Any:
    """Return a column as nested lists of Python values, which compare exactly across dtypes."""
    if column.dtype.kind == "V":  # dtypes of JAX that NumPy has no kind for, such as bfloat16
        column = column.astype(np.float64)
    values = column.tolist()
    return jax.tree.map(lambda value: value.tolist() if isinstance(value, np.ndarray) else value, values)
