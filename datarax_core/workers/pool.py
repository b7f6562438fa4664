"""Reading records in worker processes, for sources that decode in Python: the same batches, on several cores."""

import os
import pickle
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np

from datarax_core.background import require_own_process
from datarax_core.order.numbers import Auto, whole_number
from datarax_core.records.spec import Batch
from datarax_core.sources.columns import RecordCache

from .pickling import WorkerReader, pickled_source
from .processes import WorkerProcesses
from .worker import Reply, Request, WorkerSetup, is_worker

_NO_BLOCK: Final = -1


@dataclass(slots=True, eq=False)
class PendingBatch:
    """A batch that `Workers.begin` has queued; `Workers.result` returns the batch.

    Attributes:
        indices: Record indices of the batch.
        to_read: Those of them that workers read: all, or the ones that ``cache`` does not hold.
        cache: Records that the source keeps, if it is ``cacheable``.
        block: Number of the block of shared memory; `_NO_BLOCK` before the requests are sent.
        awaited: Workers whose replies are due, in the order of the rows.
        replies: Replies received so far.
        batch: The batch of ``to_read``, once it is complete.
        error: Exception to raise instead.
        is_done: Whether ``batch`` or ``error`` is set, or ``cache`` holds all records.
    """

    indices: np.ndarray
    to_read: np.ndarray
    cache: RecordCache | None
    block: int = _NO_BLOCK
    awaited: deque[int] = field(default_factory=deque)
    replies: list[Reply] = field(default_factory=list)
    batch: Batch = None
    error: BaseException | None = None
    is_done: bool = False

    def forget_requests(self) -> None:
        """Return to the state before any request was sent."""
        self.block = _NO_BLOCK
        self.awaited.clear()
        self.replies.clear()


