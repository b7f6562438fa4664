"""Output of commands on stdout; output that plugins print is diverted to stderr, so that ``--json`` prints only JSON."""

import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from typing import Any, Final, TextIO

import typer

from datarax_core.errors import DataraxError, printable

_STDOUT: Final[ContextVar[TextIO]] = ContextVar("stdout")


@contextmanager
def own_stdout() -> Iterator[None]:
    """Reserve stdout for `say` in the block: all other output, from Python, C or child processes, goes to stderr.

    Raises:
        DataraxError: The process was started with stdout closed.
    """
    if sys.stdout is None:
        raise DataraxError("stdout is closed, and there is nowhere to print to; redirect it to a file, or to /dev/null")
    sys.stdout.flush()
    with _duplicate(sys.stdout) as stdout, redirect_stdout(sys.stderr):
        token = _STDOUT.set(stdout)
        try:
            yield
        finally:
            _STDOUT.reset(token)


def stdout() -> TextIO:
    """Return the stream to which a command prints."""
    return _STDOUT.get(sys.stdout)


def say(text: str, *, is_styled: bool = False) -> None:
    """Print a text on stdout; characters that its encoding lacks, and control characters unless it is styled, are escaped."""
    typer.echo(text if is_styled else printable(text), file=stdout())  # noqa: TID251 - the one place that prints to stdout


def complain(text: str) -> None:
    """Print a text on stderr; control characters are escaped."""
    typer.echo(printable(text), err=True)  # noqa: TID251 - the one place that prints to stderr


def say_json(value: Any) -> None:
    """Print a value as JSON. NaN and infinities, which JSON lacks, become null."""
    say(json.dumps(_finite(value), indent=2, allow_nan=False, default=str))


@contextmanager
def _duplicate(stream: TextIO) -> Iterator[TextIO]:
    """Yield ``stream``; if it is file descriptor 1, yield a duplicate of it, and point descriptor 1 to stderr meanwhile."""
    try:
        is_own = stream.fileno() == 1 and os.fstat(2) is not None
    except (OSError, ValueError):  # stdout is not a file, as in tests, or there is no stderr
        is_own = False
    if not is_own:
        yield stream
        return
    number = os.dup(1)
    ours = os.fdopen(os.dup(1), "w", encoding=stream.encoding, errors="backslashreplace")
    os.dup2(2, 1)
    try:
        yield ours
    finally:
        with suppress(BrokenPipeError):  # its reader has ended, and an earlier write has reported that
            ours.close()
        os.dup2(number, 1)
        os.close(number)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
