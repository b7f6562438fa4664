"""Promises about leaks: a source leaves no memory, no open file and no thread behind."""

import functools
import gc
import math
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final

import jax

from datarax_core.sources.source import DataSourceModule
from datarax_core.testing.checks import BATCH, batches, not_claimed, require
from datarax_core.testing.running import DESCRIPTORS, open_files

from .subject import Subject

_LEAST_EPOCHS: Final = 3
_MOST_EPOCHS: Final = 200
_MOST_RECORDS: Final = 600  # of an epoch; longer epochs are read up to here
_ALLOWED_BYTES: Final = 24 * 1024
_BYTES_SERVED: Final = 48 * 1024  # at least so many between measurements: more than is allowed, if records are kept
_BATCH: Final = 64
_MEASUREMENTS: Final = 2
_SECONDS: Final = 10.0


class LeakPromises:
    """Memory over epochs, and files and threads after the source was dropped."""

    is_quick: ClassVar[bool] = False

    def test_memory_is_flat_over_epochs(self, subject: Subject) -> None:
        """Memory does not grow with the number of epochs: records are not kept, unless the config says ``cacheable``."""
        epochs = _epochs_between_measurements(subject)
        first, source = subject.build(), subject.build()
        for _ in range(_MEASUREMENTS * epochs + 1):
            _read_epoch(first, subject)  # fills caches that all sources share
        with _existing_objects_frozen():
            tracemalloc.start()
            try:
                _read_epoch(source, subject)
                sizes = [_traced_bytes()]
                for _ in range(_MEASUREMENTS):
                    for _ in range(epochs):
                        _read_epoch(source, subject)
                    sizes.append(_traced_bytes())
            finally:
                tracemalloc.stop()
        grown = min(after - before for before, after in pairwise(sizes))  # bounded caches fill up in one of them
        require(
            grown <= _ALLOWED_BYTES,
            f"{subject.title} promises memory that does not grow with epochs, but {epochs} more epochs left {grown} bytes "
            f"behind, where {_ALLOWED_BYTES} are allowed; keep no records that were read",
        )

    def test_no_file_stays_open(self, subject: Subject) -> None:
        """Files that a source opened are closed when it is dropped."""
        if not DESCRIPTORS.exists():
            not_claimed(f"this system has no {DESCRIPTORS}, which lists open files")
        left = _left_by(subject).files
        require(
            not left,
            f"{subject.title} promises to leave no file open, but after it was dropped these are open: {', '.join(left)}; "
            "close them in close(), which the kit calls if it is defined, or hold them only in objects that are dropped with "
            "the source",
        )

    def test_no_thread_is_left(self, subject: Subject) -> None:
        """Threads that a source started end when it is dropped."""
        left = [thread.name for thread in _left_by(subject).threads if _still_runs(thread)]
        require(
            not left,
            f"{subject.title} promises to leave no thread behind, but after it was dropped these run: {', '.join(left)}; end "
            "them in close(), which the kit calls if it is defined, or by weakref.finalize",
        )


@dataclass(frozen=True, slots=True)
class Left:
    """Open files and threads that did not exist before a source was built, and do after it was dropped."""

    files: list[str]
    threads: set[threading.Thread]


@contextmanager
def _existing_objects_frozen() -> Iterator[None]:
    """Have garbage collections ignore all objects that exist: collections that look at JAX take longer than the test."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _epochs_between_measurements(subject: Subject) -> int:
    """Return how many epochs are read between measurements, so that kept records exceed `_ALLOWED_BYTES`."""
    leaves = jax.tree.leaves(subject.source.element_spec())
    record: int = sum(leaf.dtype.itemsize * math.prod(size or 1 for size in leaf.shape) for leaf in leaves)
    return min(_MOST_EPOCHS, max(_LEAST_EPOCHS, _BYTES_SERVED // max(1, record * _in_epoch(subject))))


def _read_epoch(source: DataSourceModule, subject: Subject) -> None:
    if subject.length is None and subject.can_restart:
        source.reset()  # the stream may have ended
    for _ in batches(source, _in_epoch(subject), _BATCH):
        pass


def _in_epoch(subject: Subject) -> int:
    """Return the number of records that are read of an epoch."""
    return min(subject.length or _MOST_RECORDS, _MOST_RECORDS)


def _traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@functools.lru_cache(maxsize=1)  # for both tests
def _left_by(subject: Subject) -> Left:
    subject.build()  # opens files and starts threads that all sources of the process share
    files, threads = open_files(), set(threading.enumerate())
    with _existing_objects_frozen():
        _read_and_drop(subject.build())
        gc.collect()
    until = time.monotonic() + _SECONDS
    while left := [name for number, name in open_files().items() if files.get(number) != name]:
        if time.monotonic() > until:  # a thread that reads ahead closes its file when it ends, a little later
            break
        time.sleep(0.05)
    return Left(left, set(threading.enumerate()) - threads)


def _read_and_drop(source: DataSourceModule) -> None:
    for _ in batches(source, 2 * BATCH):
        pass
    close = getattr(source, "close", None)
    if close is not None:
        close()


def _still_runs(thread: threading.Thread) -> bool:
    """Return whether a thread still runs, after waiting for it to end."""
    thread.join(_SECONDS if not thread.daemon else _SECONDS / 10)
    return thread.is_alive()