class Workers:
    """Worker processes that run ``get_records`` of a source; `fetch` returns the batches that ``source.fetch`` returns.

    Each batch is cut in as many parts as there are workers. They write their rows into shared memory, which this process
    copies once, into arrays that a device can take over. Batches that are begun ahead keep the workers busy meanwhile. The
    processes are started here (1.5 s, while this process goes on), and each holds a copy of the source; the records that a
    ``cacheable`` source keeps are kept in this process. Any thread may call any method.

    Memory: ``ahead + 1`` batches, shared, and ``count`` times the memory of the source and its imports.

    Args:
        source: A source that the host reads by index. It must pickle, and its classes must be importable.
        count: How many processes.
        batch_size: Records of the largest batch.
        ahead: How many batches are read ahead of the one that is waited for; more may be begun, and are read later.
        threads: How many threads of each process read its part of a batch; "auto" adds them where reading waits.

    Raises:
        TypeError: ``source`` or a part of it does not pickle; names the part.
        ValueError: ``source`` is a stream, or its records are on the device.
        RuntimeError: This process is a worker process itself.
    """

    def __init__(
        self, source: WorkerReader, count: int, *, batch_size: int, ahead: int = 2, threads: int | Auto = 1
    ) -> None:
        _require_host(source)
        _require_no_worker(source)
        self._count = whole_number("workers", count, at_least=1)
        self._source = source
        self._pickled, preparation = pickled_source(source)
        self._setup = WorkerSetup(
            preparation=preparation,
            spec=source.element_spec(),
            rows=whole_number("batch_size", batch_size, at_least=1),
            blocks=whole_number("ahead", ahead, at_least=0) + 1,
            threads=threads,
        )
        self._process = os.getpid()
        self._reply_lock = threading.RLock()  # held by the one thread that waits for replies
        self._state_lock = threading.RLock()  # of the attributes below, held for moments
        self._pending: deque[PendingBatch] = deque()
        self._free_blocks: list[int] = []
        self._is_closed = False
        self._processes: WorkerProcesses | None = None
        self._started_processes()

    def reads(self, source: WorkerReader) -> bool:
        """Return whether ``source`` is the source that the processes have copies of."""
        return self._source is source

    @property
    def has_room(self) -> bool:
        """Whether a batch that is begun now has memory that the workers can write it to."""
        return bool(self._free_blocks) or self._processes is None

    def fetch(self, indices: np.ndarray) -> Batch:
        """Return the records at ``indices``, as ``source.fetch(indices)`` does; raises as `begin` and `result` do."""
        return self.result(self.begin(indices))

    def begin(self, indices: np.ndarray) -> PendingBatch:
        """Queue the records at ``indices`` to be read after all batches that were begun before; returns at once.

        Raises:
            ValueError: ``indices`` are more than ``batch_size``.
            RuntimeError: These workers are closed.
        """
        require_own_process(self._process, f"the workers that read {self._source.title}")
        if len(indices) > self._setup.rows:
            raise ValueError(
                f"{len(indices)} records were asked for, and these workers have room for batches of {self._setup.rows}; "
                "build them with a larger batch_size"
            )
        with self._state_lock:
            if self._is_closed:
                raise self._closed_error()
            cache = self._source.record_cache()
            pending = PendingBatch(indices, indices if cache is None else cache.missing(indices), cache)
            if cache is not None and not len(pending.to_read):
                pending.is_done = True
                return pending
            self._pending.append(pending)
            with self._ending_processes_on_error():
                self._send_requests()
            return pending

    def result(self, pending: PendingBatch) -> Batch:
        """Wait for a batch that was begun, and return it; an interruption while waiting loses nothing.

        Raises:
            WorkerError: A worker process ended. New processes read the batches that were begun later.
            RuntimeError: These workers were closed meanwhile.
            Whatever ``get_records`` raised, with the worker's traceback in a note.
        """
        require_own_process(self._process, f"the workers that read {self._source.title}")
        with self._reply_lock:
            while not pending.is_done:
                self._receive_next()
        if pending.error is not None:
            raise pending.error
        if pending.cache is None:
            return pending.batch
        return pending.cache.taken(pending.indices, pending.to_read, pending.batch)

    def cancel(self, pending: PendingBatch) -> None:
        """Leave a batch that was begun, and whose result nobody asks for; what a worker is reading of it is read."""
        with self._state_lock:
            if pending.block == _NO_BLOCK and pending in self._pending:
                self._pending.remove(pending)

    def close(self) -> None:
        """End the processes and free the memory; this also happens when this object is dropped, and when this process ends."""
        self._is_closed = True
        if os.getpid() != self._process:
            return  # the processes are those of the parent
        if not self._reply_lock.acquire(blocking=False):
            if (processes := self._processes) is not None:
                processes.kill()  # the thread that waits for a reply holds the lock, and then lets it go
            self._reply_lock.acquire()
        try:
            with self._state_lock:
                self._end_processes()
                while self._pending:
                    self._fail_first(self._closed_error())
        finally:
            self._reply_lock.release()

    def _started_processes(self) -> WorkerProcesses:
        """Return the processes; start them if none are running."""
        if self._processes is None:
            self._processes = WorkerProcesses(self._source.title, self._pickled, self._setup, self._count)
            self._finalizer = weakref.finalize(self, self._processes.end)
            self._free_blocks = list(range(self._setup.blocks))
        return self._processes

    def _end_processes(self) -> None:
        if self._processes is not None:
            self._processes = None
            for pending in self._pending:
                pending.forget_requests()
            self._finalizer()

    @contextmanager
    def _ending_processes_on_error(self) -> Iterator[None]:
        """End all processes if the block is cut short: requests and replies no longer match. The next batch starts new ones."""
        try:
            yield
        except BaseException:  # an interruption above all
            self._end_processes()
            raise

    def _send_requests(self) -> None:
        """Send the requests of pending batches, in their order, as long as there are free blocks."""
        processes = self._started_processes()
        for pending in self._pending:
            if not self._free_blocks:
                return
            if pending.block != _NO_BLOCK:
                continue
            pending.block = self._free_blocks.pop()
            processes.memory.indices(pending.block)[: len(pending.to_read)] = pending.to_read
            for worker, (start, stop) in enumerate(_parts(len(pending.to_read), len(processes))):
                processes.send(worker, Request(pending.block, start, stop))
                pending.awaited.append(worker)

    def _receive_next(self) -> None:
        """Receive one reply for the first pending batch, or complete the batch if no reply is due; needs the reply lock."""
        with self._state_lock:
            if self._is_closed:
                self._fail_first(self._closed_error())
                return
            pending = self._pending[0]
            with self._ending_processes_on_error():
                self._send_requests()  # again, if processes ended
                if not pending.awaited:
                    self._complete_first()
                    return
            processes, worker = self._started_processes(), pending.awaited[0]
        processes.wait_for(worker)  # without the state lock, so that other threads may begin batches meanwhile
        with self._state_lock:
            if processes is not self._processes:
                return
            try:
                with self._ending_processes_on_error():
                    pending.replies.append(processes.receive(worker))
                    pending.awaited.popleft()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - unpickling the source may raise anything
                self._fail_first(self._closed_error() if self._is_closed else error)

    def _complete_first(self) -> None:
        """Put the replies of the first pending batch together, and free its block for another."""
        pending, processes = self._pending[0], self._started_processes()
        failed = next((reply for reply in pending.replies if reply.error is not None), None)
        if failed is not None:
            pending.error = processes.error_of(failed)
        else:
            parts = [pickle.loads(reply.object_fields) for reply in pending.replies]  # noqa: S301 - of our own processes
            numbers = {number for part in parts for number in part}
            object_fields = {number: [part.get(number) for part in parts] for number in numbers}
            pending.batch = processes.memory.read(pending.block, len(pending.to_read), object_fields)
            if pending.cache is not None:
                pending.cache.keep(pending.to_read, pending.batch)
        self._source.note_substituted(sum(reply.substituted for reply in pending.replies))
        self._free_blocks.append(pending.block)
        self._pending.popleft()
        pending.is_done = True
        self._send_requests()

    def _fail_first(self, error: BaseException) -> None:
        pending = self._pending.popleft()
        pending.error, pending.is_done = error, True

    def _closed_error(self) -> RuntimeError:
        return RuntimeError(f"the workers that read {self._source.title} are closed; build new ones")


def _require_host(source: WorkerReader) -> None:
    capabilities = source.capabilities
    if capabilities.traceable or not capabilities.random_access:
        reason = "has its records on the device" if capabilities.traceable else "is a stream"
        raise ValueError(
            f"workers read records that the host reads by index, and {source.title} {reason}; read it with workers=0"
        )


def _require_no_worker(source: WorkerReader) -> None:
    if is_worker():
        raise RuntimeError(
            f"workers for {source.title} are started in a worker process itself, which imports the main script because the "
            "source's classes are defined there; put what the script does under if __name__ == '__main__':, or move these "
            "classes to a module of their own"
        )


def _parts(size: int, count: int) -> list[tuple[int, int]]:
    """Return (start, stop) of at most ``count`` parts of nearly equal size; none is empty unless ``size`` is 0."""
    count = max(1, min(count, size))
    edges = [number * size // count for number in range(count + 1)]
    return list(pairwise(edges))
