"""Promises about records: their number, their values, access by index, and errors for those that cannot be read."""

import operator
import re
from collections.abc import Callable, Mapping
from itertools import islice, product
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np

from datarax_core.errors import SpecError
from datarax_core.pipeline.pipeline import Pipeline
from datarax_core.records.dtypes import fits_device
from datarax_core.records.joining import host_column
from datarax_core.records.spec import Batch, ElementSpec, device_spec, has_shape, named_fields
from datarax_core.sources.source import DataSourceModule
from datarax_core.testing.checks import (
    BATCH,
    batch_of_records,
    batches,
    broken,
    difference,
    not_claimed,
    part,
    require,
    rows_of,
    shown,
)
from datarax_core.testing.options import missing_paths

from .declarations import Damaged
from .subject import Subject

_MOST_READ: Final = 256

_FOREIGN: Final = (b"", b"no,data\n1,2\n" * 20, bytes(range(256)) * 8)
"""Contents of files that are of no format: nothing, text, and bytes."""


class RecordPromises:
    """Length, element spec, and the records themselves."""

    def test_length_is_the_expected_one(self, subject: Subject) -> None:
        """``len(source)`` is the ``expected_length``, if one is declared."""
        if not subject.source.capabilities.sized:
            not_claimed(f"{subject.title} does not claim a length")
        length, expected = len(subject.source), subject.author.expected_length  # type: ignore[arg-type]  # it claims a length
        require(
            expected is None or length == expected,
            f"{subject.title} has {length} records by len(), where expected_length is {expected}; correct __len__ or "
            "expected_length",
        )

    def test_an_epoch_is_as_long_as_its_length_says(self, subject: Subject) -> None:
        """A stream with a length yields as many records an epoch as ``len()`` says, by a loop and by a pipeline."""
        subject.require_stream()
        if subject.length is None:
            not_claimed(f"{subject.title} claims no length")
        remedy = "yield as many records an epoch as __len__ says, or define no __len__"
        ways: dict[str, Callable[[], int]] = {
            "a loop": lambda: len(list(iter(subject.build()))),
            "a pipeline": lambda: sum(rows_of(batch) for batch in Pipeline(source=subject.build(), batch_size=BATCH)),
        }
        if subject.length <= _MOST_READ:
            source = subject.build()
            ways |= {f"a loop over epoch {epoch}": lambda: len(list(iter(source))) for epoch in range(3)}
        for way, read in ways.items():
            try:
                found = read()
            except Exception as cause:  # noqa: BLE001 - the base class raises; an author's stream may raise anything
                broken(
                    f"{subject.title} promises epochs of {subject.length} records by len(), but {way} fails: "
                    f"{type(cause).__name__}: {cause}; "
                    + (
                        remedy
                        if "element_spec()" not in str(cause)
                        else "correct the spec, or convert the records to it"
                    )
                )
            require(
                found == subject.length,
                f"{subject.title} promises epochs of {subject.length} records by len(), but {way} gave {found}; {remedy}",
            )

    def test_the_element_spec_is_true(self, subject: Subject) -> None:
        """Batches and single records have the fields, shapes and dtypes of ``element_spec()``, which never changes."""
        source, spec = subject.build(), subject.source.element_spec()
        try:
            wrong = _difference_from_spec(subject, source, spec)
        except SpecError as error:  # core looks, too
            wrong = str(error)
        require(
            not wrong,
            f"{subject.title} promises records as element_spec() describes them, but {wrong}. Correct the spec, or "
            "convert the records to it",
        )
        require(
            source.element_spec() == spec,
            f"{subject.title} promises one element_spec(), but returns another after reading; return the same",
        )

    def test_a_batch_that_was_given_away_is_left_alone(self, subject: Subject) -> None:
        """Later reads do not write to the memory of a batch that was returned: the device may use that memory."""
        source = subject.build()
        if subject.is_stream:
            reads = batches(source, 4 * BATCH)
        else:
            spans = [(at, at + size) for at, size in enumerate((64, 64, BATCH, BATCH, 64))]
            reads = (source.get_records(np.arange(*span) % subject.records) for span in spans)
        given = [(batch, jax.tree.map(lambda column: host_column(column).copy(), batch)) for batch in reads]
        for number, (batch, copy) in enumerate(given):
            text = difference(copy, batch)
            require(
                not text,
                f"{subject.title} promises not to write to batches that it returned, but batch {number} of {len(given)} "
                f"changed as later batches were read: {text}. Allocate new memory for each batch, such as with aligned_empty()",
            )

    def test_records_are_the_expected_ones(self, subject: Subject) -> None:
        """``source[i]``, or the i-th record of a stream, has the values that ``expected_records`` declares, all or some."""
        if not subject.author.expected_records:
            not_claimed("expected_records declares no record")
        for index, expected in subject.author.expected_records.items():
            found = part(subject.served, index) if subject.is_stream else subject.source[index]
            wanted, given = _named_parts(expected, found, subject.source.element_spec())
            text = difference(batch_of_records([wanted]), batch_of_records([given]))
            require(
                not text,
                f"record {index} of {subject.title} is not the expected one: {text}; correct get_records() or expected_records",
            )

    def test_a_batch_is_its_records_in_the_order_asked_for(self, subject: Subject) -> None:
        """``get_records(indices)`` has a row for each index, in the order of the indices, also if an index comes twice."""
        subject.require_indexed()
        indices = _spread(subject)
        whole = subject.source.get_records(indices.copy())
        few, backwards = np.arange(min(3, len(indices))), np.arange(len(indices))[::-1]
        for rows in (few[[-1, 0, -1]], np.repeat(few, 3), backwards[:1], backwards):
            given = indices[rows]
            text = subject.difference(part(whole, rows), subject.source.get_records(given))
            require(
                (given == indices[rows]).all(),
                f"{subject.title} promises to leave the indices alone that get_records() is called with, but of "
                f"{shown(indices[rows].tolist(), 80)} it made {shown(given.tolist(), 80)}. Sort a copy of them",
            )
            require(
                not text,
                f"{subject.title} promises a row for each index, in the order of the indices, but for record indices "
                f"{shown(indices[rows].tolist(), 80)} get_records() returned other rows than for the sorted indices: {text}. "
                "Return a row for every index that is passed",
            )
        given = indices[few]
        for row in (*few, *few[::-1]):  # one array, as a caller that reuses its memory has it
            given[:] = indices[row]
            text = subject.difference(part(whole, np.repeat(row, len(few))), subject.source.get_records(given))
            require(
                not text,
                f"{subject.title} promises records that depend on the indices only, but of an array that was changed since the "
                f"call before, to {shown(given.tolist(), 80)}, get_records() returned other rows: {text}. Keep records by "
                "their index, not by the id() of an object, and keep no array that was passed",
            )

    def test_a_record_by_itself_is_its_row_of_a_batch(self, subject: Subject) -> None:
        """``source[i]``, ``source[-i]`` and ``source.__getitems__`` return the rows of ``get_records``."""
        subject.require_indexed()
        indices = _spread(subject)[:BATCH]
        batch, source = subject.source.get_records(indices), subject.source
        ways: dict[str, list[Any]] = {
            "source[i]": [source[int(index)] for index in indices],
            "source[i - len(source)]": [source[int(index) - source.num_records] for index in indices],
            "source.__getitems__": source.__getitems__(indices.tolist()),
        }
        for way, records in ways.items():
            text = subject.difference(batch, subject.batch_of(records))
            require(
                not text,
                f"{subject.title} promises the same record alone and in a batch, but by {way} it is another: {text}; let "
                "get_elements() return the rows of get_records()",
            )


