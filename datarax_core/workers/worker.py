"""What a worker process runs, and the memory that it shares with the process it works for."""

import math
import mmap
import multiprocessing
import os
import pickle
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.spawn import prepare
from typing import Any, Final

import jax
import numpy as np

from datarax_core.records.narrowing import ALIGNMENT, aligned_empty
from datarax_core.records.spec import Batch, ElementSpec, check_batch, named_fields


class SharedBatches:
    """Room for ``blocks`` batches of up to ``rows`` records each, and for the record indices that they are made of.

    Memory: ``blocks * rows`` records, of which only what was ever written takes room. It has no name: it is gone with the
    last process that maps it, however that process ends.

    Args:
        spec: Element spec of the records. Fields of Python objects find no room here, and are handed over otherwise.
        file: An open `shared_file` of at least `size` bytes.
    """

    def __init__(self, spec: ElementSpec, rows: int, blocks: int, file: int) -> None:
        leaves, self._form = jax.tree.flatten(spec)
        self._names = list(named_fields(spec))
        memory = np.frombuffer(mmap.mmap(file, self.size(spec, rows, blocks)), np.uint8)
        self._blocks = [_Block(memory[part], leaves, rows) for part in _parts(_block_size(leaves, rows), blocks)]

    @staticmethod
    def size(spec: ElementSpec, rows: int, blocks: int) -> int:
        """Bytes of all blocks."""
        return blocks * _block_size(jax.tree.leaves(spec), rows)

    def indices(self, block: int) -> np.ndarray:
        """int64 (rows,): where the record indices of a batch are left for those who read its records."""
        return self._blocks[block].indices

    def write(self, block: int, start: int, batch: Batch) -> dict[int, np.ndarray]:
        """Put a batch into rows ``start ...``; returns the fields that find no room, by their number in the spec."""
        fields = named_fields(batch)
        homeless = {}
        for number, (name, column) in enumerate(zip(self._names, self._blocks[block].columns, strict=True)):
            rows = np.asarray(fields[name])
            if column is None:
                homeless[number] = rows
            else:
                column[start : start + len(rows)] = rows
        return homeless

    def read(self, block: int, size: int, homeless: dict[int, list[np.ndarray]]) -> Batch:
        """A copy of the first ``size`` rows, in new arrays that a device can take over; the other fields are put together."""
        leaves = []
        for number, column in enumerate(self._blocks[block].columns):
            if column is None:
                leaves.append(np.concatenate(homeless[number]))
                continue
            rows = aligned_empty((size, *column.shape[1:]), column.dtype)
            rows[...] = column[:size]
            leaves.append(rows)
        return jax.tree.unflatten(self._form, leaves)


def shared_file(size: int) -> int:
    """A file descriptor of ``size`` bytes of memory, for `SharedBatches` in this process and its children to map."""
    if hasattr(os, "memfd_create"):  # not in /dev/shm, of which containers have 64 MiB
        file = os.memfd_create("datarax")
    else:
        with tempfile.TemporaryFile() as unnamed:
            file = os.dup(unnamed.fileno())
    os.ftruncate(file, max(1, size))
    return file


class _Block:
    """One block as arrays: indices, and a column for each field that has room."""

    def __init__(self, memory: np.ndarray, leaves: list[jax.ShapeDtypeStruct], rows: int) -> None:
        self.indices, end = _placed(memory, 0, (rows,), np.dtype(np.int64))
        self.columns: list[np.ndarray | None] = []
        for leaf in leaves:
            column = None
            if not leaf.dtype.hasobject:
                column, end = _placed(memory, end, (rows, *leaf.shape), leaf.dtype)
            self.columns.append(column)


