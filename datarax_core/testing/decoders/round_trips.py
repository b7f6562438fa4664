"""Promises about writing: what a decoder writes it reads, with every value and every dtype that it claims, or it refuses it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import jax
import numpy as np

from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, describe, named_fields, spec_of
from datarax_core.registry.decoders import Decoder
from datarax_core.testing.checks import attempt, broken, not_claimed, require, shown
from datarax_core.testing.exact import exact_difference, taken

from .subject import DecoderSubject, spec_of_records
from .values import candidates, column_of, dtype_named, edges_of, title_of

_ROWS: Final = 4
"""Rows of the batches that are written; of dtypes and shapes there are many."""

_ADDED: Final = "no_such_field"


class RoundTripPromises:
    """The batch under test, written and read."""

    def test_what_it_writes_it_reads(self, subject: DecoderSubject) -> None:
        """``decode`` returns the batch that ``encode`` was given, to the bit, and ``encode`` leaves the batch alone."""
        subject.require_writes()
        batch = _read_only(subject.batch)
        records, error = attempt(lambda: subject.decoder.encode(batch))
        if error is not None:
            broken(
                f"{subject.title} promises to write the batch, but encode() raises {type(error).__name__}: {error}. Write to "
                "no column of the batch: columns are read-only"
            )
        count = len(named_fields(batch).popitem()[1])
        require(
            isinstance(records, list) and len(records) == count and all(type(record) is bytes for record in records),
            f"{subject.title} promises a list of bytes, one for each of {count} rows, but encode() returned "
            f"{shown(records)}",
        )
        text = _difference_of(subject.decoder, batch, records)
        require(
            not text,
            f"{subject.title} promises to read what it writes, but {text}. Write all of a value, or refuse it with a "
            "ValueError that names the field",
        )


class WritePromises:
    """Values at the edges of dtypes, columns of any layout, and every dtype and shape."""

    def test_every_value_is_kept(self, subject: DecoderSubject) -> None:
        """Extreme numbers, NaN, -0.0, any text, and rows without items are kept, or refused by name of field."""
        subject.require_writes()
        for name, batch, value in _edge_batches(taken(subject.batch, range(min(_ROWS, _rows(subject.batch))))):
            _require_kept_or_refused(
                subject, subject.decoder, batch, [name], f"a value {shown(value)} in field {name!r}"
            )

    def test_columns_of_any_layout_are_written_alike(self, subject: DecoderSubject) -> None:
        """Columns in another memory layout, in another order of bytes or on a device give the same bytes."""
        subject.require_writes()
        wanted = subject.decoder.encode(subject.batch)
        for layout, change in (
            ("that are every other row of an array", lambda column: np.repeat(column, 2, axis=0)[::2]),
            ("in Fortran's order", np.asfortranarray),
            ("in the other order of bytes", lambda column: column.astype(column.dtype.newbyteorder("S"))),
        ):
            batch = jax.tree.map(
                lambda column: change(column) if isinstance(column, np.ndarray) else column,  # noqa: B023
                subject.batch,
            )
            found, error = attempt(lambda: subject.decoder.encode(batch))  # noqa: B023
            if error is not None:
                broken(f"{subject.title} promises to write any column, but of columns {layout} raises {error!r}")
            text = "" if found == wanted else _difference_of(subject.decoder, subject.batch, found)
            require(
                not text,
                f"{subject.title} promises to write values, whatever their memory looks like, but wrote columns {layout} "
                f"differently: {text}. Convert columns first: np.ascontiguousarray(column, column.dtype.newbyteorder('<'))",
            )

    def test_for_spec_makes_one_that_fits(self, subject: DecoderSubject) -> None:
        """``for_spec`` returns a decoder of the spec of a batch, which writes and reads the batch."""
        subject.require_writes()
        decoder, error = attempt(lambda: type(subject.decoder).for_spec(spec_of(subject.batch)))
        if _is_refusal(error, named_fields(subject.batch)):
            not_claimed(f"for_spec() of {subject.title} refuses the spec of the batch: {error}")
        if error is not None:
            broken(
                f"{subject.title} promises a decoder for the spec of the batch that it writes, "
                f"{describe(spec_of(subject.batch))}, but for_spec() raises {type(error).__name__}: {error}. Define "
                "for_spec(cls, spec), which returns cls(...) with the options that such records need"
            )
        if type(subject.decoder).for_spec.__func__ is Decoder.for_spec.__func__ and decoder != subject.decoder:  # type: ignore[attr-defined]
            not_claimed(f"{subject.title} leaves for_spec() as it is, which returns it without options")
        records, error = attempt(lambda: decoder.encode(subject.batch))
        text = repr(error) if error is not None else _difference_of(decoder, subject.batch, records)
        require(
            not text,
            f"{subject.title} promises that the decoder of for_spec() writes and reads such batches, but with {decoder!r:.200} "
            f"{text}",
        )

    def test_every_dtype_it_claims(self, subject: DecoderSubject) -> None:
        """A field of each dtype and shape that ``for_spec`` and ``encode`` take is read back; others are refused by name."""
        subject.require_writes()
        declared = [dtype_named(name) for name in subject.author.dtypes]
        batch = taken(subject.batch, [row % _rows(subject.batch) for row in range(_ROWS)])
        fields = named_fields(batch)
        replaced = next(iter(fields))
        for dtype, shape, column in candidates(_ROWS, declared):
            changed = _replaced(batch, replaced, column)
            title = f"field {replaced!r} as {title_of(dtype, shape)}"
            decoder, refused = attempt(lambda: _decoder_for(subject, changed))  # noqa: B023
            if refused is None:
                refused = _require_kept_or_refused(subject, decoder, changed, list(fields), title)
            else:
                _require_named(subject, refused, list(fields), title, "for_spec()")
            require(
                refused is None or dtype not in declared or shape != (),
                f"{subject.title} claims {title_of(dtype, ())} by dtypes, but refuses {title}: {refused}. Write such columns, "
                "or take the dtype out of dtypes",
            )

    def test_a_batch_of_other_fields_is_refused(self, subject: DecoderSubject) -> None:
        """A batch without a declared field, or with one more, is not written; the error names the field."""
        subject.require_writes()
        if subject.decoder.element_spec() is None:
            not_claimed(f"{subject.title} declares no fields: it writes those of each batch")
        fields = subject.batch
        if not isinstance(fields, Mapping):
            not_claimed(f"records of {subject.title} have no named fields")
        first = next(iter(fields))
        others = [
            (
                _ADDED,
                {**fields, _ADDED: column_of(np.dtype(np.int32), (), _rows(subject.batch))},
                "with a further field",
            )
        ]
        if len(fields) > 1:
            others.append(
                (first, {name: column for name, column in fields.items() if name != first}, "without the field")
            )
        for name, columns, how in others:
            records, error = attempt(lambda: subject.decoder.encode(columns))  # noqa: B023
            if error is None:
                broken(
                    f"{subject.title} promises to write all of a batch, but wrote one {how} {name!r} as {shown(records)}; "
                    "compare the fields of the batch with the declared ones, and raise a ValueError that names what differs"
                )
            _require_named(subject, error, [name], f"a batch {how} {name!r}", "encode()")


# -- batches to write ---------------------------------------------------------------------------------------------------------


def _edge_batches(batch: Batch) -> Iterator[tuple[str, Batch, Any]]:
    """Yield (field, batch, value): the batch with a value at the edge of its dtype in the first row of a field."""
    fields = named_fields(batch)
    for name, column in fields.items():
        for value in edges_of(column):
            changed = _with_first(column, value)
            if changed is not None:
                yield name, _replaced(batch, name, changed), value
        if isinstance(column, Ragged):
            yield name, _replaced(batch, name, _with_empty_first(column)), "without items"


def _with_first(column: Any, value: Any) -> Any:
    """Return a column whose first item is ``value``; None if it has no items."""
    if isinstance(column, Ragged):
        own = column.compact()
        return None if not own.values.size else own.with_values(_with_first(own.values, value))
    if not column.size:
        return None
    changed = column.copy()
    changed[np.unravel_index(0, column.shape)] = value
    return changed


def _with_empty_first(column: Ragged) -> Ragged:
    """Return a ragged column whose first record has no items."""
    shape = [0 if size is None else size for size in column.record_shape]
    return Ragged.from_list([np.empty(shape, column.dtype), *list(column)[1:]], column.dtype, column.record_shape)


def _replaced(batch: Batch, name: str, column: Any) -> Batch:
    """Return a batch with another column as one of its fields, named as `named_fields` does."""
    fields = {**named_fields(batch), name: column}
    return jax.tree.unflatten(jax.tree.structure(batch), list(fields.values()))


def _read_only(batch: Batch) -> Batch:
    def protected(column: Any) -> Any:
        if isinstance(column, np.ndarray):
            column = column.copy()
            column.flags.writeable = False
        return column

    return jax.tree.map(protected, batch)


def _rows(batch: Batch) -> int:
    return len(next(iter(named_fields(batch).values())))


# -- verdicts -----------------------------------------------------------------------------------------------------------------


def _decoder_for(subject: DecoderSubject, batch: Batch) -> Decoder:
    """Return the decoder that is made for a batch: that of `for_spec`, or if the class defines none, the one under test."""
    if type(subject.decoder).for_spec.__func__ is Decoder.for_spec.__func__:  # type: ignore[attr-defined]
        return subject.decoder
    return type(subject.decoder).for_spec(spec_of(batch))


def _require_kept_or_refused(
    subject: DecoderSubject, decoder: Decoder, batch: Batch, names: Sequence[str], title: str
) -> BaseException | None:
    """Fail the test unless a batch is read back as it was written, or is not written, by an error that names a field.

    Returns:
        The error by which it was refused; None if it was read back.
    """
    records, refused = attempt(lambda: decoder.encode(batch))
    if refused is not None:
        _require_named(subject, refused, names, title, "encode()")
        return refused
    text = _difference_of(decoder, batch, records)
    require(
        not text,
        f"{subject.title} promises to read what it writes, or to refuse it, but of {title} {text}. Write all of a value, or "
        "raise a ValueError that names the field",
    )
    return None


def _require_named(
    subject: DecoderSubject, error: BaseException, names: Sequence[str], title: str, method: str
) -> None:
    require(
        _is_refusal(error, names),
        f"{subject.title} promises to refuse what it cannot hold with a ValueError that names the field, but for {title} "
        f"{method} raises {type(error).__name__}: {error}. Name the field, what is expected and what was found",
    )


def _is_refusal(error: BaseException | None, names: Iterable[str]) -> bool:
    """Return whether an error is a ValueError that names one of the fields."""
    named = (re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(error)) for name in names)
    return isinstance(error, ValueError) and any(named)


def _difference_of(decoder: Decoder, batch: Batch, records: Any) -> str:
    """Return how what is read of records differs from the batch that was written; "" if it does not."""
    spec, error = attempt(lambda: spec_of_records(decoder, records))
    if error is not None:
        return f"the spec of what it wrote cannot be told: {type(error).__name__}: {error}"
    found, error = attempt(lambda: decoder.decode(records, spec))
    if error is not None:
        return f"what it wrote is not decoded: {type(error).__name__}: {error}"
    text = exact_difference(batch, found)
    return text and f"reading what it wrote, {text}"
