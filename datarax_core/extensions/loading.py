"""Loading of plugins: their prints go to stderr; an unusable plugin is left out with a warning, or refused."""

import os
import sys
import threading
import warnings
from contextlib import AbstractContextManager
from importlib import metadata
from typing import Final, TextIO

from datarax_core.background import renew_in_forks
from datarax_core.errors import ConfigError, PluginError, PluginWarning

STRICT_VARIABLE: Final = "DATARAX_STRICT_PLUGINS"

PLACES_VARIABLE: Final = "DATARAX_PLUGINS"
"""Environment variable with words for places of plugins, separated by commas; paths are relative to the working folder."""

HANDED_ON: Final = "DATARAX_PLUGINS_OF_DRX"
"""Environment variable in which ``drx`` hands the places of its options and of ``pyproject.toml`` to its child processes."""


def names_places() -> bool:
    """Return whether the environment names places of plugins; what they are takes the module `places`."""
    return bool(os.environ.get(PLACES_VARIABLE) or os.environ.get(HANDED_ON))


def is_strict() -> bool:
    """Return True if ``DATARAX_STRICT_PLUGINS=1`` makes an error of every plugin that cannot be used, asked for or not.

    Raises:
        ConfigError: The variable is neither 1, nor 0, empty or unset.
    """
    value = os.environ.get(STRICT_VARIABLE, "").strip()
    if value not in ("", "0", "1"):
        raise ConfigError(f"{STRICT_VARIABLE} is 1, or else 0, empty or not set; not {value!r}")
    return value == "1"


def leave_out(error: PluginError, consequence: str = "") -> None:
    """Warn that a plugin is left out because of ``error``, and of the ``consequence`` for the user.

    Raises:
        PluginError: ``error`` itself, if the process is strict.
    """
    if is_strict():
        raise error
    warnings.warn(PluginWarning("; ".join(filter(None, [str(error), consequence]))), stacklevel=3)


class StdoutToStderr(AbstractContextManager[None]):
    """Context in which ``sys.stdout`` is ``sys.stderr``, for as long as any thread is inside; other threads print there too.

    ``contextlib.redirect_stdout`` does not suffice: if two threads overlap in it, stdout may stay redirected for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        renew_in_forks(self)
        self._inside = 0
        self._stdout: TextIO = sys.stdout
        self._stderr: TextIO = sys.stderr

    def renew_in_fork(self) -> None:
        """Make the lock anew."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._stdout, self._stderr = sys.stdout, sys.stderr
                sys.stdout = self._stderr

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and sys.stdout is self._stderr:  # an imported module may have replaced stdout for good
                sys.stdout = self._stdout


stdout_to_stderr: Final = StdoutToStderr()
"""The redirection that all threads of this process share."""


class PluginImportError(Exception):
    """The import of a plugin failed; the message says of what and why, and ``__cause__`` is the reason."""


def imported(name: str, target: str, group: str) -> object:
    """Return the object that an entry point names, imported. What the plugin prints goes to stderr meanwhile.

    Raises:
        PluginImportError: The import failed.
    """
    try:
        with stdout_to_stderr:
            return metadata.EntryPoint(name, target, group).load()
    except KeyboardInterrupt:
        raise
    # The boundary to third-party code, which fails in any way: it exits when a library is missing, skips as if it were a
    # test, or panics in Rust, and none of these is an Exception.
    except BaseException as cause:
        raise PluginImportError(f"failed to import {target}: {in_words(cause)}{_line_of(target, cause)}") from cause


def in_words(cause: BaseException) -> str:
    """Return why an import failed."""
    return f"exited with {cause.code!r}" if isinstance(cause, SystemExit) else f"{type(cause).__name__}: {cause}"


def _line_of(target: str, cause: BaseException) -> str:
    """Return the innermost line of the plugin's own package that an error came from, with its file; nothing if there is none.

    A syntax error says its own, and what is not installed needs none.
    """
    package, found = target.partition(":")[0].partition(".")[0], ""
    is_told = not isinstance(cause, Exception) or isinstance(cause, SyntaxError | ModuleNotFoundError)
    trace = None if is_told else cause.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if (frame.f_globals.get("__name__") or "").partition(".")[0] == package:
            found = f", in {frame.f_code.co_filename}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found
