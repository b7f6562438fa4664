"""Records to write, of a source, a dict of arrays or an iterable of batches, in blocks of some megabytes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from datarax_core.errors import SpecError
from datarax_core.records import Batch, ElementSpec, Ragged, differences, has_shape, named_fields, nbytes_of, spec_of
from datarax_core.sources import BlockSize, DataSourceModule, columns_of, record_blocks


class Blocks(NamedTuple):
    """All records to write, in their order, in blocks of some megabytes."""

    batches: Iterator[Batch]
    """Blocks of at least one record each, all with one element spec; read one by one as they are iterated."""

    length: int | None
    """Number of records; None if it is unknown before the end."""

    title: str
    """Name of the records in error messages."""


def blocks_of(data: Any) -> Blocks:
    """Return the records of a source, of a dict of arrays (nested dicts allowed), or of an iterable of batches.

    Raises:
        TypeError: ``data`` is none of these, or a field is no array.
        ValueError: Columns differ in length.

    Of an iterable, both are raised when its batches are read.
    """
    if isinstance(data, DataSourceModule):
        length = data.epoch_length if data.access == "stream" else len(data)  # type: ignore[arg-type]  # a source that is no stream has a length
        return Blocks(_of_one_spec(record_blocks(data), data.title), length, data.title)
    title = "the data to write"
    if isinstance(data, Mapping | np.ndarray | jax.Array):
        whole = _columns(data, title)
        return Blocks(_slices(whole), _num_rows(whole, title), title)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | bytearray):
        return Blocks(_of_one_spec(_of_iterable(data, title), title), None, title)
    raise TypeError(
        f"{title} is a source, a dict of arrays, or an iterable of batches, each a dict of arrays, not {data!r:.80}"
    )


def _of_iterable(batches: Iterable[Any], title: str) -> Iterator[Batch]:
    for number, batch in enumerate(batches):
        name = f"batch {number} of {title}"
        if isinstance(batch, str | bytes | bytearray):
            raise TypeError(f"{name} is {batch!r:.80}; a batch is a dict of arrays with a row for each record")
        columns = _columns(batch, name)
        if _num_rows(columns, name):
            yield from _slices(jax.tree.map(_text_as_objects, columns))


def _columns(batch: Any, title: str, at: str = "") -> Batch:
    """Return the batch with each field as a NumPy array, or as a ragged column."""
    if isinstance(batch, Mapping):
        return {name: _columns(value, title, f"{at}.{name}" if at else str(name)) for name, value in batch.items()}
    if isinstance(batch, tuple):
        parts = [_columns(value, title, f"{at}.{place}" if at else str(place)) for place, value in enumerate(batch)]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    if isinstance(batch, Ragged):
        return batch
    name = at or "record"
    column = columns_of({name: batch}, title).columns[name]
    return column if isinstance(column, Ragged) else np.asarray(column)


def _num_rows(columns: Batch, title: str) -> int:
    lengths = {name: len(column) for name, column in named_fields(columns).items()}
    if not lengths:
        raise ValueError(f"{title} has no fields; a batch is a dict of arrays with a row for each record")
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise ValueError(f"the fields of {title} differ in length: {listed}; each record needs a value in every field")
    return next(iter(lengths.values()))


def _slices(columns: Batch) -> Iterator[Batch]:
    """Yield views of consecutive rows of a batch, some megabytes each."""
    size, start, length = BlockSize(), 0, len(jax.tree.leaves(columns)[0])
    while start < length:
        rows = slice(start, start + size.records)
        block = jax.tree.map(lambda column: column[rows], columns)  # noqa: B023 - called at once
        yield block
        start += size.records
        size.note(len(jax.tree.leaves(block)[0]), nbytes_of(block))


def _text_as_objects(column: Any) -> Any:
    """Return a column of text as objects: the width of a text dtype would differ from batch to batch."""
    return column.astype(object) if column.dtype.kind == "U" else column


def _of_one_spec(blocks: Iterator[Batch], title: str) -> Iterator[Batch]:
    """Yield the blocks; raise SpecError at one whose element spec differs from the first.

    Records that all have one length in a block, and several in the first block, make a ragged column too.
    """
    expected: ElementSpec = None
    done = 0
    for given in blocks:
        block, found = given, spec_of(given)
        expected = found if expected is None else expected
        if found != expected and jax.tree.structure(found) == jax.tree.structure(expected):  # type: ignore[operator]  # jaxlib's stubs leave it out
            block = jax.tree.map(_as_ragged, given, expected)
            found = spec_of(block)
        if wrong := differences(expected, found):
            varies = any(None in struct.shape for struct in jax.tree.leaves(found))
            remedy = ": give columns that vary in length as Ragged.from_list(records) in each batch" if varies else ""
            raise SpecError(
                f"the records of {title} from number {done} on are not like the first ones: {'; '.join(wrong)}; records of one "
                f"data set have one element spec{remedy}"
            )
        yield block
        done += len(jax.tree.leaves(block)[0])


def _as_ragged(column: Any, struct: jax.ShapeDtypeStruct) -> Any:
    """Return an array of records as a ragged column where the spec says so and has no other axes."""
    if isinstance(column, Ragged) or None not in struct.shape or not has_shape(column.shape[1:], struct.shape):
        return column
    return Ragged.from_list(list(column), column.dtype, struct.shape)
