"""Lengths of the records of a source: from what it knows, from a field of its records, or from one pass over them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from datarax_core.errors import SpecError
from datarax_core.records import Ragged, is_text
from datarax_core.sources import DataSourceModule, field_struct, kept_table, lengths_of_column


def lengths_of(source: DataSourceModule, field: str, *, length_field: str | None = None) -> np.ndarray:
    """Return int64 (num_records,), read-only: the length of a field in each record of a source.

    The length is the size of the first axis; of text the number of characters, of bytes the number of bytes. It is taken from

    1. the column ``length_field``, if it is given;
    2. what the source knows without reading: the offsets of a ragged column, the note that `write` leaves beside files;
    3. one pass over all records, whose result is kept in the cache folder.

    Cost: nothing to speak of in the second case, the reading of a column or of all records once in the others.

    Args:
        source: Has random access.
        field: Dotted name of the field whose lengths are meant.
        length_field: Dotted name of a field that holds the lengths: one whole number a record.

    Raises:
        SpecError: There is no such field; it has no length; or ``length_field`` holds no lengths. Names the record.
        NotImplementedError: The source is a stream.
        ValueError: The records differ from epoch to epoch, and so may their lengths.
    """
    source.require_record_indices()
    struct = field_struct(source, field)
    if length_field is not None:
        return _given(source, length_field)
    known = source.record_lengths(field)
    if known is not None:
        return known
    if not struct.shape and not (is_text(struct.dtype) or struct.dtype.hasobject):
        raise SpecError(
            f"field {field!r} of {source.title} is one value a record, which has no length; name a field of varying length, "
            "or the field that holds the lengths, length_field"
        )
    return _unchanging(_table(source, field, lengths_in))


def lengths_in(column: Any) -> np.ndarray:
    """Return int64 (k,): the lengths of the records of a column that was read."""
    if isinstance(column, Ragged):
        return lengths_of_column(column)
    column = np.asarray(column)
    if column.ndim > 1:
        return np.full(len(column), column.shape[1], np.int64)
    return np.fromiter(map(len, column.tolist()), np.int64, len(column))  # of text, which may be an array of objects


def given_lengths(column: Any) -> np.ndarray:
    """Return int64 (k,): a column that holds lengths."""
    return np.asarray(column).astype(np.int64, copy=False)


def _given(source: DataSourceModule, field: str) -> np.ndarray:
    """Return the column of a field that holds lengths, checked."""
    struct = field_struct(source, field)
    if struct.shape or struct.dtype.kind not in "iu":
        raise SpecError(
            f"length_field={field!r} of {source.title} is {struct.dtype}{list(struct.shape)}; lengths are one whole number a "
            "record"
        )
    column = source.whole_column(field)
    lengths = _table(source, field, given_lengths) if column is None else np.asarray(column)
    if len(lengths) and int(lengths.min()) < 0:
        record = int(np.argmax(lengths < 0))
        raise SpecError(
            f"length_field={field!r} of record {record} of {source.title} is {lengths[record]}; a length is 0 or more"
        )
    return _unchanging(lengths.astype(np.int64, copy=False))


def _table(source: DataSourceModule, field: str, of_column: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Return int64 (num_records,): what a function makes of the column of a field, in one pass that is kept."""
    key = ["lengths of records", field, of_column.__name__]
    return kept_table(
        source, lambda batch, _: of_column(batch[field]), key=key, dtype=np.int64, fields=[field], what="lengths"
    )


def others_too_long(lengths: np.ndarray, limit: int) -> str:
    """Return the part of an error about a record that is too long which counts the others: empty if there are none."""
    others = int(np.count_nonzero(lengths > limit)) - 1
    if not others:
        return ""
    are = "is 1 other" if others == 1 else f"are {others:,} others"
    return f", and so {are} of {len(lengths):,}; the longest has {int(lengths.max()):,}"


def _unchanging(lengths: np.ndarray) -> np.ndarray:
    view = lengths.view()
    view.flags.writeable = False
    return view
