"""Started worker processes: sending requests to them, receiving their replies, and ending them."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Final

from datarax_core.errors import WorkerError

from .shared_batches import SharedBatches, shared_file
from .worker import PROGRAM, Reply, Request, WorkerSetup

_GRACE_SECONDS: Final = 2.0
"""How long a process may take to end by itself."""

_POLL_SECONDS: Final = 1.0


class WorkerProcesses:
    """Worker processes, each with a copy of one source, and the memory that they share with this process.

    No process is forked, opens an accelerator, or imports the main script, unless the main script defines the source's
    classes. ``multiprocessing`` pools always import the main script, and so run a script that has no ``__main__`` guard;
    that is why this class starts its processes itself.

    Args:
        title: Name of the source in errors.
        source: The pickled source.
        setup: Data that a process needs before it unpickles the source.
        count: How many processes.
    """

    def __init__(self, title: str, source: bytes, setup: WorkerSetup, count: int) -> None:
        self._title = title
        self._parent = os.getpid()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connections: list[Connection[Any, Any]] = []
        self._is_ready = [False] * count
        memory = shared_file(SharedBatches.size(setup.spec, setup.rows, setup.blocks))
        path = [entry or str(Path.cwd()) for entry in sys.path]
        start = _file_of(pickle.dumps(path) + pickle.dumps(setup) + source)
        try:
            self.memory = SharedBatches(setup.spec, setup.rows, setup.blocks, memory)
            for _ in range(count):
                self._start(start, memory)
        except BaseException:  # an interruption, too: no process is left behind
            self.end()
            raise
        finally:
            os.close(start)
            os.close(memory)

    def __len__(self) -> int:
        return len(self._connections)

    def send(self, worker: int, request: Request) -> None:
        """Queue a request for a worker; returns at once, also if the process has ended."""
        try:
            self._connections[worker].send(request)
        except OSError:  # the process has ended; `receive` says so, or gives the reply that it sent before
            return

    def wait_for(self, worker: int) -> None:
        """Return when a worker has sent a reply or ended; an interruption loses no reply."""
        # a process that the source started may hold the connection open, so the worker itself is polled as well
        try:
            while not self._connections[worker].poll(_POLL_SECONDS):
                if self._processes[worker].poll() is not None:
                    return
        except OSError:  # another thread ended the processes
            return

    def receive(self, worker: int) -> Reply:
        """Return a worker's next reply; replies come in the order of the requests.

        Raises:
            WorkerError: The process has ended.
            Whatever unpickling the source raised there.
        """
        try:
            if not self._connections[worker].poll():
                raise EOFError  # noqa: TRY301 - the worker's end is closed, even if a process that it started holds a copy
            reply: Reply = self._connections[worker].recv()
        except (EOFError, OSError) as cause:
            raise self._ended_error(worker) from cause
        if reply.is_last:
            raise self.error_of(reply, "unpickling")
        self._is_ready[worker] = True
        return reply

    def error_of(self, reply: Reply, doing: str = "reading") -> BaseException:
        """Return the exception of a reply, with its traceback from the worker process in a note."""
        try:
            error: BaseException = pickle.loads(reply.error or b"")  # noqa: S301 - of a process that was started here
        except Exception:  # noqa: BLE001 - unpickling an exception runs its own code, which may raise anything
            error = RuntimeError(reply.traceback.rpartition("\n")[2])
        error.add_note(f"in a worker process that was {doing} {self._title}:\n{reply.traceback}")
        return error

    def kill(self) -> None:
        """End the processes at once, whatever they are doing; any thread may call this."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()

    def end(self) -> None:
        """End the processes; each may finish its requests if that takes less than the grace time of 2 s.

        In a fork of this process, which has copies of the connections, only these are closed.
        """
        if os.getpid() != self._parent:
            for connection in self._connections:
                connection.close()
            return
        deadline = time.monotonic() + _GRACE_SECONDS
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

    def _start(self, start: int, memory: int) -> None:
        here, there = Pipe()
        self._connections.append(here)
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
        with there:
            files = {"start": start, "memory": memory, "connection": there.fileno()}
            with _without_interrupts():
                process = subprocess.Popen(  # noqa: S603 - this interpreter
                    [sys.executable, *flags, "-c", PROGRAM.format(**files, parent=os.getpid())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[*files.values()],
                    env={**os.environ, "JAX_PLATFORMS": "cpu"},
                )
                self._processes.append(process)

    def _ended_error(self, worker: int) -> WorkerError:
        try:
            code: int | None = self._processes[worker].wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:  # the process closed its connection and goes on
            code = None
        when = "" if self._is_ready[worker] else " before it was ready"
        return WorkerError(
            f"worker process {worker + 1} of {len(self)} that reads {self._title} ended with exit code {code}{when}; "
            f"{_advice(code)}; the next batch starts new processes"
        )


def _file_of(content: bytes) -> int:
    file = shared_file(0)
    with os.fdopen(os.dup(file), "wb") as stream:
        stream.write(content)
    return file


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block SIGINT in this thread. A process started meanwhile inherits the block, and sees no Ctrl-C before it ignores it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _advice(code: int | None) -> str:
    if code == -9:
        return "SIGKILL is what the system sends when memory runs out: use fewer workers or smaller batches"
    if code is not None and code < 0:
        return f"signal {-code} may be a crash in a library that the source uses: read with workers=0 to see it"
    return "what it wrote to stderr says why"
