"""Bad records: substituted by the same records in every route, counted, listed, and limited in number."""

import errno
import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import numpy as np
import pytest
from flax import nnx
from pydantic import ValidationError
from record_files import Numbers, Stubborn, damage, ids, source_of, write, write_numbers

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule
from datarax_arrayrecord.decoders import ExampleDecoder
from datarax_core import Pipeline, RecordError, SpecError
from datarax_core.sources.verification import append_to_quarantine

COUNTS = [30, 0, 41, 9]
LENGTH = sum(COUNTS)
UNREADABLE = (0, 7, 8, 9, 29, 30, 45)
REFUSED = (10, 78, 79)
BAD = frozenset(UNREADABLE + REFUSED)


def substitute_of(index: int, bad: frozenset[int] = BAD, length: int = LENGTH) -> int:
    """Return the substitute of a record: the next good one, past the end from record 0."""
    while index in bad:
        index = (index + 1) % length
    return index


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Write files with bad records at both ends, in the middle, and at the edges of files."""
    made = write_numbers(tmp_path_factory.mktemp("damaged"), COUNTS)
    for file, rows in ((0, range(30)), (2, range(30, 71))):
        damage(made[file], *[row for row in UNREADABLE if row in rows])
    return made


@pytest.fixture
def open_source(files: list[str], tmp_path: Path) -> Callable[..., ArrayRecordSourceModule]:
    """Return a function that opens the files with substitutes and a quarantine file."""

    def opened(**config: Any) -> ArrayRecordSourceModule:
        known = {
            "decoder": Stubborn(refuses=REFUSED),
            "on_error": "substitute",
            "quarantine": tmp_path / "bad.jsonl",
        }
        return source_of(files, rngs=nnx.Rngs(5), **{**known, **config})

    return opened


def order_of(source: ArrayRecordSourceModule, count: int, start: int = 0) -> list[int]:
    """Return the records that a source should serve at the first positions."""
    rows = np.asarray(source.record_indices_at(start, count, source.order_key_data()))
    return [substitute_of(row) for row in rows.tolist()]


def listed(path: Path) -> list[tuple[str, int]]:
    return [(Path(entry["file"]).name, entry["record"]) for entry in map(json.loads, path.read_text().splitlines())]


ROUTES: dict[str, Callable[[ArrayRecordSourceModule, int], list[int]]] = {
    "get_records": lambda source, count: ids(
        source.get_records(source.record_indices_at(0, count, source.order_key_data()))
    ),
    "get_batch_at": lambda source, count: ids(source.get_batch_at(0, count, source.order_key_data())),
    "get_batch": lambda source, count: [number for _ in range(count // 10) for number in ids(source.get_batch(10))],
    "elements": lambda source, count: [int(element["id"]) for _, element in zip(range(count), source, strict=False)],
    "traced": lambda source, count: ids(
        jax.jit(lambda start: source.get_batch_at(start, count, source.order_key_data()))(0)
    ),
    "loop": lambda source, count: _looped(source, count, prefetch=2),
    "loop without prefetch": lambda source, count: _looped(source, count, prefetch=0),
    "step": lambda source, count: _stepped(Pipeline(source=source, batch_size=10), count),
    "scan": lambda source, count: (
        np.asarray(Pipeline(source=source, batch_size=10).scan(_id, length=count // 10)).ravel().tolist()
    ),
}


def _id(batch: Any) -> Any:
    return batch["id"]


def _looped(source: Any, count: int, **options: Any) -> list[int]:
    pipeline = Pipeline(source=source, batch_size=10, num_epochs=count // LENGTH, **options)
    return [number for batch in pipeline for number in ids(batch)]


def _stepped(pipeline: Pipeline, count: int) -> list[int]:
    return [number for _ in range(count // 10) for number in ids(pipeline.step())]


@pytest.mark.parametrize("learns", [False, True], ids=["declared", "learned"])
@pytest.mark.parametrize("order", ["sequential", "shuffle", "shuffle_files"])
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_serves_the_same_substitute(
    open_source: Callable[..., Any], route: str, order: str, *, learns: bool
) -> None:
    flags = {} if order == "sequential" else {order: True}
    source = open_source(decoder=Stubborn(refuses=REFUSED, learns=learns), **flags)
    expected = order_of(source, 2 * LENGTH)
    assert ROUTES[route](source, 2 * LENGTH) == expected


@pytest.mark.parametrize("route", [route for route in ROUTES if route != "traced"])
def test_substitutes_are_counted_each_time_they_are_served(open_source: Callable[..., Any], route: str) -> None:
    source = open_source(shuffle=True)
    ROUTES[route](source, 2 * LENGTH)
    assert source.get_operation_stats()["skipped_count"] == 2 * len(BAD)


def test_worker_processes_substitute_count_and_list_the_same_records(
    open_source: Callable[..., Any], tmp_path: Path
) -> None:
    source = open_source(shuffle=True)
    expected = order_of(source, 2 * LENGTH)
    pipeline = Pipeline(source=source, batch_size=20, num_epochs=2, workers=2)
    batches = iter(pipeline)
    served = ids(next(batches)) + ids(next(batches))
    state = json.loads(json.dumps(pipeline.get_state()))
    served += [number for batch in batches for number in ids(batch)]
    assert served == expected
    assert pipeline.stats()["records_substituted"] == 2 * len(BAD)
    lines = listed(tmp_path / "bad.jsonl")
    assert len(lines) == len(set(lines)) == len(BAD)

    resumed = Pipeline(source=open_source(shuffle=True), batch_size=20, num_epochs=2)  # has not met a bad record yet
    resumed.set_state(state)
    assert [number for batch in resumed for number in ids(batch)] == expected[40:]
    assert len(listed(tmp_path / "bad.jsonl")) == len(BAD)


@pytest.mark.parametrize("at", [1, 4, 8, 11])
def test_substitutes_are_the_same_after_a_resume_in_the_middle_of_an_epoch(
    open_source: Callable[..., Any], at: int
) -> None:
    def pipeline() -> Pipeline:
        return Pipeline(source=open_source(shuffle=True), batch_size=10, num_epochs=2)

    first = pipeline()
    expected = order_of(first.source, 2 * LENGTH)
    assert _stepped(first, 10 * at) == expected[: 10 * at]
    second = pipeline()
    second.set_state(json.loads(json.dumps(first.get_state())))
    assert [number for batch in second for number in ids(batch)] == expected[10 * at :]


def test_a_pipeline_counts_substitutes(open_source: Callable[..., Any]) -> None:
    pipeline = Pipeline(source=open_source(), batch_size=40)
    assert len(list(pipeline)) == 2
    assert pipeline.stats()["records_substituted"] == len(BAD)
    assert len(list(pipeline)) == 2
    assert pipeline.stats()["records_substituted"] == 2 * len(BAD)
    pipeline.source.reset_operation_stats()
    assert pipeline.stats()["records_substituted"] == 0


def test_a_cacheable_source_keeps_the_substitute(open_source: Callable[..., Any]) -> None:
    source = open_source(shuffle=True, cacheable=True)
    pipeline = Pipeline(source=source, batch_size=10, num_epochs=2)
    assert [number for batch in pipeline for number in ids(batch)] == order_of(source, 2 * LENGTH)
    assert pipeline.stats()["records_substituted"] >= len(BAD)
    source.reset_cache()
    assert ids(source.get_batch_at(0, LENGTH, source.order_key_data())) == order_of(source, LENGTH)


def test_subsets_serve_the_substitutes_of_their_source(open_source: Callable[..., Any]) -> None:
    source = open_source()
    part = source[5:31]
    assert ids(part.get_records(np.arange(26))) == [substitute_of(row) for row in range(5, 31)]
    assert part.get_operation_stats()["skipped_count"] == 6
    for held in source.split(train=0.5, test=0.5).values():
        rows = held.parent_indices(np.arange(len(held)))
        assert ids(held.get_records(np.arange(len(held)))) == [substitute_of(int(row)) for row in rows]


def test_undecoded_records_are_substituted_too(open_source: Callable[..., Any], files: list[str]) -> None:
    source = open_source(decoder=None)
    unreadable = frozenset(UNREADABLE)
    whole = source_of(files, decoder=None)
    expected = [whole[substitute_of(row, unreadable)] for row in range(LENGTH)]
    assert source.get_batch_at(0, LENGTH) == expected
    assert [source[row] for row in range(LENGTH)] == expected
    assert source.get_operation_stats()["skipped_count"] == 2 * len(UNREADABLE)


# -- limits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_errors", "limit"),
    [(0, 0), (1, 1), (9, 9), (10, None), (11, None), (0.01, 0), (0.1, 8), (0.124, 9), (0.125, None), (0.99, None)],
)
def test_more_bad_records_than_max_errors_are_an_error(
    open_source: Callable[..., Any], max_errors: Any, limit: int | None
) -> None:
    source = open_source(max_errors=max_errors)
    if limit is None:
        assert ids(source.get_records(range(LENGTH))) == [substitute_of(row) for row in range(LENGTH)]
        return
    message = rf"that is bad record number {limit + 1}, and max_errors={max_errors} allows {limit} of {LENGTH}$"
    for _ in range(3):  # every attempt raises
        with pytest.raises(RecordError, match=message):
            source.get_records(range(LENGTH))
    good = [row for row in range(LENGTH) if row not in BAD]
    assert ids(source.get_records(good)) == good


def test_too_many_bad_records_are_an_error_in_every_route(open_source: Callable[..., Any]) -> None:
    for read in (read for route, read in ROUTES.items() if route != "traced"):  # traced code raises errors of JAX
        with pytest.raises(RecordError, match="bad record number 4, and max_errors=3 allows 3 of 80"):
            read(open_source(max_errors=3), 2 * LENGTH)
    with pytest.raises(RecordError, match="bad record number 1, and max_errors=0 allows 0 of 80"):
        _looped(open_source(max_errors=0), LENGTH, workers=2)


def test_a_share_of_max_errors_is_exact_in_spite_of_rounding(tmp_path: Path) -> None:
    path, bad = write_numbers(tmp_path, [100]), tmp_path / "bad.jsonl"
    policy = {"on_error": "substitute", "max_errors": 0.29, "quarantine": bad}
    source = source_of(path, decoder=Stubborn(refuses=tuple(range(30))), **policy)
    message = "bad record number 30, and max_errors=0.29 allows 29 of 100"
    with pytest.raises(RecordError, match=message):
        source.get_records([0])


@pytest.mark.parametrize("learns", [False, True])
def test_a_source_without_a_readable_record_is_an_error(tmp_path: Path, *, learns: bool) -> None:
    files = write_numbers(tmp_path, [4, 2])
    decoder = Stubborn(refuses=tuple(range(6)), learns=learns)
    source = source_of(files, decoder=decoder, on_error="substitute", quarantine=tmp_path / "bad.jsonl")
    for _ in range(2):
        with pytest.raises(
            RecordError,
            match=r"none of 6 records from record [02] on can be read: is it the right decoder\? The last one: record",
        ):
            source.get_records([2])
    assert len(listed(tmp_path / "bad.jsonl")) == 6


def test_a_wrong_decoder_is_an_error_before_all_records_are_read(tmp_path: Path) -> None:
    path, bad = write_numbers(tmp_path, [1200]), tmp_path / "bad.jsonl"
    decoder = Stubborn(refuses=tuple(range(1100)))
    source = source_of(path, decoder=decoder, on_error="substitute", quarantine=bad)
    with pytest.raises(
        RecordError, match="none of 1000 records from record 20 on can be read: is it the right decoder"
    ):
        source.get_records([20])
    assert len(listed(bad)) == 1000
    assert source.get_records([1099, 1150])["id"].tolist() == [1100, 1150]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_errors": -1}, "max_errors is a number of records from 0, or a share of them below 1, not -1"),
        ({"max_errors": 1.5}, "a share of them below 1, not 1.5"),
        ({"max_errors": float("nan")}, "Input should be a finite number"),
        ({"max_errors": -0.1}, "a share of them below 1, not -0.1"),
        ({"max_errors": "3"}, "max_errors"),
        ({"max_errors": True}, "max_errors"),
        ({"on_error": "ignore"}, "'raise' or 'substitute'"),
        ({"quarantine": ""}, "quarantine"),
        ({"on_error": "raise", "max_errors": 3}, "max_errors has no use without on_error='substitute': the first bad"),
        ({"on_error": "raise", "quarantine": "x"}, "quarantine has no use without on_error='substitute'"),
    ],
)
def test_invalid_settings_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ArrayRecordSourceConfig(**{"on_error": "substitute", **config})


# -- what is said of them -------------------------------------------------------------------------------------------------


def test_without_a_quarantine_file_each_bad_record_warns_once(files: list[str]) -> None:
    source = source_of(files, on_error="substitute")
    with pytest.warns(UserWarning, match="the next one is served in its place") as warned:
        source.get_records([0, 7, 7, 1])
    assert len(warned) == 4  # 0 and 7, and 8 and 9 in search of a substitute
    assert f"record 0 of {files[0]} cannot be read: Corrupted" in str(warned[0].message)
    assert "(record 0 of ArrayRecordSourceModule); the next one is served in its place (on_error='substitute')" in str(
        warned[0].message
    )
    assert ids(source.get_records([0, 7, 8, 9])) == [1, 10, 10, 10]


def test_the_quarantine_file_names_file_record_and_cause(
    open_source: Callable[..., Any], files: list[str], tmp_path: Path
) -> None:
    open_source().get_records([29, 78])
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [["file", "record", "cause"]] * 5
    found = [(line["file"], line["record"]) for line in lines]
    assert found == [(files[0], 29), (files[2], 0), (files[3], 7), (files[3], 8), (files[0], 0)]
    assert "hash mismatch" in lines[0]["cause"]
    assert lines[2]["cause"] == "LookupError: nothing is known of 78"


def test_a_quarantine_file_is_continued(open_source: Callable[..., Any], tmp_path: Path) -> None:
    place = tmp_path / "bad.jsonl"
    open_source().get_records([7])
    first = listed(place)
    place.write_text(place.read_text() + '{"file": "cut of')  # the half line of a process that was killed
    open_source().get_records([7, 45])
    lines = place.read_text().splitlines()
    assert len(lines) == len(first) + 2
    assert lines[-2] == '{"file": "cut of'
    assert json.loads(lines[-1])["record"] == 15


def _read_all(path: str, process: int) -> None:
    for row in range(60):
        text = f"cause as process {process} says it"
        append_to_quarantine(path, [RecordError("bad", record=row, reason=text, path="/data/ä.array_record", row=row)])


def test_several_processes_append_whole_lines(tmp_path: Path) -> None:
    place = tmp_path / "bad.jsonl"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_read_all, args=(str(place), turn)) for turn in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        assert process.exitcode == 0
    assert sorted(listed(place)) == [("ä.array_record", row) for row in range(60)]


def test_a_quarantine_file_without_a_folder_is_refused_when_the_source_is_built(
    files: list[str], tmp_path: Path
) -> None:
    with pytest.raises(
        FileNotFoundError, match=rf"no such folder: {tmp_path}/none; 'quarantine' names a file to write in"
    ):
        source_of(files, on_error="substitute", quarantine=tmp_path / "none" / "bad.jsonl")


def test_a_quarantine_file_stays_in_its_folder_when_the_process_changes_its_own(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = source_of(files, on_error="substitute", quarantine="bad.jsonl")
    monkeypatch.chdir("/")
    source.get_records([45])
    assert listed(tmp_path / "bad.jsonl") == [("part-02.array_record", 15)]


def test_a_bad_record_that_could_not_be_listed_is_listed_at_the_next_read(files: list[str], tmp_path: Path) -> None:
    place = tmp_path / "bad.jsonl"
    source = source_of(files, on_error="substitute", quarantine=place)
    place.mkdir()
    with pytest.raises(IsADirectoryError):
        source.get_records([7])
    place.rmdir()
    assert ids(source.get_records([7])) == [10]
    assert len(listed(place)) == 3


def test_a_batch_that_fails_as_a_whole_is_decoded_record_by_record(tmp_path: Path) -> None:
    """The decoder refuses batches, but accepts each record by itself: all records are served, without substitutes."""
    source = source_of(write_numbers(tmp_path, [5]), decoder=Lonely(), on_error="substitute")
    assert ids(source.get_records(range(5))) == list(range(5))
    assert source.get_operation_stats()["skipped_count"] == 0


class Lonely(Numbers):
    def decode(self, records: Any, spec: Any) -> Any:
        if len(records) > 1:
            raise ValueError("one at a time")
        return super().decode(records, spec)


# -- trouble that may pass ------------------------------------------------------------------------------------------------


class Troubled(Numbers):
    """Decoder that meets trouble at record 3, which is not in its bytes, as long as `trouble` says so."""

    type: Literal["troubled"] = "troubled"
    trouble: ClassVar[BaseException | None] = None

    def decode(self, records: Sequence[bytes], spec: Any) -> Any:
        batch = super().decode(records, spec)
        if self.trouble is not None and 3 in batch["id"]:
            raise self.trouble
        return batch


@pytest.mark.parametrize(
    "trouble",
    [
        TimeoutError("late"),
        MemoryError("full"),
        OSError(errno.EIO, "io"),
        OSError(errno.EMFILE, "many"),
        ConnectionError(),
    ],
)
def test_trouble_that_may_pass_is_raised_and_makes_no_bad_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    files = write_numbers(tmp_path, [9])
    source = source_of(files, decoder=Troubled(), on_error="substitute", quarantine=tmp_path / "bad.jsonl")
    monkeypatch.setattr(Troubled, "trouble", trouble)
    for read in (source.get_records, source.verify_records):
        with pytest.raises(RecordError, match=r"record 3 of \S+ cannot be decoded as 'troubled'") as caught:
            read(np.arange(9))
        assert caught.value.__cause__ is trouble
    assert not (tmp_path / "bad.jsonl").exists()
    monkeypatch.setattr(Troubled, "trouble", None)
    assert ids(source.get_records(np.arange(9))) == list(range(9))
    assert source.verify_records(np.arange(9)).errors == ()


def test_a_failing_disk_makes_no_bad_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_numbers(tmp_path, [9])
    source = source_of(files, on_error="substitute", max_errors=None)

    def failing(*_: Any) -> Any:
        raise RuntimeError("pread() failed: Input/output error; reading x at byte 65536")

    with monkeypatch.context() as patched:
        patched.setattr("datarax_arrayrecord.reading.reader.FileReader._read", failing)
        with pytest.raises(RecordError, match=r"cannot be read: pread\(\) failed: Input/output error") as caught:
            source.get_records(np.arange(3))
    assert isinstance(caught.value.__cause__, OSError)
    assert ids(source.get_records(np.arange(9))) == list(range(9))


def test_a_quarantine_file_that_cannot_be_written_is_refused_when_the_source_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_numbers(tmp_path, [9])
    with pytest.raises(IsADirectoryError, match=rf"{tmp_path} is a folder; 'quarantine' names a file, such as"):
        source_of(files, on_error="substitute", quarantine=tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(PermissionError, match=rf"cannot write to {tmp_path}: 'quarantine' names .*; make it writable"):
        source_of(files, on_error="substitute", quarantine=tmp_path / "bad.jsonl")


def test_records_of_other_features_are_found_before_the_first_is_served(tmp_path: Path) -> None:
    def example(names: str) -> bytes:
        fields = {name: {"dtype": "int64"} for name in names}
        return ExampleDecoder(fields=fields).encode({name: np.array([1]) for name in names})[0]

    alike, odd = example("a"), example("ab")
    files = [write(tmp_path / "x.array_record", [alike] * 50 + [odd] * 50)]
    with pytest.raises(
        SpecError,
        match=r"the records of \S+ differ: record \d+ of \S+/x\.array_record has the feature 'b', which the first one does",
    ):
        source_of(files, decoder="example", on_error="substitute").element_spec()
    lacking = [write(tmp_path / "y.array_record", [odd] * 50 + [alike] * 50)]
    with pytest.raises(
        SpecError, match="lacks the feature 'b', which the first one has; declare the fields of the decoder"
    ):
        source_of(lacking, decoder="example").get_records([0])
    fields = {"a": {"dtype": "int64"}, "b": {"dtype": "int64", "default": -1}}
    declared = source_of(lacking, decoder={"type": "example", "fields": fields})
    assert declared.get_records(np.arange(49, 51))["b"].tolist() == [1, -1]
    one = [write(tmp_path / "z.array_record", [alike] * 40 + [odd] + [alike] * 59)]
    with pytest.raises(
        RecordError, match=r"record 40 of \S+ cannot be decoded as 'example': the record has the feature 'b'"
    ):
        source_of(one, decoder="example").get_records(np.arange(100))
