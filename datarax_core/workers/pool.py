"""Records read in worker processes, for sources whose decoding is Python: the same batches, on several cores."""

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

from datarax_core.order.numbers import whole_number
from datarax_core.records.spec import Batch
from datarax_core.sources.columns import RecordCache
from datarax_core.sources.source import DataSourceModule

from .processes import Crew, pickled_source
from .worker import Reply, Request, Setting, is_worker

_NO_BLOCK: Final = -1


@dataclass(slots=True, eq=False)
class Ticket:
    """A batch that is under way; `Workers.result` gives it."""

    indices: np.ndarray
    wanted: np.ndarray
    cache: RecordCache | None
    block: int = _NO_BLOCK
    waiting: deque[int] = field(default_factory=deque)
    replies: list[Reply] = field(default_factory=list)
    batch: Batch = None
    error: BaseException | None = None
    is_done: bool = False

    def forget_replies(self) -> None:
        """Back to a batch that nobody was asked for."""
        self.block = _NO_BLOCK
        self.waiting.clear()
        self.replies.clear()


class Workers:
    """``source.fetch``, with ``get_records`` run in worker processes.

    Each batch is cut in as many parts as there are workers, who write their rows into memory that this process sees and
    copies once, into arrays that a device can take over. Batches that are begun ahead keep the workers busy meanwhile. The
    processes are started here (1.5 s, during which this process goes on) and hold a copy of the source each; what a
    ``cacheable`` source keeps is kept in this process. Any thread may call any method.

    Memory: ``ahead + 1`` batches, shared, and ``count`` times what the source holds and imports.

    Args:
        source: One that the host reads by index. It must pickle, and its classes must be importable.
        count: How many processes.
        batch_size: Records of the largest batch.
        ahead: How many batches are read ahead of the one that is waited for; more may be begun, and are read later.

    Raises:
        TypeError: ``source`` or something that it holds does not pickle; names it.
        ValueError: ``source`` is a stream, or its records are on the device.
        RuntimeError: This is a worker process itself.
    """

    def __init__(self, source: DataSourceModule, count: int, *, batch_size: int, ahead: int = 2) -> None:
        _require_host(source)
        _require_no_worker(source)
        self._count = whole_number("workers", count, at_least=1)
        self._source = source
        self._pickled, ready = pickled_source(source)
        self._setting = Setting(
            process=ready,
            spec=source.element_spec(),
            rows=whole_number("batch_size", batch_size, at_least=1),
            blocks=whole_number("ahead", ahead, at_least=0) + 1,
        )
        self._turn = threading.RLock()  # of the one thread that waits for replies
        self._lock = threading.RLock()  # of what follows, held for moments
        self._under_way: deque[Ticket] = deque()
        self._free: list[int] = []
        self._is_closed = False
        self._crew: Crew | None = None
        self._started()

    def reads(self, source: DataSourceModule) -> bool:
        """Whether ``source`` is the one that the processes have a copy of."""
        return self._source is source

    def fetch(self, indices: np.ndarray) -> Batch:
        """The records at ``indices``, as ``source.fetch(indices)`` gives them; `begin` and `result` say what it raises."""
        return self.result(self.begin(indices))

    def begin(self, indices: np.ndarray) -> Ticket:
        """Have the records at ``indices`` read after all that was begun before; returns at once.

        Raises:
            ValueError: More records than ``batch_size``.
            RuntimeError: These workers are closed.
        """
        if len(indices) > self._setting.rows:
            raise ValueError(
                f"{len(indices)} records were asked for, and these workers have room for batches of {self._setting.rows}; "
                "build them with a larger batch_size"
            )
        with self._lock:
            if self._is_closed:
                raise self._closed_error()
            cache = self._source.record_cache()
            ticket = Ticket(indices, indices if cache is None else cache.missing(indices), cache)
            if cache is not None and not len(ticket.wanted):
                ticket.is_done = True
                return ticket
            self._under_way.append(ticket)
            with self._in_step():
                self._ask()
            return ticket

    def result(self, ticket: Ticket) -> Batch:
        """The batch that `begin` gave ``ticket`` for, waited for; an interruption while waiting loses nothing.

        Raises:
            WorkerError: A worker process ended. Batches that were begun later are read by new ones.
            RuntimeError: These workers were closed meanwhile.
            Whatever ``get_records`` raised, with the worker's traceback in a note.
        """
        with self._turn:
            while not ticket.is_done:
                self._advance()
        if ticket.error is not None:
            raise ticket.error
        return ticket.batch if ticket.cache is None else ticket.cache.take(ticket.indices)

    def close(self) -> None:
        """End the processes and free the memory; they also end when this object is dropped, and with this process."""
        self._is_closed = True
        if not self._turn.acquire(blocking=False):
            if (crew := self._crew) is not None:
                crew.kill()  # whoever waits for it has the turn
            self._turn.acquire()
        try:
            with self._lock:
                self._end_crew()
                while self._under_way:
                    self._fail_first(self._closed_error())
        finally:
            self._turn.release()

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _started(self) -> Crew:
        if self._crew is None:
            self._crew = Crew(self._source.title, self._pickled, self._setting, self._count)
            self._finalizer = weakref.finalize(self, self._crew.end)
            self._free = list(range(self._setting.blocks))
        return self._crew

    def _end_crew(self) -> None:
        if self._crew is not None:
            self._crew = None
            for ticket in self._under_way:
                ticket.forget_replies()
            self._finalizer()

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """What is not done to its end leaves replies that nobody waits for, or a wait for none: start anew instead."""
        try:
            yield
        except BaseException:  # an interruption above all
            self._end_crew()
            raise

    def _ask(self) -> None:
        """Hand out the batches that are under way, as far as there is room."""
        crew = self._started()
        for ticket in self._under_way:
            if not self._free:
                return
            if ticket.block != _NO_BLOCK:
                continue
            ticket.block = self._free.pop()
            crew.memory.indices(ticket.block)[: len(ticket.wanted)] = ticket.wanted
            for worker, (start, stop) in enumerate(_parts(len(ticket.wanted), len(crew))):
                crew.ask(worker, Request(ticket.block, start, stop))
                ticket.waiting.append(worker)

    def _advance(self) -> None:
        """Hear one reply for the batch that was begun first, or hand it over if there are no more; for who has the turn."""
        with self._lock:
            if self._is_closed:
                self._fail_first(self._closed_error())
                return
            ticket = self._under_way[0]
            with self._in_step():
                self._ask()  # again, if processes ended
                if not ticket.waiting:
                    self._take_first()
                    return
            crew, worker = self._started(), ticket.waiting[0]
        crew.wait_for(worker)  # and others may begin batches meanwhile
        with self._lock:
            if crew is not self._crew:
                return
            try:
                with self._in_step():
                    ticket.replies.append(crew.hear(worker))
                    ticket.waiting.popleft()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a source that does not arrive may raise anything
                self._fail_first(self._closed_error() if self._is_closed else error)

    def _take_first(self) -> None:
        ticket, crew = self._under_way[0], self._started()
        failed = next((reply for reply in ticket.replies if reply.error is not None), None)
        if failed is not None:
            ticket.error = crew.error_of(failed)
        else:
            homeless = [pickle.loads(reply.homeless) for reply in ticket.replies]  # noqa: S301 - of processes started here
            columns = {number: [part[number] for part in homeless] for number in homeless[0]}
            ticket.batch = crew.memory.read(ticket.block, len(ticket.wanted), columns)
            if ticket.cache is not None:
                ticket.cache.keep(ticket.wanted, ticket.batch)
        self._source.note_substituted(sum(reply.substituted for reply in ticket.replies))
        self._free.append(ticket.block)
        self._under_way.popleft()
        ticket.is_done = True
        self._ask()

    def _fail_first(self, error: BaseException) -> None:
        ticket = self._under_way.popleft()
        ticket.error, ticket.is_done = error, True

    def _closed_error(self) -> RuntimeError:
        return RuntimeError(f"the workers that read {self._source.title} are closed; build new ones")


def _parts(size: int, count: int) -> list[tuple[int, int]]:
    """(start, stop) of each part: as equal as can be, none empty but that of an empty batch."""
    count = max(1, min(count, size))
    edges = [number * size // count for number in range(count + 1)]
    return list(pairwise(edges))


def _require_host(source: DataSourceModule) -> None:
    if source.access != "host":
        kind = "is a stream" if source.access == "stream" else "has its records on the device"
        raise ValueError(
            f"workers read records that the host reads by index, and {source.title} {kind}; read it with workers=0"
        )


def _require_no_worker(source: DataSourceModule) -> None:
    if is_worker():
        raise RuntimeError(
            f"workers for {source.title} are started in a worker process itself, which imports the main script because the "
            "source's classes are defined there; put what the script does under if __name__ == '__main__':, or move these "
            "classes to a module of their own"
        )
