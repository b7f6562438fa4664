"""Promises about reading: the spec of one record is true of all, and a batch is its records in any order and number."""

from typing import Any, Final

import jax
import numpy as np

from datarax_core.errors import SpecError
from datarax_core.records.elements import batch_of
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec, check_batch, describe, named_fields
from datarax_core.registry.decoders import Decoder
from datarax_core.testing.checks import are_equal, attempt, broken, not_claimed, require
from datarax_core.testing.exact import exact_difference, shown_array, taken

from .subject import DecoderSubject, spec_of_records

_MOST: Final = 40
"""Records that are decoded one by one."""

_ADDED: Final = "no_such_field"


class BuildPromises:
    """The config under test, the decoder that it describes, and its records."""

    def test_it_is_built_from_its_config(self, subject: DecoderSubject) -> None:
        """The config is valid, and the decoder decodes the records, of which it knows the element spec."""
        for step, make in (
            ("validating its config", lambda: subject.decoder),
            ("writing the batch" if not subject.author.records else "taking the records", lambda: subject.records),
            ("element_spec() or spec_from()", lambda: subject.decoder.spec_from(subject.records[0])),
            ("decode()", lambda: subject.kept),
        ):
            try:
                made = make()
            except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
                broken(
                    f"the decoder under test promises to decode its records, but {step} fails: {type(cause).__name__}: "
                    f"{cause}. Correct the config, the records, or the method"
                )
            if step == "validating its config":
                require(
                    isinstance(made, Decoder),
                    f"make_decoder() promises a config with a type, or a Decoder, but returned {type(made).__name__}",
                )
        spec = subject.decoder.spec_from(subject.records[0])
        leaves = jax.tree.leaves(spec)
        require(
            leaves and all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves),
            f"{subject.title} promises a jax.ShapeDtypeStruct for each field, but its element spec is {spec!r}",
        )


class SpecPromises:
    """The element spec, and memory of batches."""

    def test_the_spec_of_one_record_is_true_of_all(self, subject: DecoderSubject) -> None:
        """The element spec never changes, and that of any record, with None for axes that vary, describes all records."""
        declared = subject.decoder.element_spec()
        places = range(min(len(subject.records), _MOST))
        for first in places:
            one = subject.decoder.spec_from(subject.records[first])
            require(
                declared is None or describe(one) == describe(declared),
                f"{subject.title} promises one element spec, but spec_from() of record {first} is {describe(one)} where "
                f"element_spec() is {describe(declared) if declared is not None else None}; return that of element_spec()",
            )
            if declared is None:
                _require_fits(
                    subject, [subject.records[first]], one, f"spec_from() of record {first}, decoded by itself"
                )
        for first in {0, places[-1]}:
            spec = spec_of_records(subject.decoder, subject.records, first)
            _require_fits(subject, subject.records, spec, f"the spec of record {first}, with covering() of the others")
            for place in places:
                text = subject.decoder.difference(subject.records[place], spec)
                require(
                    not text,
                    f"{subject.title} promises that difference() is '' for records that the spec describes, but for record "
                    f"{place} it is {text!r}; compare with the spec that is passed, where None takes any length",
                )

    def test_a_batch_that_was_given_away_is_left_alone(self, subject: DecoderSubject) -> None:
        """Later calls do not write to the memory of a batch that was returned, and writing to it changes no other."""
        first = subject.decoder.decode(subject.records, subject.spec)
        copy = _copied(first)
        again = subject.decoder.decode(subject.records, subject.spec)
        subject.decoder.decode(subject.records[::-1], subject.spec)
        text = exact_difference(copy, first)
        require(
            not text,
            f"{subject.title} promises memory of its own for each batch, but decoding other records changed a batch that was "
            f"returned before: {text}. Allocate the columns in each call",
        )
        for column in jax.tree.leaves(first):
            if isinstance(column, np.ndarray) and column.flags.writeable:
                column[...] = None if column.dtype == object else np.zeros((), column.dtype)
        for found in (again, subject.decoder.decode(subject.records, subject.spec)):
            text = exact_difference(copy, found)
            require(
                not text,
                f"{subject.title} promises memory of its own for each batch, but writing to one batch changed another: {text}. "
                "Return copies of what is kept, or set its flags.writeable to False",
            )


