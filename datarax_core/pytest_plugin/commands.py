"""Commands of ``drx`` in tests: run in this process or in one of their own, with their output and exit status."""

import json
import os
import subprocess
import sys
import traceback
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datarax_core.extensions.discovery import STAND_INS

from .isolation import Plugins, imports_as_before, variables_as_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has ended.

    Attributes:
        command: Its words, without ``drx``.
        output: What it printed on stdout.
        error: What it, and plugins, printed on stderr; of a bug, with the traceback.
        exit_status: 0 if it succeeded.
    """

    command: tuple[str, ...]
    output: str
    error: str
    exit_status: int

    def json(self) -> Any:
        """Return the output of a command with ``--json``.

        Raises:
            ValueError: It is no JSON; the message has the output of both kinds.
        """
        try:
            return json.loads(self.output)
        except ValueError as cause:
            raise ValueError(f"{self} printed no JSON") from cause

    def __str__(self) -> str:
        said = "\n".join(filter(None, [self.output.rstrip(), self.error.rstrip()]))
        return f"drx {' '.join(self.command)} (exit status {self.exit_status}):\n{said}"


class Drx:
    """Function that runs commands of ``drx``, as the fixture of that name gives it to a test."""

    def __call__(
        self, *command: object, process: bool = False, cwd: str | Path | None = None, timeout: float = 120.0
    ) -> Ended:
        """Run a command to its end, and return its output and exit status, whether or not it succeeded.

        Args:
            command: Its words, without ``drx``, such as ``"peek", path``.
            process: Run it in a process of its own, as a user does. It takes a second more, and sees the same plugins.
            cwd: The folder in which it runs; None is that of this process.
            timeout: Seconds that a process may take.

        Raises:
            ValueError: Another process cannot see a plugin of the test: an object, or a class that is defined in a function.
            subprocess.TimeoutExpired: The process took longer.
        """
        words = tuple(map(str, command))
        with chdir(cwd or Path.cwd()):
            return _in_process(words, timeout) if process else _here(words)


def _here(words: tuple[str, ...]) -> Ended:
    from typer.testing import CliRunner  # noqa: PLC0415 - commands in this process only

    from datarax_core._cli.app import app  # noqa: PLC0415

    with variables_as_before(), imports_as_before():  # commands change both, since they run in a process of their own
        result = CliRunner().invoke(app, words, prog_name="drx")
    error = result.stderr
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        error += "".join(traceback.format_exception(result.exception))
    return Ended(command=words, output=result.stdout, error=error, exit_status=result.exit_code)


def _in_process(words: tuple[str, ...], timeout: float) -> Ended:
    isolated = getattr(STAND_INS[-1], "__self__", None) if STAND_INS else None
    if isinstance(isolated, Plugins) and (hidden := isolated.hidden()):
        remedy = (
            "define a class, or functions marked @hookimpl, at the top of a module, or run the command in this process"
        )
        raise ValueError(f"another process cannot see {' and '.join(hidden)}, which only this one has; {remedy}")
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(  # noqa: S603 - this interpreter, on our own module
        [sys.executable, "-P", "-m", "datarax_core", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": path},
    )
    return Ended(command=words, output=done.stdout, error=done.stderr, exit_status=done.returncode)
