"""Promises about what is left behind: no memory, no open files, no threads."""

import functools
import gc
import math
import os
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import jax

from datarax_core.sources.source import DataSourceModule

from ._subject import BATCH, Subject, batches
from ._verdict import not_claimed, require

_EPOCHS: Final = 3
_MOST_EPOCHS: Final = 200
_MOST: Final = 600  # records in what counts as an epoch here
_GROWTH: Final = 24 * 1024
_SERVED: Final = 48 * 1024  # bytes of records, at least, of which nothing may be kept
_AT_ONCE: Final = 64
_TURNS: Final = 2
_SECONDS: Final = 10.0


class LeakPromises:
    """A source that is read for days, and then dropped."""

    def test_memory_is_flat_over_epochs(self, subject: Subject) -> None:
        """What was read is not kept, unless the config says ``cacheable``; nor is anything else that grows."""
        epochs = _epochs_that_tell(subject)
        first, source = subject.build(), subject.build()
        for _ in range(_TURNS * epochs + 1):
            _epoch(first, subject)  # what is computed once for all sources is kept by now
        with _what_is_there_left_alone():
            tracemalloc.start()
            try:
                _epoch(source, subject)
                there = [_traced()]
                for _ in range(_TURNS):
                    for _ in range(epochs):
                        _epoch(source, subject)
                    there.append(_traced())
            finally:
                tracemalloc.stop()
        grown = min(after - before for before, after in pairwise(there))  # what has a bound reaches it in one of them
        require(
            grown <= _GROWTH,
            f"{subject.title} promises memory that is flat over epochs, but {epochs} more of them left {grown} bytes "
            f"behind, where {_GROWTH} are plenty; keep nothing of what was read",
        )

    def test_no_file_stays_open(self, subject: Subject) -> None:
        """What a source opened is closed when it is dropped."""
        if not _DESCRIPTORS.exists():
            not_claimed(f"open files are listed in {_DESCRIPTORS}, which this system does not have")
        left = _left_by(subject).files
        require(
            not left,
            f"{subject.title} promises to leave no file open, but after it was dropped there are {', '.join(left)}; close "
            "them in close(), which is called where it exists, or let what holds them be dropped with the source",
        )

    def test_no_thread_is_left(self, subject: Subject) -> None:
        """What a source started ends when it is dropped."""
        left = [thread.name for thread in _left_by(subject).threads if _still_runs(thread)]
        require(
            not left,
            f"{subject.title} promises to leave no thread behind, but after it was dropped there are {', '.join(left)}; end "
            "them in close(), which is called where it exists, or by weakref.finalize",
        )


@dataclass(frozen=True, slots=True)
class Left:
    """What is there after a source was dropped, and was not before it was built."""

    files: list[str]
    threads: set[threading.Thread]


_DESCRIPTORS: Final = Path("/dev/fd")


@contextmanager
def _what_is_there_left_alone() -> Iterator[None]:
    """Has collections of garbage look at what is made from now on: at all of JAX they take longer than the test."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _epochs_that_tell(subject: Subject) -> int:
    """How many epochs it takes to see whether their records are kept."""
    leaves = jax.tree.leaves(subject.source.element_spec())
    record: int = sum(leaf.dtype.itemsize * math.prod(leaf.shape) for leaf in leaves)
    return min(_MOST_EPOCHS, max(_EPOCHS, _SERVED // max(1, record * _in_epoch(subject))))


def _epoch(source: DataSourceModule, subject: Subject) -> None:
    if subject.length is None:
        source.reset()  # it may have ended
    for _ in batches(source, _in_epoch(subject), _AT_ONCE):
        pass


def _in_epoch(subject: Subject) -> int:
    return min(subject.length or _MOST, _MOST)


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@functools.lru_cache(maxsize=1)  # for both tests
def _left_by(subject: Subject) -> Left:
    subject.build()  # what is opened or started once a process is there by now
    files, threads = _open_files(), set(threading.enumerate())
    with _what_is_there_left_alone():
        _read_and_drop(subject.build())
        gc.collect()
    left = [name for number, name in _open_files().items() if files.get(number) != name]
    return Left(left, set(threading.enumerate()) - threads)


def _read_and_drop(source: DataSourceModule) -> None:
    for _ in batches(source, 2 * BATCH):
        pass
    close = getattr(source, "close", None)
    if close is not None:
        close()


def _open_files() -> dict[int, str]:
    """What is behind each open file descriptor."""
    if not _DESCRIPTORS.exists():
        return {}
    found = {}
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - numbers, not paths
        try:
            status = os.fstat(int(name))
        except OSError:  # that of the listing itself
            continue
        entry = _DESCRIPTORS / name
        found[int(name)] = str(entry.readlink()) if entry.is_symlink() else f"file {status.st_ino}"
    return found


def _still_runs(thread: threading.Thread) -> bool:
    """Whether a thread does not end; one that was told to is waited for."""
    thread.join(_SECONDS if not thread.daemon else _SECONDS / 10)
    return thread.is_alive()