class ReadPromises:
    """Records by themselves and in batches of any size and order, and their bytes."""

    def test_records_are_the_expected_ones(self, subject: DecoderSubject) -> None:
        """The records have the values that ``expected_records`` declares, all or some of the fields."""
        if not subject.author.expected_records:
            not_claimed("no expected_records are declared")
        for place, values in subject.author.expected_records.items():
            require(
                place in range(len(subject.records)),
                f"expected_records names record {place}, and there are {len(subject.records)}; correct the place",
            )
            text = _deviation(values, taken(subject.decoded, [place]))
            require(
                not text,
                f"{subject.title} promises the records of the expected_records, but in record {place} {text}. Correct the "
                "values, or decode()",
            )

    def test_a_batch_is_its_records_in_any_order(self, subject: DecoderSubject) -> None:
        """``decode`` of many records is that of each, in batches of any size and order, also if a record comes twice."""
        count = len(subject.records)
        rows = [*range(count)]
        for chosen in (rows[:1], rows[-1:], rows[::-1], [*rows[1:], 0, 0], rows[: max(2, count // 2)], rows * 2):
            found = subject.decoder.decode([subject.records[row] for row in chosen], subject.spec)
            text = exact_difference(taken(subject.decoded, chosen), found)
            require(
                not text,
                f"{subject.title} promises a row for each record, in their order, but decode() of the records "
                f"{_listed(chosen)} differs from those rows of all {count}: {text}. Decode each record by its bytes alone",
            )

    def test_a_record_by_itself_is_its_row(self, subject: DecoderSubject) -> None:
        """``decode_record`` has the values of the row that ``decode`` makes of the record."""
        for place in range(min(len(subject.records), _MOST)):
            try:
                value = subject.decoder.decode_record(subject.records[place])
            except NotImplementedError:
                not_claimed(f"{subject.title} decodes batches only: it defines no decode_record()")
            try:
                found = batch_of([value], subject.spec, lambda _: "the record")
            except SpecError as refused:
                broken(
                    f"{subject.title} promises that decode_record() and decode() agree, but what decode_record() returns for "
                    f"record {place} is not what the element spec says: {refused}"
                )
            text = exact_difference(taken(subject.decoded, [place]), found)
            require(
                not text,
                f"{subject.title} promises that decode_record() and decode() agree, but for record {place} {text}; let "
                "one call the other",
            )

    def test_the_bytes_are_not_kept(self, subject: DecoderSubject) -> None:
        """When a batch is dropped, nothing holds the bytes of its records."""
        kept = subject.kept
        require(
            not kept,
            f"{subject.title} promises to keep nothing of the records, but holds the bytes of record {next(iter(kept), 0)} "
            "after its batch was dropped; do not cache by record, and keep no state",
        )

    def test_a_record_that_differs_is_named(self, subject: DecoderSubject) -> None:
        """A record without a field of the element spec, or with another shape, is an error that names the field."""
        if subject.decoder.element_spec() is not None:
            not_claimed(f"{subject.title} declares its element spec; damaged records are tried below")
        if not isinstance(subject.spec, dict):
            not_claimed(f"records of {subject.title} have no named fields")
        name, leaf = next(iter(named_fields(subject.spec).items()))
        others = {
            _ADDED: {**subject.spec, _ADDED: jax.ShapeDtypeStruct((), np.dtype(np.int32))},
        }
        if name in subject.spec:
            shape = (*(3 if size is None else size for size in leaf.shape), 3)
            others[name] = {**subject.spec, name: jax.ShapeDtypeStruct(shape, leaf.dtype)}
        for field, spec in others.items():
            said = subject.decoder.difference(subject.records[0], spec)
            made, error = attempt(lambda: subject.decoder.decode(subject.records[:1], spec))  # noqa: B023
            text = said or str(error or "")
            require(
                error is not None or said,
                f"{subject.title} promises to refuse a record that is not what the element spec says, but decode() of record 0 "
                f"with a spec whose field {field!r} it does not have returned {_described(made)}; compare the fields with the "
                "spec, as stack_values() does",
            )
            require(
                error is None or isinstance(error, ValueError),
                f"{subject.title} promises a ValueError for a record that is not what the element spec says, but raised "
                f"{type(error).__name__}: {error}",
            )
            require(
                field in text,
                f"{subject.title} promises errors that name the field, what is expected and what was found, but for a record "
                f"without the field {field!r} of the spec it said: {text!r}",
            )


def _require_fits(subject: DecoderSubject, records: list[bytes], spec: ElementSpec, of: str) -> None:
    try:
        batch = subject.decoder.decode(records, spec)
        check_batch(batch, spec, len(records), origin="decode()")
    except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
        broken(
            f"{subject.title} promises that the spec of one record is true of all, but with {of}, {describe(spec)}, "
            f"{type(cause).__name__}: {cause}. Let element_spec() or spec_from() say what decode() returns, with None for axes "
            "that vary"
        )


def _described(batch: Any) -> Any:
    made, error = attempt(
        lambda: describe(jax.tree.map(lambda column: jax.ShapeDtypeStruct(column.shape[1:], column.dtype), batch))
    )
    return made if error is None else type(batch).__name__


def _deviation(values: Any, found: Batch) -> str:
    """Return how a batch of one record differs from expected values, which may be some of its fields; "" if it does not."""
    wanted = named_fields(jax.tree.map(np.asarray, values, is_leaf=lambda value: isinstance(value, list)))
    given = named_fields(found)
    for name, value in wanted.items():
        if name not in given:
            return f"there is no field {name!r}; its fields are {', '.join(sorted(given))}"
        row = np.asarray(given[name][0])
        fitted = value.astype(row.dtype) if value.dtype.kind in "biufc" and row.dtype.kind not in "OSU" else value
        if not are_equal(fitted, row):
            return f"field {name!r} is {shown_array(row)} where {shown_array(value)} is expected"
    return ""


def _copied(batch: Batch) -> Batch:
    return jax.tree.map(lambda column: column.copy() if isinstance(column, np.ndarray | Ragged) else column, batch)


def _listed(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:8]))
    return f"[{shown}{', ...' if len(rows) > 8 else ''}]"
