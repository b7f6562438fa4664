"""Batches of records that lie on a CPU device, gathered by NumPy: as the compiled gather makes them, with less work."""

import functools
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, TypeAlias

import jax
import numpy as np

from datarax_core.background import usable_cores
from datarax_core.devices.placement import Putter, default_device
from datarax_core.order.reader import OrderReader
from datarax_core.records.buffers import Buffers
from datarax_core.records.gathers import ALIGNMENT
from datarax_core.records.spec import Batch
from datarax_core.records.tables import HostTable, TakesRows, host_view
from datarax_core.workers.beside import Beside, Job

Wanted: TypeAlias = tuple[int, int, int]
"""(start, size, version) of a batch."""

_WORTH_A_THREAD: Final = 1 << 17
"""Bytes of a batch from which on a thread gathers some beside the loop: 15 us of copying, as much as handing one over."""

_GROUP_BYTES, _GROUP = 1 << 23, 8
"""Bytes and batches that are gathered at once, at most: so one thread waits less often for the other's lock."""

_LARGE: Final = 1 << 16
"""Bytes of a field from which on a job gathers it."""

_LEAST_AHEAD: Final = 2
"""Groups that are gathered ahead at least, so that two threads are busy."""

_COMPARED_AFTER: Final = 1.0
"""Seconds that a loop waits for batches after which the compiled gather is compiled and tried."""

_COMPARED: Final = 8
"""Batches that are gathered in either way to compare them, three times."""

_MUCH_QUICKER: Final = 0.8
"""The part of NumPy's time that the compiled gather may take at most to be chosen."""


