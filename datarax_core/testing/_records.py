"""Promises about the records: how many, what they are, and how they are asked for by their index."""

from itertools import islice
from typing import Any, Final

import jax
import numpy as np

from datarax_core.records.dtypes import fits_device
from datarax_core.records.spec import Batch, ElementSpec, device_spec, named_fields

from ._compare import difference, part, stacked
from ._subject import BATCH, Subject, batches
from ._verdict import not_claimed, require

_LOOKED_AT: Final = 256


class RecordPromises:
    """Length, element spec, and the records themselves."""

    def test_length_is_the_expected_one(self, subject: Subject) -> None:
        """``len(source)`` is a whole number, and what its author expects."""
        if not subject.source.capabilities.sized:
            not_claimed(f"{subject.title} claims no length")
        length, expected = len(subject.source), subject.author.expected_length  # type: ignore[arg-type]  # it says so
        require(
            expected is None or length == expected,
            f"{subject.title} has {length} records by len(), where expected_length is {expected}; mend __len__, or what you "
            "expect",
        )

    def test_records_are_the_expected_ones(self, subject: Subject) -> None:
        """``source[i]`` is what its author expects; of a stream, its i-th record is."""
        if not subject.author.expected_records:
            not_claimed("expected_records names no record")
        form: Any = jax.tree.structure(subject.source.element_spec())
        for index, expected in subject.author.expected_records.items():
            values = form.unflatten(map(np.asarray, form.flatten_up_to(expected)))  # a list may be a value
            found = part(subject.served, index) if subject.is_stream else subject.source[index]
            text = difference(stacked([values]), stacked([found]))
            require(not text, f"record {index} of {subject.title} is not the expected one: {text}")

    def test_the_element_spec_is_true(self, subject: Subject) -> None:
        """Batches, and records by themselves, are of its fields, shapes and dtypes; and it says the same each time."""
        source, spec = subject.build(), subject.source.element_spec()
        if subject.is_stream:
            batch, records = next(batches(source, BATCH)), list(islice(subject.build(), BATCH))
        else:
            indices = _spread(subject)
            batch, records = source.get_records(indices), source.get_elements(indices[:BATCH])
        by_itself = jax.tree.map(lambda value: np.asarray(value)[None], records)
        wrong = _untrue(spec, batch, "in a batch") or next(
            (text for record in by_itself if (text := _untrue(spec, record, "by itself"))), ""
        )
        require(
            not wrong,
            f"{subject.title} promises by element_spec() what its records are, but {wrong}. Make the spec say what they "
            "are, or convert them to it",
        )
        require(
            source.element_spec() == spec, f"{subject.title} gives another element_spec() after reading; give the same"
        )

    def test_a_batch_is_its_records_in_the_order_asked_for(self, subject: Subject) -> None:
        """``get_records(indices)`` has a row for each index, in that order, whatever the order, and some of them twice."""
        subject.require_indexed()
        indices = _spread(subject)
        whole = subject.source.get_records(indices)
        backwards = np.arange(len(indices))[::-1]
        twice = np.repeat(np.arange(min(3, len(indices))), 3)
        for rows in (backwards, twice, backwards[:1]):
            text = difference(part(whole, rows), subject.source.get_records(indices[rows]))
            require(
                not text,
                f"{subject.title} promises a row for each index, in their order, but asked for records "
                f"{indices[rows].tolist()!r:.80} its get_records() gave others than when asked for them in sequence: {text}",
            )

    def test_a_record_by_itself_is_its_row_of_a_batch(self, subject: Subject) -> None:
        """``source[i]``, ``source[-i]``, and many of them by ``__getitems__``, are the rows of ``get_records``."""
        subject.require_indexed()
        indices = _spread(subject)[:BATCH]
        batch, source = subject.source.get_records(indices), subject.source
        ways: dict[str, list[Any]] = {
            "source[i]": [source[int(index)] for index in indices],
            "source[i - len(source)]": [source[int(index) - source.num_records] for index in indices],
            "source.__getitems__": source.__getitems__(indices.tolist()),
        }
        for way, records in ways.items():
            text = difference(batch, stacked(records))
            require(
                not text,
                f"{subject.title} promises the same record by itself and in a batch, but by {way} it is another: {text}; "
                "let get_elements() return what get_records() does, row by row",
            )

    def test_a_batch_that_was_given_away_is_left_alone(self, subject: Subject) -> None:
        """Later reads do not write into it: its memory may be that of the batch on the device."""
        source = subject.build()
        if subject.is_stream:
            reads = batches(source, 4 * BATCH)
        else:
            spans = [(at, at + size) for at, size in enumerate((64, BATCH, 64, BATCH))]
            reads = (source.get_records(np.arange(*span) % subject.records) for span in spans)
        given = [(batch, jax.tree.map(np.array, batch)) for batch in reads]
        for number, (batch, copy) in enumerate(given):
            text = difference(copy, batch)
            require(
                not text,
                f"{subject.title} promises to leave a batch alone that it gave away, but batch {number} of {len(given)} "
                f"changed as others were read: {text}. Allocate each batch anew, for example with aligned_empty()",
            )


def _spread(subject: Subject) -> np.ndarray:
    """Record indices over the whole of a source, the first and the last among them."""
    count = min(subject.records, _LOOKED_AT)
    return np.unique(np.linspace(0, subject.records - 1, count).astype(np.int64))


def _untrue(spec: ElementSpec, batch: Batch, where: str) -> str:
    """What a spec says wrongly of a batch; dtypes may be those that a device keeps, and text as long as it is."""
    wanted, found = named_fields(spec), named_fields(batch)
    if wanted.keys() != found.keys():
        return f"the fields {where} are {', '.join(sorted(found))}, where it says {', '.join(sorted(wanted))}"
    for name, leaf in wanted.items():
        column = np.asarray(found[name])
        dtypes = {leaf.dtype, device_spec(leaf).dtype}
        is_dtype = (
            column.dtype in dtypes if fits_device(leaf.dtype) else column.dtype.kind in (leaf.dtype.kind, "O", "U", "S")
        )
        if column.shape[1:] != leaf.shape or not is_dtype:
            is_ = f"{column.dtype}{list(column.shape[1:])}"
            return f"field {name!r} is {is_} {where}, where it says {leaf.dtype}{list(leaf.shape)}"
    return ""
