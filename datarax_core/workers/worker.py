"""The program of a worker process: it unpickles a source and reads the records that it is asked for."""

import mmap
import multiprocessing
import os
import pickle
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.spawn import prepare
from typing import Any, Final

import numpy as np

from datarax_core.order.numbers import Auto
from datarax_core.records.spec import Batch, ElementSpec, check_batch

from .shared_batches import SharedBatches
from .thread_count import Stopwatch, ThreadCount
from .threads import ReadingThreads

PROGRAM: Final = """\
import mmap, pickle, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the parent process, which ends this one
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # blocked until it was ignored
start = mmap.mmap({start}, 0, access=mmap.ACCESS_READ)
sys.path[:] = pickle.load(start)
from datarax_core.workers.worker import main
main(start, {connection}, {memory}, {parent})
"""
"""Python source that starts a worker; its placeholders are file descriptors and the parent's process id."""

PROCESS_NAME: Final = "datarax-worker"

_POLL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Data that a worker needs before it can unpickle its source.

    Attributes:
        preparation: Argument of ``multiprocessing.spawn.prepare``, which makes the source's classes importable.
        spec: Element spec of the source.
        rows: Records of the largest batch.
        blocks: How many batches the shared memory holds.
        threads: How many threads read the rows of a request, as `ThreadCount` takes it.
    """

    preparation: dict[str, Any]
    spec: ElementSpec
    rows: int
    blocks: int
    threads: int | Auto = 1


@dataclass(frozen=True, slots=True)
class Request:
    """Request to read the records whose indices are in rows ``start`` to ``stop`` of a block, into the same rows."""

    block: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Reply:
    """Result of a request; unless ``error`` is set, the rows are in the block.

    Attributes:
        object_fields: Pickled dict of the fields of objects, which shared memory cannot hold, by their number in the spec.
        substituted: How many records the source substituted for this request.
        error: The pickled exception, or None.
        traceback: The exception's traceback, as text.
        is_last: Whether the process ends now, because unpickling the source failed.
    """

    object_fields: bytes = b""
    substituted: int = 0
    error: bytes | None = None
    traceback: str = ""
    is_last: bool = False


def is_worker() -> bool:
    """Return whether this process is a worker process."""
    return multiprocessing.current_process().name == PROCESS_NAME


def main(start: mmap.mmap, connection_file: int, memory_file: int, parent: int) -> None:
    """Serve requests until the connection is closed.

    Args:
        start: The pickled `WorkerSetup`, followed by the pickled source.
        connection_file: File descriptor of the connection that requests come from and replies go to.
        memory_file: File descriptor of the memory of `SharedBatches`.
        parent: Process id of the parent. This process ends when the parent is gone.
    """
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    connection = Connection(connection_file)
    try:
        reader = _Reader(start, memory_file)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the process that started this one reports it
        connection.send(_failure(error, is_last=True))
        return
    try:
        while True:
            connection.send(reader.read(connection.recv()))
    except (EOFError, ConnectionError):  # the parent closed the connection
        return


def _end_with(parent: int) -> None:
    """End this process, whatever it is doing, when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)


class _Reader:
    """The unpickled source, and the shared memory that its records are written to."""

    def __init__(self, start: mmap.mmap, memory_file: int) -> None:
        setup: WorkerSetup = pickle.load(start)  # noqa: S301 - from the process that started this one
        multiprocessing.current_process().name = PROCESS_NAME
        prepare(setup.preparation)
        self._source = pickle.load(start)  # noqa: S301 - from the process that started this one
        start.close()
        self._spec = setup.spec
        self._count = ThreadCount(setup.threads)
        self._threads: ReadingThreads | None = None
        self._memory = SharedBatches(setup.spec, setup.rows, setup.blocks, memory_file)
        os.close(memory_file)

    def read(self, request: Request) -> Reply:
        indices = self._memory.indices(request.block)[request.start : request.stop].copy()
        before = self._substituted()
        try:
            batch = self._records(indices)
            smaller = self._source.differs_in_shape
            check_batch(batch, self._spec, len(indices), origin=self._source.title, may_be_smaller=smaller)
            object_fields = pickle.dumps(self._memory.write(request.block, request.start, batch))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the process that sent the request raises it
            return _failure(error, substituted=self._substituted() - before)
        return Reply(object_fields, self._substituted() - before)

    def _records(self, indices: np.ndarray) -> Batch:
        """Return the records at ``indices``, read by several threads where reading waits."""
        source = self._source
        if self._count.threads > 1:
            if self._threads is None:
                by_index = getattr(source, "reads_neighbours_together", False)
                self._threads = ReadingThreads(source.get_records, self._count, source.title, by_index=by_index)
            self._count.note_wait()
            return self._threads.fetch(indices)
        if not self._count.is_measured_now():
            return source.get_records(indices)
        watch = Stopwatch(alone=True)
        batch = source.get_records(indices)
        reading = watch.read(len(indices))
        self._count.note_wait()  # the pipeline waits, as far as this process knows
        self._count.note(reading, reading.seconds)
        return batch

    def _substituted(self) -> int:
        return int(self._source.get_operation_stats()["skipped_count"])


def _failure(error: BaseException, *, substituted: int = 0, is_last: bool = False) -> Reply:
    """Return a reply with the error, or with a ``RuntimeError`` of its text and notes if the error does not pickle."""
    text = "".join(traceback.format_exception(error)).rstrip()
    try:
        pickled = pickle.dumps(error)
        if type(pickle.loads(pickled)) is not type(error):  # noqa: S301 - made a line above
            raise TypeError  # noqa: TRY301 - treated like an error that does not pickle
    except Exception:  # noqa: BLE001 - pickling an exception runs its own code, which may raise anything
        instead = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            instead.add_note(note)
        pickled = pickle.dumps(instead)
    return Reply(substituted=substituted, error=pickled, traceback=text, is_last=is_last)
