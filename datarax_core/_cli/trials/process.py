"""A process of this interpreter that runs one of our modules on plugins, and that may hang, crash or be ended by them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, Self

_STARTS: Final = 60.0  # seconds that the import of core may take on a busy machine
_POLL: Final = 0.02  # seconds
_KEPT: Final = 3  # lines of what the process printed that a message repeats


class TrialProcess:
    """A process that appends lines of JSON to a file; its other output goes to a file too.

    Pipes could be held open by children that outlive it. It is the leader of a session, so that `end` reaches whatever it
    started. Use it in a ``with`` block.

    Args:
        module: Module of ours to run; its first argument is the file of results.
        arguments: Its further arguments.
        prefix: Beginning of the name of the temporary folder.
    """

    def __init__(self, module: str, arguments: Sequence[str], *, prefix: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
        self._results, self._printed = Path(self._folder.name, "results"), Path(self._folder.name, "printed")
        self._results.touch()
        command = [sys.executable, "-P", "-X", "faulthandler", "-m", module, str(self._results), *arguments]
        with self._printed.open("wb") as printed:
            self._child = subprocess.Popen(  # noqa: S603 - this interpreter, on a module of ours
                command, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, start_new_session=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def results(self, timeout: float) -> Iterator[dict[str, Any]]:
        """Yield the lines of results as they come, until the process ends, or writes none for ``timeout`` seconds.

        Before the first line, which the process writes when core is imported, it may take longer.
        """
        until, read = monotonic() + max(timeout, _STARTS), 0
        while True:
            ended = self._child.poll() is not None
            lines = self._results.read_text(encoding="utf-8").split("\n")[:-1]
            for line in lines[read:]:
                yield json.loads(line)
                until = monotonic() + timeout
            read = len(lines)
            if ended or monotonic() >= until:
                return
            sleep(_POLL)

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        return self._child.poll()

    def last_words(self) -> str:
        """Return the last lines that the process printed, as the end of a message; "" if it printed nothing."""
        printed = self._printed.read_text(errors="replace").partition("Fatal Python error")[0]
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        return f", after it printed {' / '.join(lines[-_KEPT:])!r}" if lines else ""

    def end(self) -> None:
        """Stop the process and all processes that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._folder.cleanup()
