"""Written records held against what is read back of them: changes of dtype are named, changes of values are refused."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from datarax_core.config.base import same
from datarax_core.errors import SpecError
from datarax_core.records.joining import host_column, joined_columns
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, has_shape, named_fields

Column: TypeAlias = np.ndarray | Ragged


def first_and_last(blocks: Sequence[Batch]) -> Batch:
    """Return the first record of the first block and the last record of the last one, as a batch of two."""
    head, tail = blocks[0], blocks[-1]
    return jax.tree.map(lambda first, last: joined_columns([first[:1], last[-1:]]), head, tail)


def changes_of(given: Batch, found: Batch, title: str) -> tuple[str, ...]:
    """Return how fields that are read back differ in dtype or form from those that were written, with equal values.

    Text of any width is one dtype with text as objects, and so are bytes. An array may be read back as a ragged column.

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
        column, other = host_column(wanted[name]), host_column(read[name])
        difference = f"field {name!r} is {_described(other)} where {_described(column)} was written"
        one_form = column.shape == other.shape
        if not has_shape(column.shape, other.shape) or not _are_equal(column, other):
            kept = one_form and column.dtype == other.dtype
            lost.append(f"field {name!r} ({_described(column)}) has other values" if kept else difference)
        elif not one_form or (column.dtype != other.dtype and not _are_texts(column, other)):
            changed.append(difference)
    if lost:
        raise SpecError(
            f"{title} does not keep the records: read back, {'; '.join(sorted(lost))}; choose another format, or convert the "
            "fields first"
        )
    return tuple(sorted(changed))


def _described(column: Column) -> str:
    return f"{column.dtype}{list(column.shape[1:])}"


def _are_texts(one: Column, other: Column) -> bool:
    return {one.dtype.kind, other.dtype.kind} in ({"U", "O"}, {"S", "O"}, {"U"}, {"S"})


def _are_equal(one: Column, other: Column) -> bool:
    """Return whether two columns of one shape hold the same values, NaN included, whatever their dtypes are."""
    if isinstance(one, Ragged) or isinstance(other, Ragged):
        rows = zip(one, other, strict=True)
        return all(row.shape == other_row.shape and _are_equal(row, other_row) for row, other_row in rows)
    if one.dtype == other.dtype and not one.dtype.hasobject and one.tobytes() == other.tobytes():
        return True
    return same(_values(one), _values(other))


def _values(column: np.ndarray) -> Any:
    """Return a column as nested lists of Python values, which compare exactly across dtypes."""
    if column.dtype.kind == "V":  # dtypes of JAX that NumPy has no kind for, such as bfloat16
        column = column.astype(np.float64)
    values = column.tolist()
    return jax.tree.map(lambda value: value.tolist() if isinstance(value, np.ndarray) else value, values)
