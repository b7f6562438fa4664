"""What a command says: on stdout, where what plugins print does not go, so that it stays JSON if JSON was asked for."""

import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from typing import Any, Final, TextIO

import typer

_STDOUT: Final[ContextVar[TextIO]] = ContextVar("stdout")


@contextmanager
def own_stdout() -> Iterator[None]:
    """While the block runs stdout is ours alone: whoever else prints, in Python, C or a process of its own, does on stderr."""
    sys.stdout.flush()
    with _duplicate(sys.stdout) as stdout, redirect_stdout(sys.stderr):
        token = _STDOUT.set(stdout)
        try:
            yield
        finally:
            _STDOUT.reset(token)


def stdout() -> TextIO:
    """Where a command says what it has to say."""
    return _STDOUT.get(sys.stdout)


def say(text: str) -> None:
    """Print a text, as stdout can show it."""
    typer.echo(text, file=stdout())  # noqa: TID251 - here and below is where it is done


def complain(text: str) -> None:
    """Print a text on stderr."""
    typer.echo(text, err=True)  # noqa: TID251


def say_json(value: Any) -> None:
    """Print a value as JSON. Numbers that JSON has not, NaN and the infinities, become null."""
    say(json.dumps(_finite(value), indent=2, allow_nan=False, default=str))


@contextmanager
def _duplicate(stream: TextIO) -> Iterator[TextIO]:
    """The stream; if it is the process's own stdout, under another number, and its own leads to stderr meanwhile."""
    try:
        is_own = stream.fileno() == 1 and os.fstat(2) is not None
    except (OSError, ValueError):  # no file, as in tests, or no stderr
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
        with suppress(BrokenPipeError):  # who read it is gone, and that was noticed before
            ours.close()
        os.dup2(number, 1)
        os.close(number)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