class ErrorPromises:
    """Errors for record indices and paths that do not exist, and for damaged records."""

    def test_an_index_out_of_range_is_named(self, subject: Subject) -> None:
        """``source[len(source)]``, and an index out of range among others, raise an IndexError that names the index."""
        subject.require_indexed()
        source, length = subject.source, subject.records
        for index in (length, -length - 1):
            for way, read in (
                (f"source[{index}]", source.__getitem__),
                ("source.__getitems__", lambda i: source.__getitems__([0, i])),
            ):
                try:
                    read(index)
                except IndexError as error:
                    require(
                        str(index) in str(error),
                        f"the IndexError of {subject.title} for record {index} does not name the index: {error}; put it in the "
                        "message",
                    )
                else:
                    broken(
                        f"{subject.title} has {length} records, and promises an IndexError for other indices, but {way} "
                        f"returned a record for {index}; leave __getitem__ and __getitems__ to the base class, or "
                        "raise IndexError"
                    )

    def test_a_missing_path_is_named(self, subject: Subject) -> None:
        """Building a source from a path that does not exist raises an error that names the path."""
        options = {name: value for name, value in subject.fields.items() if name != "type"}  # a path may equal the type
        named = {name: paths for name, value in options.items() if (paths := missing_paths(value))}
        if not named:
            not_claimed("the config under test names no existing path")
        for field, paths in named.items():
            config = subject.validated({**subject.fields, field: paths})
            path = paths if isinstance(paths, str) else paths[0]
            try:
                subject.build(config=config)
            except Exception as error:  # noqa: BLE001 - the test looks at the error, of any class
                require(
                    path in str(error),
                    f"the error of {subject.title} for a missing {field} does not name {path!r}: {type(error).__name__}: "
                    f"{error}; look for the file first, and raise FileNotFoundError with the path",
                )
            else:
                broken(
                    f"{subject.title} promises an error that names a path that does not exist, but was built with "
                    f"{field}={path!r}; check the path when the source is built, and raise FileNotFoundError"
                )

    def test_a_foreign_file_is_named(self, subject: Subject) -> None:
        """A file of another format in place of the right one, if it cannot be read, is an error that names the path."""
        options = {name: value for name, value in subject.fields.items() if name != "type"}
        files = {name: value for name, value in options.items() if isinstance(value, str) and Path(value).is_file()}
        if not files:
            not_claimed("the config under test names no file by itself")
        for (field, path), (number, content) in product(files.items(), enumerate(_FOREIGN)):
            foreign = subject.folder / f"foreign{number}-{Path(path).name}"
            foreign.write_bytes(content)
            try:
                source = subject.build(config=subject.validated({**subject.fields, field: str(foreign)}))
                source.fetch(np.arange(1)) if not subject.is_stream else source.get_batch(1)
            except Exception as error:  # noqa: BLE001 - the test looks at the error, of any class
                message = "\n".join([str(error), *getattr(error, "__notes__", ())])
                require(
                    foreign.name in message,
                    f"{subject.title} promises an error that names a file of another format, but for {field}={foreign} it "
                    f"raised {type(error).__name__}: {message}; raise DataFileError with the path, from the cause",
                )

    def test_a_damaged_record_is_named(self, subject: Subject) -> None:
        """The error of a damaged record names its record index and its file; other records can still be read."""
        damaged = subject.author.make_damaged(subject.folder)
        if damaged is None:
            not_claimed("make_damaged() is not defined, so no record can be damaged")
        source = subject.build(config=subject.validated(damaged.config))
        group = damaged.group
        for record in dict.fromkeys((group[0], group[-1])):
            _require_error_of(source, record, damaged)
        readable = group[0] if subject.is_stream else source.num_records  # a stream is not read past a damaged record
        others = [record for record in range(readable) if record not in set(group)]
        other = next((record for record in others if record > group[-1]), others[0] if others else None)
        require(
            other is None or _error_of(source, other) is None,
            f"{source.title} promises to read other records after a damaged one, but record {other} then failed too: "
            f"{None if other is None else _error_of(source, other)}; keep no failed state",
        )


