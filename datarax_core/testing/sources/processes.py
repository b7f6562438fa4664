"""Promises about processes and threads: light imports, no network, pickles, and reads on any process or thread."""

import functools
import json
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, ClassVar, Final

import numpy as np
import pytest

from datarax_core.records.spec import Batch
from datarax_core.sources.source import DataSourceModule
from datarax_core.testing.checks import BATCH, batches, broken, difference, joined, not_claimed, require, shown
from datarax_core.testing.running import switching_often

from .subject import Subject

_HEAVY: Final = ("tensorflow", "torch", "tensorflow_datasets")

_REPORT: Final = """
import json, sys
from datarax_core.registry.sources import SourceRegistry
name = sys.argv[1]
registry = SourceRegistry.from_environment()
found = [info for info in registry.describe() if info.name == name]
listed = sorted(sys.modules)
registry.get(name)
facts = [[info.status, info.target, info.detail] for info in found]
print("\\n" + json.dumps({"facts": facts, "listed": listed, "imported": sorted(sys.modules)}))
"""

_THREADS: Final = 4
_ROUNDS: Final = 8
_SECONDS: Final = 120.0

_PROCESS: Final = pytest.StashKey[ProcessPoolExecutor]()


class ListingPromises:
    """Listing and importing the plugin, in a new process, as `drx sources` does."""

    is_quick: ClassVar[bool] = False

    def test_listing_does_not_import_it(self, subject: Subject) -> None:
        """Listing the installed source imports none of its plugin, and finds it ready."""
        report = _report(subject)
        ((status, target, detail),) = report["facts"]
        require(
            status == "ready",
            f"source {subject.config.type!r} is listed as {status}: {detail}. Correct that, and install the plugin again",
        )
        package = target.partition(":")[0].partition(".")[0]
        require(
            package not in report["listed"],
            f"listing source {subject.config.type!r} is promised to import nothing of its plugin, but it imported {package!r}; "
            "remove the file that does so (a .pth file, sitecustomize, a pytest or hook plugin) from your distribution",
        )

    def test_importing_it_is_light(self, subject: Subject) -> None:
        """Importing the plugin imports no heavy module, such as tensorflow, which reading records may need."""
        heavy = (*_HEAVY, *subject.author.heavy_modules)
        found = sorted(set(heavy) & set(_report(subject)["imported"]))
        require(
            not found,
            f"importing source {subject.config.type!r} imports {', '.join(found)}, which every config that names the source "
            "would pay for; import it in the function that needs it",
        )


