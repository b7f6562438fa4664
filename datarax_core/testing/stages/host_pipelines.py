"""Promises of a host stage in a pipeline: loops, threads, steps and scans serve what it makes, and errors name the record."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import jax
import numpy as np

from datarax_core.errors import SpecError
from datarax_core.records.joining import joined_batches
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, differences, named_fields, spec_of
from datarax_core.testing.checks import broken, difference, not_claimed, require

from .comparing import require_expected, rows_of_batch
from .host_calls import HostSubject
from .subject import on_host

_OTHERS: Final = {"another_text": "text", "another_sequence": "ragged", "another_number": "wide"}


class HostResultPromises:
    """What the stage makes of the records, and of columns that it does not know."""

    def test_its_batch_is_the_expected_one(self, subject: HostSubject) -> None:
        """The batch that it makes of the records has the values that ``expected`` declares, in all fields or some."""
        require_expected(subject)

    def test_other_columns_do_not_disturb_it(self, subject: HostSubject) -> None:
        """With columns of text, of varying length and of 64 bits besides, it makes the same of its own fields."""
        if not isinstance(subject.records, dict):
            not_claimed("the records are no dict, to which columns could be added")
        records = subject.records | _other_columns(subject.size)
        called = subject.called
        with called.explained(
            "raised {error} when the records had a column of text, one of varying length and one of 64 bits besides; hand on "
            "the columns that it does not work on as they are"
        ):
            built = subject.build(records=records)
            made = called.call_with(records, np.arange(subject.size), 0, built)
        own = {name: column for name, column in named_fields(made).items() if name not in _OTHERS}
        called.same(
            named_fields(called.made),
            own,
            "makes something else of its fields when the records have other columns besides: {difference}; hand on the "
            "columns that it does not work on as they are",
        )


class HostRoutePromises:
    """The stage in a loop over a pipeline, by threads, in steps, and in a scan."""

    def test_a_loop_serves_what_it_makes(self, subject: HostSubject) -> None:
        """``for batch in pipeline`` serves what the stage makes, over two epochs, in any order, on one thread or several."""
        ways: dict[str, dict[str, Any]] = {
            "a loop": {},
            "a loop over a reversed source": {"is_reversed": True},
            "a loop that reads ahead on two threads": {"threads": _threads(subject), "prefetch": 2},
        }
        for title, options in ways.items():
            pipeline = subject.pipeline(num_epochs=2, **options)
            served = list(pipeline)
            _require_said(subject, pipeline.element_spec(), served[0])
            expected = _expected(subject, 2 * subject.size, is_reversed="is_reversed" in options)
            _require_same(subject, expected, served, title)

    def test_steps_serve_what_it_makes(self, subject: HostSubject) -> None:
        """``pipeline.step()`` serves what the stage makes, from epoch to epoch."""
        pipeline, steps = subject.pipeline(num_epochs=None), _steps(subject)
        found = (pipeline.step() for _ in range(steps))
        _require_same(subject, _expected(subject, steps * subject.batch_size), found, "pipeline.step()")

    def test_a_scan_serves_what_it_makes(self, subject: HostSubject) -> None:
        """``pipeline.scan(...)`` serves what the stage makes, by a callback, if a device can hold all that it makes."""
        steps = _steps(subject)
        try:
            scanned = subject.pipeline(num_epochs=None).scan(_batch, length=steps)
        except SpecError as refused:
            not_claimed(f"compiled code cannot carry what the stage makes: {str(refused).partition(';')[0]}")
        found = (jax.tree.map(lambda leaf, step=step: leaf[step], scanned) for step in range(steps))
        _require_same(subject, _expected(subject, steps * subject.batch_size), found, "pipeline.scan()")


class RecordErrorPromises:
    """A record that the stage refuses, if the author declares one."""

    def test_a_damaged_record_is_named(self, subject: HostSubject) -> None:
        """A record that it refuses is a ValueError, alone and in a batch; other records are made as before."""
        if (damaged := subject.author.damaged) is None:
            not_claimed("no damaged record is declared")
        place = subject.size // 2
        records = _with_record(subject, damaged, place)
        indices, called = np.arange(subject.size + 1), subject.called
        for rows, title in ((indices, "in a batch"), (indices[place : place + 1], "by itself")):
            try:
                called.call_with(rows_of_batch(records, rows), rows, 0, subject.built)
            except ValueError:
                continue
            except Exception as cause:  # noqa: BLE001 - an author's code may raise anything
                broken(
                    f"{subject.title} promises to refuse the damaged record by a ValueError, but {title} it raises "
                    f"{type(cause).__name__}: {cause}. Catch what the library raises, and raise datarax_core.StageError with "
                    "what is wrong with the record"
                )
            broken(
                f"{subject.title} is declared to refuse the damaged record, but made a batch of it {title}. Raise a "
                "ValueError, or leave `damaged` out"
            )
        called.same(
            called.made, called.call(), "makes something else of sound records after a damaged one: {difference}"
        )
        pipeline = subject.pipeline(records, batch_size=subject.size + 1)
        try:
            next(iter(pipeline))
        except ValueError as error:
            notes = " ".join(getattr(error, "__notes__", ()))
            require(
                f"record {place} fails by itself" in notes,
                f"{subject.title} promises that the error of a damaged record names it, but the error of a pipeline says: "
                f"{error} ({notes or 'without notes'}). Let the same record fail each time, alone and in a batch, and raise an "
                "error to which notes can be added",
            )
        else:
            broken(f"{subject.title} refuses the damaged record when it is called, but a pipeline served it")


def _batch(batch: Any) -> Any:
    return batch


def _threads(subject: HostSubject) -> int:
    return 2 if getattr(subject.built, "thread_safe", True) else 1


def _steps(subject: HostSubject) -> int:
    """Return a number of full batches that reach into the second epoch."""
    return subject.size // subject.batch_size + 2


def _expected(subject: HostSubject, total: int, *, is_reversed: bool = False) -> Iterator[Batch]:
    """Yield what the stage makes of the first records of a pipeline."""
    for start in range(0, total, subject.batch_size):
        epochs, rows = np.divmod(np.arange(start, min(start + subject.batch_size, total)), subject.size)
        yield subject.called.call(subject.size - 1 - rows if is_reversed else rows, epoch=epochs)


def _require_same(subject: HostSubject, expected: Iterator[Batch], found: Any, by: str) -> None:
    may_be_padded = subject.called.is_of_whole_batch
    for number, (wanted, given) in enumerate(zip(expected, found, strict=True)):
        text = difference(*_in_dtypes(wanted, on_host(given)), may_be_padded=may_be_padded)
        require(
            not text,
            f"{subject.title} promises the same batches by every route, but {by} serves another batch {number} than the stage "
            f"makes: {text}. Let its result depend on the records, and on the generators that it is called with, alone",
        )


def _in_dtypes(wanted: Batch, found: Batch) -> tuple[Batch, Batch]:
    """Return (an expected batch in the dtypes of a device, the batch that was found)."""
    given, expected = named_fields(found), named_fields(wanted)
    for name, column in expected.items():
        other: Any = given.get(name)
        is_number = isinstance(column, np.ndarray) and isinstance(other, np.ndarray) and column.dtype.kind in "iuf"
        if is_number and column.dtype.kind == other.dtype.kind:
            expected[name] = column.astype(other.dtype)
    return expected, given


def _require_said(subject: HostSubject, said: Any, batch: Batch) -> None:
    """Fail unless a batch is as its pipeline says."""
    wrong = [] if subject.called.is_of_whole_batch else differences(said, spec_of(on_host(batch)))
    require(
        not wrong,
        f"{subject.title} promises the element spec that its pipeline tells, but a batch differs from it: {'; '.join(wrong)}. "
        "Correct element_spec()",
    )


def _other_columns(size: int) -> Batch:
    text = np.array([f"a text {row}" for row in range(size)], object)
    ragged = Ragged.from_list([np.arange(row % 4, dtype=np.int16) for row in range(size)])
    wide = np.arange(size, dtype=np.int64) + 2**40
    return dict(zip(_OTHERS, (text, ragged, wide), strict=True))


def _with_record(subject: HostSubject, record: Mapping[str, Any], place: int) -> Batch:
    """Return the records with one more at a place."""
    fields = named_fields(subject.records)
    given = named_fields(dict(record))
    if other := sorted(given.keys() ^ fields.keys()):
        broken(
            f"{type(subject.author).__name__} declares a damaged record that differs in the field {other[0]!r} from records; "
            "give it a value for each field"
        )
    row = jax.tree.map(_as_column, dict(record), subject.records, is_leaf=lambda leaf: not isinstance(leaf, dict))
    size = subject.size
    return joined_batches(
        [rows_of_batch(subject.records, range(place)), row, rows_of_batch(subject.records, range(place, size))]
    )


def _as_column(value: Any, column: Any) -> Any:
    if isinstance(column, Ragged):
        return Ragged.from_list([np.asarray(value, column.dtype)], shape=column.shape[1:])
    if column.dtype == object:
        made = np.empty(1, object)
        made[0] = value
        return made
    return np.asarray(value)[None]
