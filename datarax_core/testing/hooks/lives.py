"""Promises about the life of a plugin: threads, files, processes, and being registered again."""

import gc
import io
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from datarax_core.testing.checks import attempt, broken, require
from datarax_core.testing.exact import exact_difference
from datarax_core.testing.running import open_files

from .serving import BAD_RECORD, KitRun, TinyConfig, bad_record, hooks_alone, objects_frozen, on_host
from .subject import HookSubject

_FAILED: Final = "datarax_record_failed"
_THREADS: Final = 4
_SECONDS: Final = 3.0

_OF_JAX: Final = (
    "jax._src.pjit",
    "jax._src.dispatch",
    "jax._src.array",
    "jax._src.numpy",
    "jax._src.lax",
    "jax._src.random",
)
"""Modules whose functions run where an array is made, computed or read; specs and trees are of other modules."""


class LifePromises:
    """Any thread, worker processes, what is left behind, and a second registration."""

    def test_a_record_may_fail_on_any_thread(self, subject: HookSubject) -> None:
        """``datarax_record_failed`` answers "raise", "substitute" or None on any thread, and calls no JAX, which would hang."""
        subject.require_hook(_FAILED)
        with hooks_alone(subject.records, subject.plugin(), noted=False) as run:
            source = run.build(TinyConfig(records=run.records))
            with ThreadPoolExecutor(_THREADS) as pool:
                outcomes = list(pool.map(lambda row: _answer_on_this_thread(run, source, row), range(2 * _THREADS)))
        for answer, error, jax_calls in outcomes:
            require(
                error is None and answer in (None, "raise", "substitute"),
                f"{subject.title} promises to answer on any thread, but {_FAILED} "
                f"{f'answered {answer!r}' if error is None else f'raised {type(error).__name__}: {error}'}; return 'raise', "
                "'substitute' or None, and hold a lock where threads share something",
            )
            require(
                not jax_calls,
                f"{subject.title} promises to call no JAX in {_FAILED}, which compiled code may wait for, but it called "
                f"{jax_calls[0] if jax_calls else ''}; compute with NumPy",
            )

    def test_its_sources_go_to_worker_processes(self, subject: HookSubject) -> None:
        """A source that ``datarax_create_source`` made or changed pickles, without the plugin in it, and reads the same."""
        subject.require_hook("datarax_create_source")
        plugin = subject.plugin()
        with hooks_alone(subject.records, plugin, noted=False) as run:
            source = run.build(TinyConfig(records=run.records))
            found: list[str] = []
            content, error = attempt(lambda: _pickled(source, plugin, found))
            if error is not None:
                broken(
                    f"{subject.title} promises sources that go to worker processes, but the source that it made or changed "
                    f"does not pickle: {type(error).__name__}: {error}. Set plain values on a source"
                )
            twin, error = attempt(lambda: pickle.loads(content))  # noqa: S301 - made above
            require(
                error is None
                and not exact_difference(on_host(source.get_batch_at(0, 2)), on_host(twin.get_batch_at(0, 2))),
                f"{subject.title} promises sources that go to worker processes, but a copy by pickle reads something else: "
                f"{error}",
            )
        require(
            not found,
            f"{subject.title} promises to stay in this process, but the pickle of a source that it made or changed holds the "
            "plugin; set plain values on a source, and keep the plugin out of it",
        )

    def test_it_leaves_nothing_behind(self, subject: HookSubject) -> None:
        """When its pipelines are closed, and it is unregistered and dropped, no thread runs and no file is open."""
        with hooks_alone(subject.records, noted=False) as run:
            run.serve()  # starts threads that all pipelines share
        files, threads = open_files(), set(threading.enumerate())
        with objects_frozen():
            _serve_and_drop(subject)
            gc.collect()
        until = time.monotonic() + _SECONDS
        while True:
            left = [
                f"the thread {thread.name!r}" for thread in set(threading.enumerate()) - threads if thread.is_alive()
            ]
            left += [f"the file {name}" for number, name in open_files().items() if files.get(number) != name]
            if not left or time.monotonic() > until:
                break
            time.sleep(0.05)
        left = list(dict.fromkeys(left))[:3]
        require(
            not left,
            f"{subject.title} promises to leave nothing behind, but after its last pipeline was closed, and it was dropped, "
            f"there is {' and '.join(left)}. End threads and close files in datarax_pipeline_closed, or in close(), which the "
            "kit calls if it is defined",
        )

    def test_it_can_be_registered_again(self, subject: HookSubject) -> None:
        """Unregistered and registered again in one process, it adds its sources again, and serves as before."""
        plugin, names = subject.plugin(), []
        for time_ in ("first", "second"):
            run, error = attempt(lambda: _served_once(subject, plugin))
            if error is not None:
                broken(
                    f"{subject.title} promises to be registered twice in a row, but the {time_} time "
                    f"{type(error).__name__}: {error}. Keep no note of having been registered"
                )
            names.append(set(run.registry.names()))
        require(
            names[0] == names[1],
            f"{subject.title} promises to add its sources to each registry, but registered again it added "
            f"{', '.join(sorted(names[1])) or 'none'} where it added {', '.join(sorted(names[0]))} before; keep no note of "
            "having been registered",
        )


def _answer_on_this_thread(run: KitRun, source: Any, row: int) -> tuple[Any, BaseException | None, list[str]]:
    """Return (answer, error, calls of JAX) of the hook on the thread that calls this."""
    calls: list[str] = []

    def watch(frame: Any, event: str, _: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith(_OF_JAX):
            calls.append(f"{module}.{frame.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        answer, error = attempt(
            lambda: run.hooks.call.datarax_record_failed(source=source, index=row, error=bad_record(row))
        )
    finally:
        sys.setprofile(before)
    return answer, error, calls


def _pickled(source: Any, plugin: object, found: list[str]) -> bytes:
    """Return the pickle of a source; ``found`` gets an entry where it holds the plugin."""

    class Noting(pickle.Pickler):
        def persistent_id(self, held: Any) -> None:
            if held is plugin:
                found.append(type(held).__name__)

    content = io.BytesIO()
    Noting(content).dump(source)
    return content.getvalue()


def _serve_and_drop(subject: HookSubject) -> None:
    plugin = subject.plugin()
    with hooks_alone(subject.records, plugin, noted=False) as run:
        run.serve()
    close = getattr(plugin, "close", None)
    if close is not None:
        close()


def _served_once(subject: HookSubject, plugin: object) -> KitRun:
    with hooks_alone(subject.records, plugin) as run:
        for _ in run.pipeline():
            pass
        attempt(lambda: run.record_failed(BAD_RECORD))
        run.hooks.unregister(plugin)
        for _ in run.pipeline():
            pass
    return run
