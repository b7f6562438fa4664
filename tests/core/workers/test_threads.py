"""Threads that read parts of batches: the batch is the same, errors are those of one thread, and no thread is left."""

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core.records import Ragged
from datarax_core.records.gathers import ALIGNMENT
from datarax_core.workers.parts import joined_parts, parts_of
from datarax_core.workers.thread_count import Reading, ThreadCount
from datarax_core.workers.threads import ReadingThreads


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    """After the test, wait until no thread of core is left."""
    yield
    gc.collect()
    deadline = time.monotonic() + 10
    while left := [thread.name for thread in threading.enumerate() if thread.name.startswith("datarax-")]:
        assert time.monotonic() < deadline, left
        threading.Event().wait(0.001)


def records(indices: np.ndarray) -> dict[str, Any]:
    texts = np.array([("t" * int(index % 5)) for index in indices])
    objects = np.empty(len(indices), object)
    objects[:] = [bytes(int(index % 3)) for index in indices]
    ragged = Ragged.from_list([np.arange(index % 4) for index in indices], np.int64, (None,))
    image = np.broadcast_to(indices.astype(np.uint8)[:, None, None], (len(indices), 4, 4))
    return {"id": indices.astype(np.int64), "image": image, "text": texts, "raw": objects, "ragged": ragged}


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, column in one.items():
        values = [each.to_list() if isinstance(each, Ragged) else each.tolist() for each in (column, other[name])]
        assert str(values[0]) == str(values[1]), name


INDICES = np.random.default_rng(0).permutation(1000)[:67]


@pytest.mark.parametrize("by_index", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 5, 100])
def test_parts_make_the_batch_that_one_read_gives(threads: int, *, by_index: bool) -> None:
    reading = ReadingThreads(records, ThreadCount(threads), "a source", by_index=by_index)
    assert_equal(reading.fetch(INDICES), records(INDICES))
    reading.close()


def test_parts_by_index_are_near_one_another() -> None:
    parts = [INDICES[rows] for rows in parts_of(INDICES, 4, by_index=True)]
    assert np.concatenate(parts).tolist() == sorted(INDICES.tolist())
    assert all(isinstance(rows, slice) for rows in parts_of(np.sort(INDICES), 4, by_index=True)), "sorted ones are cut"


def test_a_batch_of_parts_lies_in_memory_that_a_device_takes_over() -> None:
    rows = parts_of(INDICES, 3, by_index=False)
    joined = joined_parts([records(INDICES[part]) for part in rows], rows)
    assert joined["image"].ctypes.data % ALIGNMENT == 0
    assert joined["image"].flags.c_contiguous


def test_batches_ahead_are_under_way_at_once_and_come_in_their_order() -> None:
    barrier = threading.Barrier(4, timeout=30)

    def read(indices: np.ndarray) -> dict[str, Any]:
        barrier.wait()  # passes if parts of both batches are read at once
        return records(indices)

    reading = ReadingThreads(read, ThreadCount(4), "a source", by_index=False)
    begun = [reading.begin(np.arange(start, start + 2), wanted=4) for start in (0, 2)]
    assert [reading.result(pending)["id"].tolist() for pending in begun] == [[0, 1], [2, 3]]
    reading.close()


def test_there_is_room_for_as_many_batches_as_keep_the_threads_busy() -> None:
    go_on = threading.Event()
    reading = ReadingThreads(lambda i: (go_on.wait(30), records(i))[1], ThreadCount(2), "a source", by_index=False)
    begun = []
    while reading.has_room:
        begun.append(reading.begin(np.arange(4), wanted=100))
    assert 2 <= len(begun) <= 4
    go_on.set()
    assert all(len(reading.result(pending)["id"]) == 4 for pending in begun)
    assert reading.has_room
    reading.close()


def test_the_error_is_that_of_the_first_part_that_fails() -> None:
    def read(indices: np.ndarray) -> dict[str, Any]:
        if (bad := indices[indices % 10 == 7]).size:
            time.sleep(0.02 * (20 - bad[0] / 10))  # later ones fail first
            raise OSError(f"record {bad[0]} is bad")
        return records(indices)

    reading = ReadingThreads(read, ThreadCount(4), "a source", by_index=False)
    for _ in range(3):
        with pytest.raises(OSError, match="record 7 is bad"):
            reading.fetch(np.arange(40))
        assert reading.fetch(np.arange(6))["id"].tolist() == list(range(6)), "and the next batch is read"
    reading.close()


def test_whoever_waits_is_told_that_the_threads_were_ended() -> None:
    started, go_on = threading.Event(), threading.Event()

    def read(indices: np.ndarray) -> dict[str, Any]:
        started.set()
        assert go_on.wait(30)
        return records(indices)

    reading = ReadingThreads(read, ThreadCount(2), "the source 'x'", by_index=False)
    errors: list[Exception] = []

    def wait() -> None:
        with pytest.raises(
            RuntimeError, match="the threads that read the source 'x' were ended while a batch was"
        ) as caught:
            reading.fetch(np.arange(8))
        errors.append(caught.value)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert started.wait(30)
    reading.close()
    waiting.join(30)
    go_on.set()
    assert errors
    with pytest.raises(RuntimeError, match="were ended"):
        reading.begin(np.arange(3))


def test_threads_end_when_the_reader_is_dropped_and_parts_that_were_not_begun_are_left_out() -> None:
    reads, go_on = [], threading.Event()

    def read(indices: np.ndarray) -> dict[str, Any]:
        reads.append(len(indices))
        assert go_on.wait(30)
        return records(indices)

    reading = ReadingThreads(read, ThreadCount(2), "a source", by_index=False)
    for _ in range(10):
        reading.begin(np.arange(4))
    while len(reads) < 2:
        threading.Event().wait(0.001)
    del reading
    go_on.set()
    gc.collect()  # the fixture waits for the threads
    assert len(reads) == 2


def test_fewer_threads_read_once_the_number_falls() -> None:
    at_once, most = 0, 0
    lock = threading.Lock()

    def read(indices: np.ndarray) -> dict[str, Any]:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.01)
        with lock:
            at_once -= 1
        return records(indices)

    count = ThreadCount(8)
    reading = ReadingThreads(read, count, "a source", by_index=False)
    reading.fetch(np.arange(16))
    assert most == 8
    count.threads, most = 2, 0
    reading.fetch(np.arange(2))  # the others end behind it
    most = 0
    for pending in [reading.begin(np.arange(8), wanted=1) for _ in range(3)]:
        jax.tree.map(len, reading.result(pending)["id"])
    assert most <= 2
    reading.close()


def test_batches_that_other_threads_began_say_nothing_of_a_number_that_is_tried() -> None:
    count = NotingCount(4)
    reading = ReadingThreads(records, count, "a source", by_index=False)
    begun = [reading.begin(np.arange(8)) for _ in range(3)]
    reading.result(begun[0])
    assert count.noted == [8]
    count.threads = 2
    for pending in begun[1:]:
        reading.result(pending)
    assert count.noted == [8]
    reading.fetch(np.arange(6))
    assert count.noted == [8, 6]
    reading.close()


class NotingCount(ThreadCount):
    """A number of threads that keeps the rows of each batch that it is told of."""

    def __init__(self, asked: int) -> None:
        super().__init__(asked)
        self.noted: list[int] = []

    def note(self, reading: Reading, elapsed: float) -> None:
        self.noted.append(reading.rows)
        super().note(reading, elapsed)