class ProcessPromises:
    """Sockets, pickles, processes and threads."""

    def test_it_works_without_a_network(self, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
        """Building and reading a source of local data makes no attempt to reach a network."""
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
            f"{', '.join(dict.fromkeys(attempts))}; look for local files first, and use a network only if the config asks for "
            "it",
        )

    def test_it_pickles_where_it_stands(self, subject: Subject) -> None:
        """A copy by pickle continues with the next record."""
        source, size = subject.build(), min(BATCH, max(1, subject.num_compared // 2))
        source.get_batch(size)
        content = _pickled(source)
        twin: DataSourceModule = pickle.loads(content)  # noqa: S301 - made in the line above
        if not subject.source.is_live and subject.num_compared > size:  # what a live stream gave is gone
            found = twin.get_batch(size)
            subject.require_served(size, found, "a copy by pickle", "Include the position in the pickle")

    def test_it_is_read_by_a_spawned_process(self, subject: Subject, another_process: ProcessPoolExecutor) -> None:
        """A spawned process that receives the pickled source reads the same records."""
        content = _pickled(subject.build())
        try:
            found = another_process.submit(_read_a_pickle, content, BATCH).result(_SECONDS)
        except Exception as cause:  # noqa: BLE001 - the source may raise anything in the other process
            broken(
                f"{subject.title} promises to be read by a process that received it as a pickle, but reading fails there: "
                f"{type(cause).__name__}: {cause}. Include everything that is needed to open the data in the pickle"
            )
        found, fingerprint = found
        subject.require_served(
            0, found, "a spawned process", "Include everything that is needed to open the data in the pickle"
        )
        own = _fingerprint(subject.build())
        differing = [
            f"{name!r} is {shown(own.get(name), 80)} here and {shown(fingerprint.get(name), 80)} there"
            for name in {**own, **fingerprint}
            if own.get(name) != fingerprint.get(name)
        ]
        require(
            not differing,
            f"{subject.title} promises a fingerprint() that is the same in every process, since states are restored in others, "
            f"but {', and '.join(differing)}. "
            "Use hashlib in place of hash(), sort what comes from sets, and leave out times and ids",
        )

    @pytest.fixture
    def another_process(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ProcessPoolExecutor:
        """A process shared by all sources under test, since spawning one takes seconds."""
        monkeypatch.setenv("JAX_PLATFORMS", "cpu")
        stash = request.config.stash
        if _PROCESS not in stash:
            stash[_PROCESS] = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            request.config.add_cleanup(lambda: stash[_PROCESS].shutdown(cancel_futures=True))
        return stash[_PROCESS]

    def test_threads_read_it_at_once(self, subject: Subject) -> None:
        """Several threads can read one source at once, as a pipeline does where reading waits, unless it says they cannot."""
        subject.require_indexed()
        source = subject.build()
        if not source.is_thread_safe:
            not_claimed(f"{subject.title} says thread_safe = False")
        source.fingerprint()  # it may read records for it, one thread at a time
        wanted = [(np.arange(BATCH) - thread) % subject.records for thread in range(_THREADS)]
        with switching_often(), ThreadPoolExecutor(_THREADS) as pool:
            read = [[pool.submit(source.fetch, indices) for indices in wanted] for _ in range(_ROUNDS)]
            try:
                given = [[future.result() for future in futures] for futures in read]
            except Exception as cause:  # noqa: BLE001 - the source may raise anything on another thread
                broken(
                    f"{subject.title} promises to be read by several threads at once, but reading failed then: "
                    f"{type(cause).__name__}: {cause}. Keep the state of a read in local variables, hold a lock, or say "
                    "thread_safe = False, so that a pipeline reads it by one thread"
                )
        for found in given:
            for indices, batch in zip(wanted, found, strict=True):
                text = difference(subject.source.fetch(indices), batch)
                require(
                    not text,
                    f"{subject.title} promises to be read by several threads at once, but then returned other records than "
                    f"those at the indices: {text}. Keep the state of a read in local variables, hold a lock, or say "
                    "thread_safe = False, so that a pipeline reads it by one thread",
                )


def _report(subject: Subject) -> dict[str, Any]:
    """Return the report of a new process that lists all plugins, then imports this one; skip the test if not installed."""
    name = subject.config.type
    info = next((info for info in subject.author.registry.describe() if info.name == name), None)
    if info is None or not info.version:
        not_claimed(f"source {name!r} is registered by hand and not installed")
    return _report_of_a_process(name)


@functools.cache
def _report_of_a_process(name: str) -> dict[str, Any]:
    done = subprocess.run(  # noqa: S603 - the script above
        [sys.executable, "-c", _REPORT, name],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if done.returncode:
        broken(f"source {name!r} cannot be imported in a new process:\n{done.stderr.strip()}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _pickled(source: DataSourceModule) -> bytes:
    """Return a pickle of a source; fail the test if it does not pickle."""
    try:
        return pickle.dumps(source)
    except Exception as cause:  # noqa: BLE001 - a pickle may fail in any way
        broken(
            f"{source.title} promises to pickle, for worker processes, but pickling fails: {type(cause).__name__}: {cause}. "
            "Keep files, locks and connections in an object of a class that derives from datarax_core.sources.HostState, which "
            "a pickle makes anew, and open them when they are first needed"
        )


def _read(source: DataSourceModule, size: int) -> Batch:
    return joined(batches(source, size))


def _read_a_pickle(content: bytes, size: int) -> tuple[Batch, dict[str, Any]]:
    """Return the first records of a pickled source, and its fingerprint; runs in the other process."""
    source = pickle.loads(content)  # noqa: S301 - made by the test
    return _read(source, size), _fingerprint(source)


def _fingerprint(source: DataSourceModule) -> dict[str, Any]:
    """Return the fingerprint as it is saved; nothing of a source without states."""
    if not source.capabilities.resumable:
        return {}
    fingerprint: dict[str, Any] = json.loads(json.dumps(source.fingerprint()))
    return fingerprint


def _refusing(attempts: list[str], real: Any) -> Any:
    """Return a function that takes the place of one that reaches the network: it records the address, and raises."""

    def refuse(*arguments: Any, **named: Any) -> Any:
        if real is not None and getattr(arguments[0], "family", None) == getattr(socket, "AF_UNIX", None):
            return real(*arguments, **named)
        attempts.append(repr(arguments[0] if real is None else arguments[1]))
        raise OSError(f"the conformance kit allows no network: nothing may reach {attempts[-1]}")

    return refuse
