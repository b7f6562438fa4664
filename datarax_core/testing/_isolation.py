"""Promises about where a source works: without a network, in another process, on several threads."""

import multiprocessing
import pickle
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import jax
import numpy as np
import pytest

from datarax_core.records.spec import Batch
from datarax_core.sources.source import DataSourceModule

from ._compare import difference, joined
from ._subject import BATCH, Subject, batches
from ._verdict import broken, require

_THREADS: Final = 4
_ROUNDS: Final = 8
_SECONDS: Final = 120.0

_PROCESS: Final = pytest.StashKey[ProcessPoolExecutor]()


class IsolationPromises:
    """Sockets, pickles, processes and threads."""

    def test_it_works_without_a_network(self, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
        """No attempt to reach one is made while it is built and read: a local path is a local path."""
        attempts: list[str] = []
        for name in ("connect", "connect_ex"):
            monkeypatch.setattr(socket.socket, name, _refusing(attempts, getattr(socket.socket, name)))
        monkeypatch.setattr(socket, "getaddrinfo", _refusing(attempts, None))
        try:
            _read(subject.build(), BATCH)
        except OSError as cause:
            require(attempts, f"{subject.title} cannot be read: {cause}")
        require(
            not attempts,
            f"{subject.title} promises to be read without a network, but tried to reach "
            f"{', '.join(dict.fromkeys(attempts))}; look on this machine first, and go out only where the config asks for "
            "it",
        )

    def test_it_pickles_where_it_stands(self, subject: Subject) -> None:
        """The copy that a pickle makes goes on with the next record."""
        source = subject.build()
        source.get_batch(BATCH)
        try:
            content = pickle.dumps(source)
        except Exception as cause:  # noqa: BLE001 - a pickle may fail in any way
            broken(
                f"{subject.title} promises to pickle, for worker processes, but it does not: {type(cause).__name__}: "
                f"{cause}. Leave what cannot in another process out of __getstate__, and open it when it is first needed"
            )
        twin: DataSourceModule = pickle.loads(content)  # noqa: S301 - was made here
        subject.require_served(
            BATCH, twin.get_batch(BATCH), "what a pickle made of the source", "Let the pickle hold where it stands"
        )

    def test_it_is_read_by_a_spawned_process(self, subject: Subject, another_process: ProcessPoolExecutor) -> None:
        """A worker process that is sent a pickle reads the same records."""
        content = pickle.dumps(subject.build())
        try:
            found = another_process.submit(_read_a_pickle, content, BATCH).result(_SECONDS)
        except Exception as cause:  # noqa: BLE001 - of the source, in the other process
            broken(
                f"{subject.title} promises to be read by a process that was sent a pickle of it, but there it fails: "
                f"{type(cause).__name__}: {cause}. Let the pickle hold all that it takes to open the data again"
            )
        subject.require_served(
            0, found, "a spawned process", "Let the pickle hold all that it takes to open the data again"
        )

    @pytest.fixture
    def another_process(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ProcessPoolExecutor:
        """A process that is spawned once for all sources that are tested: it takes seconds to start."""
        monkeypatch.setenv("JAX_PLATFORMS", "cpu")
        stash = request.config.stash
        if _PROCESS not in stash:
            stash[_PROCESS] = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            request.config.add_cleanup(lambda: stash[_PROCESS].shutdown(cancel_futures=True))
        return stash[_PROCESS]

    def test_threads_read_it_at_once(self, subject: Subject) -> None:
        """Two pipelines, or a pipeline that reads ahead, share one source."""
        subject.require_indexed()
        source, rows = subject.build(), np.arange(subject.records)
        wanted = [np.roll(rows, thread)[:BATCH] for thread in range(_THREADS)]
        with _switching_often(), ThreadPoolExecutor(_THREADS) as pool:
            read = [[pool.submit(source.fetch, indices) for indices in wanted] for _ in range(_ROUNDS)]
            given = [[future.result() for future in futures] for futures in read]
        for found in given:
            for indices, batch in zip(wanted, found, strict=True):
                text = difference(subject.source.fetch(indices), batch)
                require(
                    not text,
                    f"{subject.title} promises to be read by several threads at once, but then gave other records than were "
                    f"asked for: {text}. Keep what a read needs in local variables, or hold a lock",
                )

    def test_another_thread_reads_it(self, subject: Subject) -> None:
        """The thread that reads ahead is not the one that the source was built on."""
        source = subject.build()
        with ThreadPoolExecutor(1) as pool:
            try:
                found = pool.submit(_read, source, BATCH).result()
            except Exception as cause:  # noqa: BLE001 - of the source, on the other thread
                broken(
                    f"{subject.title} promises to be read by a background thread, but there it fails: "
                    f"{type(cause).__name__}: {cause}. Open what belongs to one thread on the thread that reads"
                )
        subject.require_served(0, found, "another thread", "Open what belongs to one thread on the thread that reads")


def _read(source: DataSourceModule, size: int) -> Batch:
    return jax.tree.map(np.asarray, joined(batches(source, size)))


def _read_a_pickle(content: bytes, size: int) -> Batch:
    """Run in the other process."""
    return _read(pickle.loads(content), size)  # noqa: S301 - was made by the test


def _refusing(attempts: list[str], real: Any) -> Any:
    """In the place of a function that reaches the network: notes what for, and refuses."""

    def refuse(*arguments: Any, **named: Any) -> Any:
        if real is not None and getattr(arguments[0], "family", None) == getattr(socket, "AF_UNIX", None):
            return real(*arguments, **named)
        attempts.append(repr(arguments[0] if real is None else arguments[1]))
        raise OSError(f"the conformance kit lets nothing reach {attempts[-1]}")

    return refuse


@contextmanager
def _switching_often() -> Iterator[None]:
    """Have threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
