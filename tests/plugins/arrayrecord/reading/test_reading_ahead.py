"""Batches that are read with those after them, and ranges that are read with a large buffer: the same records, and errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx
from record_files import ids, record, source_of, write_numbers

from datarax_arrayrecord import ArrayRecordSourceModule
from datarax_arrayrecord.reading.array_records import ArrayRecordReader
from datarax_arrayrecord.reading.reader import FileReader
from datarax_core import DataFileError, Pipeline, RecordError
from datarax_core.record_files.stored_ahead import StoredAhead
from datarax_core.workers.thread_count import Reading

FILES, RECORDS, BATCH = 3, 1500, 20


class NoWatch:
    """Measurement that measures nothing."""

    def read(self, rows: int) -> Reading:
        return Reading(rows)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return write_numbers(tmp_path, [RECORDS // FILES] * FILES)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Return a list of the records of each read of stored records."""
    seen: list[np.ndarray] = []
    read = ArrayRecordReader.read_stored

    def counted(self: ArrayRecordReader, records: np.ndarray) -> list[bytes]:
        seen.append(records)
        return read(self, records)

    monkeypatch.setattr(ArrayRecordReader, "read_stored", counted)
    return seen


def always_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have loops read ahead, however quick a batch is read."""
    monkeypatch.setattr("datarax_core.pipeline.loop.WORTH_A_THREAD", -1.0)


def shuffled(paths: list[str], **config: Any) -> ArrayRecordSourceModule:
    return source_of(paths, shuffle=True, rngs=nnx.Rngs(3), **config)


@pytest.mark.parametrize("prefetch", [0, 1, 3, "auto"])
def test_a_shuffled_loop_serves_the_records_of_its_order(
    paths: list[str], monkeypatch: pytest.MonkeyPatch, prefetch: Any
) -> None:
    always_ahead(monkeypatch)
    source = shuffled(paths)
    order = np.asarray(source.record_indices_at(0, 2 * RECORDS, source.order_key_data()))
    pipeline = Pipeline(source=source, batch_size=BATCH, num_epochs=2, prefetch=prefetch)
    assert [each for batch in pipeline for each in ids(batch)] == order.tolist()


def test_batches_of_a_shuffled_loop_are_read_many_at_once(
    paths: list[str], monkeypatch: pytest.MonkeyPatch, calls: list[np.ndarray]
) -> None:
    always_ahead(monkeypatch)
    for source in (shuffled(paths), shuffled(paths)[100:1400]):
        calls.clear()
        batches = list(
            Pipeline(source=source, batch_size=BATCH, prefetch="auto", threads=1)
        )  # a busy machine seems to wait
        assert len(calls) < len(batches) / 2
        assert max(map(len, calls)) >= 16 * BATCH
        assert sum(map(len, calls)) <= len(source) + len(batches)  # each once, and some to look at


def test_batches_are_read_many_at_once_for_host_stages(
    paths: list[str], monkeypatch: pytest.MonkeyPatch, calls: list[np.ndarray]
) -> None:
    class Negated:
        on_host = True

        def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"id": -batch["id"], "x": -batch["x"]}

    always_ahead(monkeypatch)
    source = shuffled(paths)
    order = np.asarray(source.record_indices_at(0, RECORDS, source.order_key_data()))
    pipeline = Pipeline(source=source, stages=[Negated()], batch_size=BATCH, threads=1)
    served = [each for b in pipeline for each in ids(b)]
    assert served == (-order).tolist()
    assert len(calls) < RECORDS / BATCH / 2


def damaged(paths: list[str], row: int) -> None:
    """Change a byte of one record of the second file."""
    path = Path(paths[1])
    content = bytearray(path.read_bytes())
    content[content.find(record(RECORDS // FILES + row))] ^= 1
    path.write_bytes(content)


@pytest.fixture
def uncompressed(tmp_path: Path) -> list[str]:
    return write_numbers(tmp_path, [RECORDS // FILES] * FILES)


def test_a_damaged_record_is_the_error_of_its_own_batch(
    uncompressed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    always_ahead(monkeypatch)
    damaged(uncompressed, 7)
    source = shuffled(uncompressed)
    bad = RECORDS // FILES + 7
    order = np.asarray(source.record_indices_at(0, RECORDS, source.order_key_data())).tolist()
    served: list[int] = []

    def serve() -> None:
        for batch in Pipeline(source=source, batch_size=BATCH):
            served.extend(ids(batch))

    with pytest.raises(RecordError, match=rf"record 7 of {uncompressed[1]} cannot be read") as caught:
        serve()
    assert caught.value.record == bad
    assert served == order[: order.index(bad) // BATCH * BATCH]


@pytest.mark.filterwarnings("ignore:record 7 of")
def test_a_substitute_is_the_same_as_without_reading_ahead(
    uncompressed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged(uncompressed, 7)
    bad = RECORDS // FILES + 7
    expected = [
        [
            each
            for batch in Pipeline(source=shuffled(uncompressed, on_error="substitute"), **options)
            for each in ids(batch)
        ]
        for options in ({"batch_size": BATCH, "prefetch": 0}, {"batch_size": BATCH, "prefetch": 0, "num_epochs": 2})
    ]
    always_ahead(monkeypatch)
    for epochs, found in enumerate(expected, 1):
        source = shuffled(uncompressed, on_error="substitute")
        pipeline = Pipeline(source=source, batch_size=BATCH, num_epochs=epochs)
        assert [each for batch in pipeline for each in ids(batch)] == found
        assert bad not in found
        assert source.get_operation_stats()["skipped_count"] == epochs


def test_a_file_that_changes_while_a_loop_reads_ahead_is_an_error(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    always_ahead(monkeypatch)
    batches = iter(Pipeline(source=shuffled(paths), batch_size=BATCH, prefetch=3))
    next(batches)
    with Path(paths[2]).open("ab") as file:
        file.write(bytes(8))
    with pytest.raises(DataFileError, match=f"{paths[2]} changed while a source read it"):
        list(batches)


def test_two_loops_over_one_source_take_turns(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    always_ahead(monkeypatch)
    source = shuffled(paths)
    loops = [iter(Pipeline(source=source, batch_size=BATCH)) for _ in range(2)]
    for one, other in zip(*loops, strict=True):
        assert ids(one) == ids(other)


# -- the batches of one loop -------------------------------------------------------------------------------------------------


def ahead_of(
    record_bytes: float = 4.0, read: Callable[[np.ndarray], list[bytes]] | None = None
) -> tuple[Any, list[int]]:
    """Return reading ahead of records that are their own index, and the numbers of records of its calls."""
    calls: list[int] = []

    def read_numbers(records: np.ndarray) -> list[bytes]:
        calls.append(len(records))
        return [record.tobytes() for record in records.astype("<i4")]

    return StoredAhead(read or read_numbers, record_bytes, NoWatch), calls


def scattered(batches: int, rows: int = 8) -> list[np.ndarray]:
    return list(np.random.default_rng(0).permutation(batches * rows).reshape(batches, rows))


def test_each_call_reads_more_batches_than_the_one_before() -> None:
    ahead, calls = ahead_of()
    batches = scattered(60)
    for batch in batches:
        ahead.begin(batch)
    found = [ahead.take(batch) for batch in batches]
    assert found[0] is None  # whoever takes it reads it
    assert found[1:] == [[each.tobytes() for each in batch.astype("<i4")] for batch in batches[1:]]
    assert calls == [4 * 8, 16 * 8, 39 * 8]
    assert [number for _, number in ahead.take_readings()] == [4, 16, 39]
    assert ahead.take_readings() == []


def test_a_call_reads_no_more_bytes_than_are_allowed() -> None:
    ahead, calls = ahead_of(record_bytes=float(1 << 19))  # of which 32 are allowed
    batches = scattered(40)
    begun = [ahead.begin(batch) for batch in batches]
    assert [each is not None for each in begun] == [True] * 4 + [False] * 36
    for batch in batches[:4]:
        ahead.take(batch)
    assert calls == [3 * 8]
    assert ahead_of(record_bytes=float(1 << 24))[0].begin(batches[0]) is None


def test_batches_are_taken_once_and_only_if_they_were_begun() -> None:
    ahead, calls = ahead_of()
    one, other, third, fourth = scattered(4)
    ahead.begin(one)
    ahead.begin(other)
    left = ahead.begin(third)
    ahead.begin(fourth)
    assert ahead.take(np.arange(8)[::-1]) is None
    left.cancel()
    left.cancel()
    assert [ahead.take(batch) is None for batch in (one, other, third, fourth, other)] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert calls == [16]
    ahead.begin(one)
    ahead.close()
    assert ahead.take(one) is None


def test_neighbours_are_read_by_themselves() -> None:
    ahead, _ = ahead_of()
    assert ahead.begin(np.arange(5, 90)) is None
    assert ahead.begin(np.asarray([5, 6, 8, 7])) is not None
    assert ahead.begin(np.empty(0, np.int64)) is None


def test_a_call_that_fails_leaves_each_batch_to_whoever_takes_it() -> None:
    def fails(records: np.ndarray) -> list[bytes]:
        raise OSError(f"{len(records)} records")

    ahead, _ = ahead_of(read=fails)
    batches = scattered(6)
    for batch in batches:
        ahead.begin(batch)
    assert [ahead.take(batch) for batch in batches] == [None] * 6


# -- ranges ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 7, 16, 40, 499])
def test_ranges_and_rows_in_turn_are_the_records_of_the_file(paths: list[str], step: int) -> None:
    reader = FileReader(paths[0])
    for start in range(0, 480, step):
        rows = list(range(start, min(start + step, 500)))
        assert reader.read(rows) == [record(row) for row in rows]
        if start % 3 == 0:
            assert reader.read([start, 3, start]) == [record(start), record(3), record(start)]
    reader.close()


def test_ranges_in_sequence_are_read_by_large_tasks_and_one_file_stays_open(paths: list[str]) -> None:
    reader = FileReader(paths[0])
    assert not reader._has_large_buffer
    for start in range(0, 100, 20):
        reader.read(list(range(start, start + 20)))
    assert reader._has_large_buffer
    reader.read([4, 2])
    assert not reader._has_large_buffer
    reader.read(list(range(20)))
    reader.read(list(range(20, 40)))
    assert not reader._has_large_buffer  # back and forth costs an opening each time
    reader.close()
