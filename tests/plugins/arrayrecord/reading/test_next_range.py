"""Ranges that a thread reads while the records before them are decoded: the same records and errors, and no thread is left."""

import gc
import random
import threading
from pathlib import Path

import numpy as np
import pytest
from record_files import damage, ids, record, source_of, write_numbers

from datarax_arrayrecord.reading import next_range, reader
from datarax_arrayrecord.reading.reader import FileReader
from datarax_core import Pipeline, RecordError

RECORDS = 600


@pytest.fixture(autouse=True)
def _short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_RANGE_RECORDS", 24)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write_numbers(tmp_path, [RECORDS])[0]


def opened(path: str) -> FileReader:
    """Return an open file that is not waited for, however busy this machine is: one that is waited for has no thread."""
    file = FileReader(path)
    file._ways.is_slow = False
    return file


def range_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "datarax-range"]


def in_sequence(file: FileReader, stop: int, start: int = 0, step: int = 20) -> None:
    for begin in range(start, stop, step):
        rows = list(range(begin, min(begin + step, stop)))
        assert file.read(rows) == [record(row) for row in rows]


def test_a_file_in_sequence_is_read_by_a_thread_until_its_end(path: str) -> None:
    file = opened(path)
    in_sequence(file, 200)
    assert len(range_threads()) == 1
    in_sequence(file, RECORDS, start=200)
    for thread in range_threads():
        thread.join(10)
    assert not range_threads()
    file.close()


@pytest.mark.parametrize("seed", range(6))
def test_any_walk_over_a_file_reads_its_records(path: str, seed: int) -> None:
    draw, file, at = random.Random(seed), opened(path), 0  # noqa: S311 - no secret
    for _ in range(120):
        if draw.random() < 0.2:
            at = draw.randrange(RECORDS)
        rows = list(range(at, min(at + draw.randint(1, 60), RECORDS)))
        if draw.random() < 0.1:
            rows = draw.choices(range(RECORDS), k=draw.randint(1, 30))
        assert file.read(rows) == [record(row) for row in rows]
        at = (rows[-1] + 1) % RECORDS
    file.close()
    assert not [thread for thread in range_threads() if thread.join(10) or thread.is_alive()]


def test_rows_elsewhere_leave_the_range_that_is_being_read(path: str) -> None:
    file = opened(path)
    in_sequence(file, 100)
    assert file.read([599, 3, 599]) == [record(599), record(3), record(599)]
    in_sequence(file, 200, start=100)
    file.close()


def test_a_file_that_nobody_holds_has_no_thread(path: str) -> None:
    file = opened(path)
    in_sequence(file, 100)
    (thread,) = range_threads()
    del file
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_files_beyond_the_greatest_number_of_threads_are_read_without(path: str) -> None:
    files = [opened(path) for _ in range(20)]
    for file in files:
        in_sequence(file, 80)
    assert len(range_threads()) == next_range._MOST_THREADS
    for file in files:
        in_sequence(file, 120, start=80)
        file.close()


def test_damage_is_an_error_of_its_own_batch(path: str) -> None:
    damage(path, 410)
    pipeline = Pipeline(source=source_of([path]), batch_size=20, num_epochs=1)
    served: list[int] = []
    loop = iter(pipeline)
    for _ in range(20):
        served += ids(next(loop))
    assert served == list(range(400))
    with pytest.raises(RecordError, match="record 410") as raised:
        next(loop)
    assert raised.value.record == 410


def test_a_loop_serves_a_file_in_sequence(path: str) -> None:
    pipeline = Pipeline(source=source_of([path]), batch_size=32, num_epochs=2, drop_last=False)
    found = np.concatenate([ids(batch) for batch in pipeline])
    assert found.tolist() == [*range(RECORDS), *range(RECORDS)]
