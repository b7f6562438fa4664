"""What a worker process runs: it reads records for the `Workers` of another process, which it never outlives."""

import multiprocessing
import os
import pickle
import threading
import time
import traceback
from dataclasses import dataclass
from mmap import mmap
from multiprocessing.connection import Connection
from multiprocessing.spawn import prepare
from typing import Any, Final

from ._shared_batches import SharedBatches
from .spec import ElementSpec, check_batch

NAME: Final = "datarax-worker"
PROGRAM: Final = """\
import mmap, pickle, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that is worked for, which ends this one
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # blocked until it was ignored
start = mmap.mmap({start}, 0, access=mmap.ACCESS_READ)
sys.path[:] = pickle.load(start)
from datarax_core._worker_process import main
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


def main(start: mmap, connection_file: int, memory_file: int, parent: int) -> None:
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
    def __init__(self, start: mmap, memory_file: int) -> None:
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
