"""Worker processes that were started together: how a source gets to them, how they are asked, heard and ended."""

import io
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Final

from datarax_core.errors import WorkerError
from datarax_core.sources.source import DataSourceModule

from .worker import PROGRAM, Reply, Request, Setting, SharedBatches, shared_file

_PATIENCE: Final = 2.0

_LOOK_SECONDS: Final = 1.0


class Crew:
    """Started processes, each with a copy of one source, and the memory that they and this process see.

    None is forked, none opens an accelerator, and none imports the main script unless the source's classes are of it, which
    is why this is no pool of ``multiprocessing``: those import it always, and run it where it has no guard.

    Args:
        title: How errors call the source.
        source: The source, pickled.
        setting: What a process has to know before it unpickles that.
        count: How many processes.
    """

    def __init__(self, title: str, source: bytes, setting: Setting, count: int) -> None:
        self._title = title
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connections: list[Connection[Any, Any]] = []
        self._is_ready = [False] * count
        memory = shared_file(SharedBatches.size(setting.spec, setting.rows, setting.blocks))
        path = [entry or str(Path.cwd()) for entry in sys.path]
        start = _written(pickle.dumps(path) + pickle.dumps(setting) + source)
        try:
            self.memory = SharedBatches(setting.spec, setting.rows, setting.blocks, memory)
            for _ in range(count):
                self._start(start, memory)
        except BaseException:  # whatever it was, no process is left behind
            self.end()
            raise
        finally:
            os.close(start)
            os.close(memory)

    def __len__(self) -> int:
        return len(self._connections)

    def ask(self, worker: int, request: Request) -> None:
        """Have a worker do this after all that it was asked before; returns at once, also if the process has ended."""
        try:
            self._connections[worker].send(request)
        except OSError:  # its last words, if there are any, are heard by whoever waits for the reply
            return

    def wait_for(self, worker: int) -> None:
        """Return when there is something to `hear`; an interruption loses nothing."""
        # a process that the source started in its turn may hold the connection open, so look after the worker itself
        try:
            while not self._connections[worker].poll(_LOOK_SECONDS):
                if self._processes[worker].poll() is not None:
                    return
        except OSError:  # ended by another thread
            return

    def hear(self, worker: int) -> Reply:
        """What came of the first thing asked whose reply was not heard yet.

        Raises:
            WorkerError: The process has ended.
            Whatever unpickling the source raised there.
        """
        try:
            if not self._connections[worker].poll():
                raise EOFError  # noqa: TRY301 - as if the connection were closed, which it is but for somebody else
            reply: Reply = self._connections[worker].recv()
        except (EOFError, OSError) as cause:
            raise self._ended(worker) from cause
        if reply.is_last:
            raise self.error_of(reply, "unpickling")
        self._is_ready[worker] = True
        return reply

    def error_of(self, reply: Reply, doing: str = "reading") -> BaseException:
        """The exception that a reply brought, with the traceback that it had in its process."""
        try:
            error: BaseException = pickle.loads(reply.error or b"")  # noqa: S301 - of a process that was started here
        except Exception:  # noqa: BLE001 - an exception may refuse this in any way
            error = RuntimeError(reply.traceback.rpartition("\n")[2])
        error.add_note(f"in a worker process that was {doing} {self._title}:\n{reply.traceback}")
        return error

    def kill(self) -> None:
        """End the processes at once, whatever they are doing; for any thread."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()

    def end(self) -> None:
        """End the processes, who may finish what they are doing if that does not take long."""
        deadline = time.monotonic() + _PATIENCE
        try:
            for connection in self._connections:
                connection.close()
            for process in self._processes:
                process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()
            for process in self._processes:
                process.wait()

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _start(self, start: int, memory: int) -> None:
        here, there = Pipe()
        self._connections.append(here)
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
        with there:
            ends = {"start": start, "memory": memory, "connection": there.fileno()}
            with _without_interrupts():
                process = subprocess.Popen(  # noqa: S603 - this interpreter
                    [sys.executable, *flags, "-c", PROGRAM.format(**ends, parent=os.getpid())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[*ends.values()],
                    env={**os.environ, "JAX_PLATFORMS": "cpu"},
                )
                self._processes.append(process)

    def _ended(self, worker: int) -> WorkerError:
        try:
            code: int | None = self._processes[worker].wait(_PATIENCE)
        except subprocess.TimeoutExpired:  # it closed its end and goes on
            code = None
        when = "" if self._is_ready[worker] else " before it was ready"
        return WorkerError(
            f"worker process {worker + 1} of {len(self)} that reads {self._title} ended with exit code {code}{when}; "
            f"{_advice(code)}; the next batch starts new processes"
        )


def _advice(code: int | None) -> str:
    if code == -9:
        return "SIGKILL is what the system sends when memory runs out: use fewer workers or smaller batches"
    if code is not None and code < 0:
        return f"signal {-code} may be a crash in a library that the source uses: read with workers=0 to see it"
    return "what it wrote to stderr says why"


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process that is started here never sees a Ctrl-C, not even before its first line: it inherits what is blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _written(content: bytes) -> int:
    file = shared_file(0)
    with os.fdopen(os.dup(file), "wb") as stream:
        stream.write(content)
    return file


_DEPTH: Final = 8  # how deep the search for what does not pickle goes


def pickled_source(source: DataSourceModule) -> tuple[bytes, dict[str, Any]]:
    """(the source pickled, what ``multiprocessing.spawn.prepare`` needs to make a process ready to unpickle it).

    Raises:
        TypeError: The source does not pickle, or its classes cannot be imported by another process; says what to do.
    """
    stream = io.BytesIO()
    pickler = _NotingPickler(stream, pickle.HIGHEST_PROTOCOL)
    try:
        pickler.dump(source)
    except Exception as cause:
        raise TypeError(
            f"{source.title} cannot be sent to worker processes: {_culprit(source)} does not pickle ({cause}); "
            "leave it out in __getstate__ and open it when it is first needed, or read with workers=0"
        ) from cause
    ready: dict[str, Any] = {"sys_argv": sys.argv, "dir": str(Path.cwd())}
    if pickler.of_main:
        ready |= _main_script(source, pickler.of_main)
    return stream.getvalue(), ready


class _NotingPickler(pickle.Pickler):
    """Notes which classes and functions are those of the main script, which a new process has not imported."""

    def __init__(self, stream: io.BytesIO, protocol: int) -> None:
        super().__init__(stream, protocol)
        self.of_main: list[str] = []

    def reducer_override(self, obj: Any) -> Any:
        if getattr(obj, "__module__", None) == "__main__" and hasattr(obj, "__qualname__"):
            self.of_main.append(obj.__qualname__)
        return NotImplemented


def _main_script(source: DataSourceModule, names: list[str]) -> dict[str, Any]:
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:  # python -m
        return {"init_main_from_name": spec.name}
    if (path := getattr(main, "__file__", None)) is not None and Path(path).exists():
        return {"init_main_from_path": str(Path(path).absolute())}
    raise TypeError(
        f"{source.title} cannot be sent to worker processes: {names[0]} is defined in an interactive session, which they "
        "cannot import; move it to a module of its own, or read with workers=0"
    )


def _culprit(value: Any, path: str = "it", depth: int = 0) -> str:
    """The innermost part of ``value`` that does not pickle, as a path of attributes and its type."""
    for name, part in _parts(value) if depth < _DEPTH else ():
        if not _pickles(part):
            return _culprit(part, f"{'its ' if depth == 0 else path}{'.' if depth else ''}{name}", depth + 1)
    return f"{path}, a {type(value).__name__}," if depth else path


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(number), part) for number, part in enumerate(value))
    else:
        state = value.__getstate__()
        yield from state.items() if isinstance(state, Mapping) else ()


def _pickles(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - a pickle may fail in any way
        return False
    return True
