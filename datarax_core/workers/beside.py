"""Jobs that a thread does beside the thread that asks for them, which does those itself that nobody has begun."""

import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

from datarax_core.background import run_in_thread


class Job:
    """A function that is called once, by whichever thread comes to it first."""

    __slots__ = ("_error", "_over", "_work", "is_left")

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._over = Lock()
        self._over.acquire()
        self.is_left = False
        """Whether nobody asks for the result any more, so that the work is left out."""

    def run(self) -> None:
        """Do the work, and say that it is over, whatever happens."""
        try:
            if not self.is_left:
                self._work()
        except BaseException as error:  # noqa: BLE001 - any error is raised in the thread that asks for the result
            self._error = error
        finally:
            self._over.release()

    @property
    def is_over(self) -> bool:
        """Whether the work is done, or failed."""
        return not self._over.locked()

    def wait(self) -> None:
        """Wait until the work is over; raise its error."""
        with self._over:
            pass
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback holds this frame


class Beside:
    """A thread for work that releases the interpreter's lock, such as large copies, and its owner, who works as well.

    `finish` waits for a job only if that is under way and no other job is left to do: so two threads are busy, and it costs no
    more than the work itself where the other core is not free. The thread is started with the first job, and ends when this
    object is closed or dropped.

    Args:
        name: Name of the thread, behind ``datarax-``.
    """

    def __init__(self, name: str) -> None:
        self._name = f"datarax-{name}"
        self._worker: _Worker | None = None

    def add(self, job: Job) -> None:
        """Let the thread do the job, after those that were added before."""
        if self._worker is None:
            self._worker = worker = _Worker()
            weakref.finalize(self, worker.end).atexit = False  # `background` ends threads at exit, and waits for them
            with suppress(RuntimeError):  # the system starts no more threads: the owner does all jobs
                run_in_thread(worker.run, worker, self._name)
        self._worker.jobs.put(job)

    def finish(self, job: Job) -> None:
        """Return when the job is over; do jobs meanwhile that the thread has not begun. Raises the error of the job."""
        worker = self._worker
        while worker is not None and not job.is_over:
            try:
                other = worker.jobs.get_nowait()
            except Empty:
                break
            if other is None:
                worker.end()
                break
            other.run()
        job.wait()

    def close(self) -> None:
        """End the thread, after the job that it is doing; jobs that nobody has begun are never done."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()


class _Worker:
    """The part of `Beside` that the thread holds. It never holds the `Beside`, which can be dropped while the thread runs."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()

    def run(self) -> None:
        """Do jobs until `end`; the body of the thread."""
        while (job := self.jobs.get()) is not None:
            job.run()
            del job  # a thread that waits holds no batch

    def end(self) -> None:
        """End the thread after the jobs before this call."""
        self.jobs.put(None)