class HostGather:
    """Gathers batches from the columns of a device source on the CPU, some ahead, on two threads.

    A batch is the very same as that of the compiled gather: a copy of rows. NumPy takes two thirds of the time of XLA (of 256
    records of 3 KiB, 85 us and 125 us of one core; jax 0.10.2, NumPy 2.4), dispatches no program, and compiles none. XLA may
    still be quicker: for large batches on many cores, and for many small fields, of which each takes 10 us here and 4 us in a
    program. Once a loop has waited for batches for a second, the two are compared, and the quicker one stays, in this process,
    for batches of that shape.

    Small batches are gathered a few at a time, and are parts of one array then, which stays as long as any of them.

    One thread takes batches, as a loop does.

    Args:
        table: The columns.
        views: `host_view` of each.
        gather: (gather, arrays) of the compiled step, for comparing.
        held: Memory of batches, by field and shape, that loops before this one used, and that those after it will use.
        rows_of: Returns the rows of the columns at record indices.
        ahead: Batches that are gathered ahead.
        size: Rows of a batch, of most.
    """

    def __init__(
        self,
        table: HostTable,
        views: list[np.ndarray],
        gather: tuple[Callable[..., Any], Any],
        held: dict[Any, Buffers],
        *,
        rows_of: Callable[[np.ndarray], np.ndarray],
        ahead: int,
        size: int,
    ) -> None:
        self._table = table
        self._views = views
        self._gather = gather
        self._rows_of = rows_of
        self._put = Putter(table.columns[0]).put
        self._rows = [(column.shape[1:], column.dtype) for column in table.columns]
        self._held = held
        self._buffers: dict[tuple[int, int], Buffers] = {}
        row_bytes = [view.nbytes // len(view) for view in views]
        self._bytes = sum(row_bytes) * size
        is_large = self._bytes >= _WORTH_A_THREAD and usable_cores() > 1
        self._beside = Beside("gather") if is_large else None
        is_aligned = not any(width * size % ALIGNMENT for width in row_bytes)
        self._together = min(_GROUP, max(1, _GROUP_BYTES // max(self._bytes, 1))) if is_aligned else 1
        self._groups_ahead = max(_LEAST_AHEAD, -(-ahead // self._together)) if self._together > 1 else ahead
        self._size = size
        self._groups: deque[_Group] = deque()
        self._waited = 0.0
        self._slower: dict[int, bool | None] = {}

    def batch(
        self, wanted: Wanted, order: OrderReader, size_at: Callable[[int], int]
    ) -> tuple[Batch, np.ndarray] | None:
        """Return (batch, its record indices), and begin those that follow; None if the compiled gather is the quicker one.

        Args:
            wanted: The batch.
            order: The order that is read now.
            size_at: Returns the size of the batch at a position; 0 behind the end of the run.
        """
        groups = self._groups
        try:
            if (not groups or not groups[0].served) and self._is_slower(wanted, order):
                self._leave()
                return None
            began = perf_counter()
            made = self._next(wanted, order, size_at)
        except BaseException:  # an interruption as well, which may have lost a job on its way
            self._leave()
            raise
        self._waited += perf_counter() - began
        return made

    def close(self) -> None:
        """End the thread, and leave the batches that were gathered ahead."""
        self._leave()
        if self._beside is not None:
            self._beside.close()
        for buffers in self._held.values():
            buffers.rest()

    def _next(self, wanted: Wanted, order: OrderReader, size_at: Callable[[int], int]) -> tuple[Batch, np.ndarray]:
        groups = self._groups
        if not groups or groups[0].following != wanted:  # the order changed, or somebody else served a batch
            self._leave()
            groups.append(self._new(wanted, order, size_at))
        group = groups[0]
        if not group.served:
            self._wait_for(group, order, size_at)
        made = self._placed(group)
        if group.served == group.count:
            groups.popleft()
        return made

    def _leave(self) -> None:
        for group in self._groups:
            group.job.is_left = True
        self._groups.clear()

    def _wait_for(self, group: "_Group", order: OrderReader, size_at: Callable[[int], int]) -> None:
        """Return once the first group is gathered, and begin those that follow it."""
        groups = self._groups
        if self._beside is None:
            group.job.run()
            group.job.wait()
            return
        if not group.is_begun:
            self._begin(group)
        while len(groups) <= self._groups_ahead:
            position, _, version = groups[-1].end
            if not (size := size_at(position)):
                break
            following = self._new((position, size, version), order, size_at)
            groups.append(following)
            self._begin(following)
        self._beside.finish(group.job)

    def _begin(self, group: "_Group") -> None:
        group.is_begun = True
        self._beside.add(group.job)  # type: ignore[union-attr]  # asked before

    def _new(self, wanted: Wanted, order: OrderReader, size_at: Callable[[int], int]) -> "_Group":
        start, size, _ = wanted
        indices, count = order.take(start, size), 1
        if self._groups and size == self._size:  # the first batch is waited for, and comes alone
            most = min(self._together, order.held(start) // size)
            while count < most and size_at(start + count * size) == size:
                count += 1
            if count > 1:
                indices = order.take(start, count * size)
        rows = self._rows_of(indices)
        fields: list[np.ndarray] = []
        large = []
        for number, view in enumerate(self._views):
            field = self._memory(number, len(rows)).new()
            if field.nbytes < _LARGE:
                field[...] = view[rows]  # np.take would let go of the interpreter's lock, and wait for it
            else:
                large.append((view, field))
            fields.append(field)
        return _Group(wanted, count, indices, rows, fields=fields, large=large)

    def _memory(self, number: int, rows: int) -> Buffers:
        known = self._buffers.get((number, rows))
        if known is None:
            view = self._views[number]
            shape = rows, *view.shape[1:]
            key = number, shape, view.dtype.str
            known = self._held.get(key)
            if known is None:
                known = self._held[key] = Buffers(shape, view.dtype, kept=self._groups_ahead + 2)
            self._buffers[number, rows] = known
        return known

    def _placed(self, group: "_Group") -> tuple[Batch, np.ndarray]:
        """Return the next batch of a group, and its record indices."""
        size, put = group.size, self._put
        rows = slice(group.served * size, (group.served + 1) * size)
        batch = self._table.arranged(
            [
                put(field[rows].view(dtype).reshape(size, *shape))
                for field, (shape, dtype) in zip(group.fields, self._rows, strict=True)
            ]
        )
        group.serve()
        return batch, group.indices[rows]

    # -- the comparison with the compiled gather ------------------------------------------------------------------------

    def _is_slower(self, wanted: Wanted, order: OrderReader) -> bool:
        """Return whether NumPy was found to be slower for such batches; found out once a loop has waited long enough."""
        start, size, _ = wanted
        if (known := self._slower.get(size)) is None and (size not in self._slower or self._waited > _COMPARED_AFTER):
            key = (size, *self._rows)
            known = self._slower[size] = _found_slower.get(key)
        if known is None and self._waited > _COMPARED_AFTER:
            first = order.take(start, size)
            count = max(1, min(_COMPARED, order.held(start) // size))
            known = self._compare(order.take(start, count * size) if count > 1 else first, size)
            if len(_found_slower) >= _MOST_FOUND:
                _found_slower.clear()
            _found_slower[key] = self._slower[size] = known
        return bool(known)

    def _compare(self, indices: np.ndarray, size: int) -> bool:
        """Return whether the compiled gather is much quicker, by gathering the batches at ``indices`` in either way."""
        self._leave()
        order = OrderReader(lambda start, count: indices[start : start + count].copy(), capacity=len(indices))
        gather, arrays = self._gather
        run = jax.jit(lambda arrays, rows: gather(arrays, rows))  # noqa: PLW0108 - jax refers to it weakly
        starts = range(0, len(indices), size)

        def size_at(position: int) -> int:
            return size if position < len(indices) else 0

        def here() -> list[Batch]:
            return [self._next((start, size, -1), order, size_at)[0] for start in starts]

        def compiled() -> list[Any]:
            return [run(arrays, indices[start : start + size]) for start in starts]

        times: tuple[list[float], list[float]] = [], []
        for _ in range(4):  # the first time, the program is compiled
            for way, found in zip((here, compiled), times, strict=True):
                began = perf_counter()
                jax.block_until_ready(way())
                found.append(perf_counter() - began)
        return min(times[1][1:]) < _MUCH_QUICKER * min(times[0][1:])


class _Group:
    """Batches of one size that are gathered at once: fields of all their rows, of which a job fills the large ones."""

    __slots__ = ("count", "end", "fields", "following", "indices", "is_begun", "job", "served", "size")

    def __init__(
        self,
        first: Wanted,
        count: int,
        indices: np.ndarray,
        rows: np.ndarray,
        *,
        fields: list[np.ndarray],
        large: list[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        start, self.size, version = self.following = first
        self.count = count
        self.end = start + count * self.size, self.size, version
        self.indices, self.fields = indices, fields
        self.served = 0
        self.is_begun = False
        self.job = Job(functools.partial(_take_all, rows, large))

    def serve(self) -> None:
        """Note that the batch `following` was served."""
        start, size, version = self.following
        self.served += 1
        self.following = start + size, size, version


def _take_all(rows: np.ndarray, large: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for view, field in large:
        np.take(view, rows, axis=0, out=field, mode="clip")  # mode="raise" would copy once more


_MOST_FOUND: Final = 256

_found_slower: Final[dict[Any, bool]] = {}
"""Whether the compiled gather was found to be quicker than NumPy's, by size and fields of a batch."""


def host_gather(
    gather: Any, arrays: Any, held: dict[Any, Buffers], *, default: bool, **options: Any
) -> HostGather | None:
    """Return a `HostGather` of what a compiled step gathers; None if it does more than that, or not on one CPU device.

    Args:
        gather: The function with which the compiled step reads records.
        arrays: Its arrays.
        held: Memory of batches of the same pipeline.
        default: Whether batches go to the default device.
        options: Of `HostGather`.
    """
    looks_at_values = any(getattr(jax.config, name, False) for name in ("jax_debug_nans", "jax_debug_infs"))
    if not isinstance(gather, TakesRows) or looks_at_values:
        return None
    table = gather.on_host(arrays)
    if table is None or not table.columns:
        return None
    views = [host_view(column) for column in table.columns]
    known = [view for view in views if view is not None]
    devices = {device for column in table.columns for device in column.devices()}
    if len(known) < len(views) or len(devices) > 1:
        return None
    if default and devices != {default_device()}:
        return None
    return HostGather(table, known, (gather, arrays), held, **options)