def _require_error_of(source: DataSourceModule, record: int, damaged: Damaged) -> None:
    """Fail the test unless reading a damaged record raises an error that names the path, and a record of its group."""
    error = _error_of(source, record)
    if error is None:
        broken(
            f"{source.title} promises an error for a damaged record, but returned record {record}; check the record when it "
            "is read, and raise RecordError"
        )
    message = "\n".join([str(error), *getattr(error, "__notes__", ())])
    words = re.sub(r"\S*[/\\]\S*", "", message)  # without paths, which may have any number in them
    is_named = any(re.search(rf"(?<!\d){each}(?!\d)", words) for each in damaged.group)
    missing = [] if is_named else [str(record)]
    if damaged.path is not None and str(damaged.path) not in message:
        missing.append(str(damaged.path))
    require(
        not missing,
        f"{source.title} promises errors that name record and path, but the error of record {record} leaves out "
        f"{', '.join(missing)}: {type(error).__name__}: {message}. Raise RecordError with both, from the cause",
    )


def _named_parts(expected: Any, found: Any, spec: ElementSpec) -> tuple[Any, Any]:
    """Return (expected values, found values) of the fields that ``expected`` names; of dicts, some fields may be left out."""
    if isinstance(spec, Mapping) and isinstance(expected, Mapping):
        if unknown := sorted(set(expected) - set(spec)):
            broken(
                f"expected_records names {unknown[0]!r}, which is none of the fields {', '.join(spec)}; correct the name"
            )
        pairs = {name: _named_parts(value, found[name], spec[name]) for name, value in expected.items()}
        return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}
    form: Any = jax.tree.structure(spec)
    return form.unflatten(map(np.asarray, form.flatten_up_to(expected))), found  # a list may be the value of a field