def _placed(memory: np.ndarray, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[np.ndarray, int]:
    """(an array at ``start``, where the next one starts)."""
    size = math.prod(shape) * dtype.itemsize
    return np.ndarray(shape, dtype, memory[start : start + size]), start + _padded(size)


def _block_size(leaves: list[jax.ShapeDtypeStruct], rows: int) -> int:
    held = [leaf for leaf in leaves if not leaf.dtype.hasobject]
    return _padded(8 * rows) + sum(_padded(rows * math.prod(leaf.shape) * leaf.dtype.itemsize) for leaf in held)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _parts(size: int, count: int) -> list[slice]:
    return [slice(number * size, (number + 1) * size) for number in range(count)]


NAME: Final = "datarax-worker"

PROGRAM: Final = """\
import mmap, pickle, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that is worked for, which ends this one
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # blocked until it was ignored
start = mmap.mmap({start}, 0, access=mmap.ACCESS_READ)
sys.path[:] = pickle.load(start)
from datarax_core.workers.worker import main
main(start, {connection}, {memory}, {parent})
"""

_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What a worker has to know before it can unpickle its source."""

    process: dict[str, Any]
    spec: ElementSpec
    rows: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Request:
    """Read the records whose indices stand in rows ``start .. stop`` of a block, into these rows of it."""

    block: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request: rows are in their block, unless there is an error, and what has no room there is here.

    Attributes:
        homeless: Pickled: arrays by the number of their field.
        substituted: How many records the source substituted meanwhile.
        error: The pickled exception, or None.
        traceback: The error's traceback, as text.
        is_last: Whether the process ends now, because the source did not arrive in it.
    """

    homeless: bytes = b""
    substituted: int = 0
    error: bytes | None = None
    traceback: str = ""
    is_last: bool = False


def is_worker() -> bool:
    """Whether this process is one."""
    return multiprocessing.current_process().name == NAME


def main(start: mmap.mmap, connection_file: int, memory_file: int, parent: int) -> None:
    """Serve requests until nobody is left to make any."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    connection = Connection(connection_file)
    try:
        reader = _Reader(start, memory_file)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to whoever started this process
        connection.send(_failure(error, is_last=True))
        return
    try:
        while True:
            connection.send(reader.read(connection.recv()))
    except (EOFError, ConnectionError):  # closed at the other end
        return


class _Reader:
    def __init__(self, start: mmap.mmap, memory_file: int) -> None:
        setting: Setting = pickle.load(start)  # noqa: S301 - from the process that started this one
        multiprocessing.current_process().name = NAME
        prepare(setting.process)
        self._source = pickle.load(start)  # noqa: S301 - likewise
        start.close()
        self._spec = setting.spec
        self._memory = SharedBatches(setting.spec, setting.rows, setting.blocks, memory_file)
        os.close(memory_file)

    def read(self, request: Request) -> Reply:
        indices = self._memory.indices(request.block)[request.start : request.stop].copy()
        before = self._substituted()
        try:
            batch = self._source.get_records(indices)
            check_batch(batch, self._spec, len(indices), origin=self._source.title)
            homeless = pickle.dumps(self._memory.write(request.block, request.start, batch))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to whoever asked
            return _failure(error, substituted=self._substituted() - before)
        return Reply(homeless, self._substituted() - before)

    def _substituted(self) -> int:
        return int(self._source.get_operation_stats()["skipped_count"])


def _failure(error: BaseException, *, substituted: int = 0, is_last: bool = False) -> Reply:
    text = "".join(traceback.format_exception(error)).rstrip()
    try:
        pickled = pickle.dumps(error)
        if type(pickle.loads(pickled)) is not type(error):  # noqa: S301 - made a line above
            raise TypeError  # noqa: TRY301 - as if it could not be pickled
    except Exception:  # noqa: BLE001 - an exception may refuse this in any way
        instead = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            instead.add_note(note)
        pickled = pickle.dumps(instead)
    return Reply(substituted=substituted, error=pickled, traceback=text, is_last=is_last)


def _end_with(parent: int) -> None:
    """End this process, whatever it is doing, when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)
