"""The number of threads that read: added where reading waits and while they pay, taken away where fewer do as well."""

import pickle

import pytest

from datarax_core.workers.thread_count import MOST_THREADS, Reading, ThreadCount


def batches(
    count: ThreadCount,
    number: int,
    *,
    wait: float,
    work: float = 1e-5,
    rows: int = 64,
    most: int = 1000,
    is_parallel: bool = False,
) -> None:
    """Note batches of a source that waits and works so long for each row, and answers at most so many threads at once."""
    for _ in range(number):
        count.note_wait()
        busy = 1.0 if is_parallel else max(1.0, count.threads * work / (wait + work))
        seconds = wait * max(1.0, count.threads / most) + work * busy
        count.note(
            Reading(rows, rows * seconds, rows * work, waits=rows if wait else 0), rows * seconds / count.threads
        )


def test_a_fixed_number_stays() -> None:
    count = ThreadCount(4)
    batches(count, 50, wait=0.02)
    assert (count.threads, f"{count.waiting:.2f}") == (4, "1.00")
    assert not count.is_measured_now()


def test_threads_are_added_where_reading_waits() -> None:
    count = ThreadCount("auto")
    batches(count, 1, wait=0.02)
    assert count.threads > 8, "at once, since that batch took more than a second"
    batches(count, 40, wait=0.02)
    assert count.threads == MOST_THREADS
    assert count.describe() == "the reader waits 100% of the time: 32 threads"
    assert count.as_dict()["threads"] == MOST_THREADS


def test_one_thread_reads_what_does_not_wait() -> None:
    count = ThreadCount("auto")
    batches(count, 100, wait=0.0, work=1e-3)
    assert count.threads == 1
    assert count.describe() == "the reader waits 0% of the time: 1 thread"


def test_threads_use_the_cores_where_reading_releases_the_interpreter_lock() -> None:
    count = ThreadCount("auto", cores=4)
    batches(count, 40, wait=0.0, work=1e-3, is_parallel=True)
    assert count.threads == 4
    assert count.describe() == "the reader works on several cores: 4 threads"


def test_cores_that_do_not_pay_are_left() -> None:
    count = ThreadCount("auto", cores=4)
    batches(count, 100, wait=0.0, work=1e-3)
    assert count.threads == 1


def test_losing_the_processor_to_others_is_no_wait() -> None:
    count = ThreadCount("auto")
    for _ in range(20):
        count.note_wait()
        count.note(Reading(64, seconds=0.1, worked=0.01, waits=0), 0.1)
    assert count.threads == 1


def test_threads_that_do_not_pay_are_taken_back() -> None:
    count = ThreadCount("auto")
    batches(count, 12, wait=0.02, most=1)
    assert count.threads == 1
    tried = 0
    for _ in range(200):
        before = count.threads
        batches(count, 1, wait=0.02, most=1)
        tried += count.threads > before
    assert tried <= 2, "and are tried again later, less and less often"


def test_threads_are_kept_once_the_loop_does_not_wait_any_more() -> None:
    count = ThreadCount("auto")
    batches(count, 1, wait=0.02)
    tried = count.threads
    for _ in range(50):
        count.note(Reading(64, 64 * 0.02, 64e-5, waits=64), 64 * 0.02)  # as slow as one, since little was asked for
    assert count.threads == tried > 1


def test_fewer_threads_are_kept_if_they_are_as_quick() -> None:
    count = ThreadCount("auto")
    batches(count, 40, wait=0.02, most=8)
    assert count.threads >= 8
    batches(count, 400, wait=0.02, most=8)
    assert count.threads == 8


def test_a_source_that_has_become_quick_is_read_by_one_thread_again() -> None:
    count = ThreadCount("auto")
    batches(count, 20, wait=0.02)
    assert count.threads > 1
    batches(count, 64, wait=0.0, work=1e-6)
    assert count.threads == 1


def test_quick_batches_are_rarely_measured() -> None:
    count, measured = ThreadCount("auto"), 0
    for _ in range(1000):
        if count.is_measured_now():
            measured += 1
            count.note(Reading(64, 1e-4, 1e-4), 1e-4)
    assert measured < 20


@pytest.mark.parametrize("asked", [3, "auto"])
def test_a_pickle_keeps_what_was_asked_for_and_forgets_what_was_measured(asked: int | str) -> None:
    count = ThreadCount(asked, cores=2)  # type: ignore[arg-type]  # of the parameters
    batches(count, 30, wait=0.02)
    twin = pickle.loads(pickle.dumps(count))  # noqa: S301 - made here
    assert (twin.asked, twin.cores, twin.waiting) == (asked, 2, None)