def _difference_from_spec(subject: Subject, source: DataSourceModule, spec: ElementSpec) -> str:
    """Return the first difference of batches and single records from the element spec; "" if there is none."""
    indices = np.arange(0) if subject.is_stream else _spread(subject)
    batch = next(batches(source, BATCH)) if subject.is_stream else source.get_records(indices)
    of_batch, of_record = (_is_within, _is_within) if source.differs_in_shape else (operator.eq, has_shape)
    if wrong := _spec_difference(spec, batch, "in a batch", of_batch):
        return wrong
    if subject.is_stream:
        records = list(islice(subject.build(), BATCH)) if subject.has_loops else []
    else:
        records = source.get_elements(indices[:BATCH])
    found = (_spec_difference(spec, _as_batch(each, spec), "in a single record", of_record) for each in records)
    return next(filter(None, found), "")


def _as_batch(record: Any, spec: ElementSpec) -> Batch:
    """Return a record as a batch of one; values of object fields may be of any type, dicts and lists included."""
    try:
        return batch_of_records([record], spec)
    except ValueError:  # it has other fields than the spec
        return jax.tree.map(lambda value: np.asarray(value)[None], record)


def _spread(subject: Subject) -> np.ndarray:
    """Return sorted record indices, spread over the whole source, with the first and the last."""
    count = min(subject.records, _MOST_READ)
    return np.unique(np.linspace(0, subject.records - 1, count).astype(np.int64))


def _is_within(found: tuple[int | None, ...], expected: tuple[int | None, ...]) -> bool:
    """Return whether a shape is the expected one, or smaller in some axes, as batches of a source may that differ in shape."""
    pairs = zip(found, expected, strict=False)
    return len(found) == len(expected) and all(
        n == size or (n is not None and (size is None or n < size)) for n, size in pairs
    )


def _spec_difference(spec: ElementSpec, batch: Batch, where: str, fits: Callable[[Any, Any], bool]) -> str:
    """Return the first difference of a batch from an element spec; "" if there is none. ``fits`` compares two shapes.

    Dtypes may be narrowed as on a device, and text may be of any NumPy dtype of text.
    """
    wanted, found = named_fields(spec), named_fields(batch)
    if wanted.keys() != found.keys():
        return f"the fields {where} are {', '.join(sorted(found))}, where the spec has {', '.join(sorted(wanted))}"
    for name, leaf in wanted.items():
        column = host_column(found[name])
        dtypes = {leaf.dtype, device_spec(leaf).dtype}
        is_dtype = (
            column.dtype in dtypes if fits_device(leaf.dtype) else column.dtype.kind in (leaf.dtype.kind, "O", "U", "S")
        )
        if not fits(tuple(column.shape[1:]), tuple(leaf.shape)) or not is_dtype:
            found_as = f"{column.dtype}{list(column.shape[1:])}"
            return f"field {name!r} is {found_as} {where}, where the spec has {leaf.dtype}{list(leaf.shape)}"
    return ""


def _error_of(source: DataSourceModule, record: int) -> Any:
    """Return the error of reading a record, of a stream the one at this position; None if it can be read."""
    try:
        if source.access != "stream":
            source.fetch(np.asarray([record]))
            return None
        source.reset()
        if record:
            source.skip(record)
        source.get_batch(1)
    except Exception as error:  # noqa: BLE001 - the test looks at the error, of any class
        return error
    return None
