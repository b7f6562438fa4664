"""Checks shared by the kit's tests: fail or skip with a sentence, and compare batches value by value.

pytest does not rewrite the assertions of an installed package, so every failure is a sentence of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NoReturn

import jax
import numpy as np
import pytest

from datarax_core.records.dtypes import fits_device
from datarax_core.records.joining import host_column, joined_batches
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec, named_fields
from datarax_core.sources.source import DataSourceModule

BATCH: Final = 14
"""The number of records of a batch, unless a test needs another."""

# -- verdicts ---------------------------------------------------------------------------------------------------------------


def broken(sentence: str) -> NoReturn:
    """Fail the test; the sentence names the promise, what happened instead, and what to change."""
    raise pytest.fail.Exception(sentence, pytrace=False) from None  # the sentence has the message of its cause


def require(holds: Any, sentence: str) -> None:
    """Fail the test with the sentence unless ``holds`` is true."""
    if not holds:
        broken(sentence)


def not_claimed(reason: str) -> NoReturn:
    """Skip the test of a promise that the source does not make."""
    pytest.skip(reason)


def attempt(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Return (the result of a call, None), or (None, its error)."""
    try:
        return call(), None
    except Exception as error:  # noqa: BLE001 - an author's code may raise anything
        return None, error


def shown(value: Any, most: int = 60) -> str:
    """Return the repr of a value for a message; a long one ends with an ellipsis, and a NumPy scalar is shown as its value."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= most else text[: most - 3] + "..."


# -- batches ----------------------------------------------------------------------------------------------------------------


def rows_of(batch: Batch) -> int:
    """Return the number of records of a batch."""
    return len(jax.tree.leaves(batch)[0])


def batches(source: DataSourceModule, total: int, size: int = BATCH) -> Iterator[Batch]:
    """Yield ``total`` records of a source by `get_batch`, or fewer if it ends."""
    while total > 0:
        try:
            batch = source.get_batch(min(size, total))
        except StopIteration:
            return
        total -= rows_of(batch)
        yield batch


def part(batch: Batch, rows: Any) -> Batch:
    """Return rows of a batch, on the host; ``rows`` is a slice, an index or an array of indices."""
    return jax.tree.map(lambda column: host_column(column)[rows], batch)


def joined(batches: Iterable[Batch]) -> Batch:
    """Return batches concatenated to one, on the host; fields of which the batches differ in shape are ragged columns."""
    on_host = [jax.tree.map(host_column, batch) for batch in batches]
    if all(_shapes_of(batch) == _shapes_of(on_host[0]) for batch in on_host):
        return joined_batches(on_host)
    return jax.tree.map(
        lambda *columns: _column_of([np.asarray(row) for column in columns for row in column]), *on_host
    )


def _shapes_of(batch: Batch) -> list[tuple[int | None, ...]]:
    return [tuple(column.shape[1:]) for column in jax.tree.leaves(batch)]


def batch_of_records(records: Iterable[Any], spec: ElementSpec = None) -> Batch:
    """Return single records as one batch, on the host; fields of which the values differ in shape are ragged columns.

    With ``spec``, values of object fields may be of any type, dicts and lists included.
    """
    listed = list(records)
    structs = jax.tree.leaves(spec)
    form: Any = jax.tree.structure(listed[0] if spec is None else spec)
    fields = zip(*map(form.flatten_up_to, listed), strict=True)
    return form.unflatten(
        _column_of(values, as_objects=bool(structs) and structs[number].dtype == np.dtype(object))
        for number, values in enumerate(fields)
    )


def _column_of(values: Sequence[Any], *, as_objects: bool = False) -> Any:
    if as_objects and any(isinstance(value, dict | list | tuple | set) for value in values):
        column = np.empty(len(values), object)
        for row, value in enumerate(values):
            column[row] = value
        return column
    arrays = [np.asarray(value) for value in values]
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else Ragged.from_list(arrays)


def difference(expected: Batch, found: Batch, *, may_be_padded: bool = False) -> str:
    """Return the first difference of two batches, as ``field 'x' of row 3 is 1 where 2 is expected``; "" if they are equal.

    Batches from a device are narrowed to 32 bits, so expected values are converted to the dtype that was found. With
    ``may_be_padded``, a record of one of them may be longer, by padding of one value.
    """
    wanted, given = named_fields(expected), named_fields(found)
    if wanted.keys() != given.keys():
        return f"its fields are {', '.join(sorted(given))} where {', '.join(sorted(wanted))} are expected"
    compared = _padded_difference if may_be_padded else _field_difference
    return next((text for name in wanted if (text := compared(name, wanted[name], given[name]))), "")


def _padded_difference(name: str, expected: Any, found: Any) -> str:
    """Return the first difference of two columns whose records may be padded to other lengths."""
    wanted, given = host_column(expected), host_column(found)
    if len(wanted) != len(given):
        return f"field {name!r} has {len(given)} rows where {len(wanted)} are expected"
    for row, (one, other) in enumerate(zip(wanted, given, strict=True)):
        if not _are_equal_but_for_padding(np.asarray(one), np.asarray(other)):
            return f"field {name!r} of row {row} is {shown(other)} where {shown(one)} is expected"
    return ""


def _are_equal_but_for_padding(one: np.ndarray, other: np.ndarray) -> bool:
    if one.ndim != other.ndim:
        return False
    small, large = sorted((one, other), key=np.size)
    if any(few > many for few, many in zip(small.shape, large.shape, strict=True)):
        return False
    for corner in ([slice(size) for size in small.shape], [slice(-size or None, None) for size in small.shape]):
        rest = np.ones(large.shape, bool)
        rest[tuple(corner)] = False
        padding = large[rest]
        if are_equal(small, large[tuple(corner)].astype(small.dtype)) and (padding == padding[:1]).all():
            return True
    return False


def _field_difference(name: str, expected: Any, found: Any) -> str:
    wanted, given = host_column(expected), host_column(found)
    if isinstance(wanted, Ragged) or isinstance(given, Ragged):
        return _ragged_difference(name, wanted, given)
    if wanted.shape != given.shape:
        return f"field {name!r} has shape {list(given.shape)} where {list(wanted.shape)} is expected"
    if wanted.dtype != given.dtype and fits_device(wanted.dtype) and fits_device(given.dtype):
        wanted = wanted.astype(given.dtype)
    for row in np.ndindex(wanted.shape[:1]):
        if not are_equal(wanted[row], given[row]):
            return f"field {name!r} of row {row[0]} is {shown(given[row])} where {shown(wanted[row])} is expected"
    if wanted.shape or are_equal(wanted[()], given[()]):
        return ""
    return f"field {name!r} is {shown(given)}, not {shown(wanted)}"


def _ragged_difference(name: str, expected: Any, found: Any) -> str:
    """Return the first difference of two columns, one of which is ragged; the other may be an array of the same records."""
    if expected.dtype != found.dtype:
        return f"field {name!r} is {found.dtype} where {expected.dtype} is expected"
    if len(expected) != len(found):
        return f"field {name!r} has {len(found)} rows where {len(expected)} are expected"
    for row, (wanted, given) in enumerate(zip(expected, found, strict=True)):
        if not are_equal(wanted, given):
            return f"field {name!r} of row {row} is {shown(given)} where {shown(wanted)} is expected"
    return ""


def are_equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal, NaN being equal to NaN."""
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return False
    if object in (one.dtype, other.dtype):
        return all(_are_equal_objects(*pair) for pair in zip(one.flat, other.flat, strict=True))
    return one.tobytes() == other.tobytes() or bool(np.all((one == other) | ((one != one) & (other != other))))  # noqa: PLR0124 - NaN


def _are_equal_objects(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return are_equal(one, other)
    return bool(one == other)
