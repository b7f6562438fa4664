"""Jobs that two threads share: each is done once, errors reach whoever waits, and the thread ends."""

import threading
import time
from collections.abc import Callable

import pytest

from datarax_core.workers.beside import Beside, Job


def ended(name: str) -> bool:
    for _ in range(200):
        if not any(thread.name == f"datarax-{name}" for thread in threading.enumerate()):
            return True
        time.sleep(0.01)
    return False


def test_each_job_is_done_once_by_whichever_thread_comes_first() -> None:
    beside, done, by = Beside("jobs"), [], set()

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            time.sleep(0.001)
            done.append(number)
            by.add(threading.get_ident())

        return run

    jobs = [Job(work(number)) for number in range(40)]
    for job in jobs:
        beside.add(job)
    for job in jobs:
        beside.finish(job)
        assert job.is_over
    assert sorted(done) == list(range(40))
    assert len(by) == 2
    beside.close()
    assert ended("jobs")


def test_an_error_is_raised_for_the_job_that_raised_it() -> None:
    beside = Beside("errors")

    def fail() -> None:
        raise ValueError("this job fails")

    jobs = [Job(lambda: None), Job(fail), Job(lambda: None)]
    for job in jobs:
        beside.add(job)
    beside.finish(jobs[0])
    with pytest.raises(ValueError, match="this job fails"):
        beside.finish(jobs[1])
    beside.finish(jobs[2])
    del beside
    assert ended("errors")


def test_a_job_that_was_left_is_not_done() -> None:
    beside, done = Beside("left"), []
    job = Job(lambda: done.append(1))
    job.is_left = True
    beside.add(job)
    beside.finish(job)
    assert not done
    beside.close()
    beside.add(again := Job(lambda: done.append(2)))  # the thread starts again
    beside.finish(again)
    assert done == [2]
    beside.close()
    assert ended("left")


def test_the_owner_does_all_where_the_system_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("datarax_core.workers.beside.run_in_thread", refuse)
    beside, done = Beside("none"), []
    jobs = [Job(lambda number=number: done.append(number)) for number in range(3)]
    for job in jobs:
        beside.add(job)
    for job in jobs:
        beside.finish(job)
    assert done == [0, 1, 2]
