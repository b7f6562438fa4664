"""What others print while they are imported goes to stderr: stdout may be read by a program."""

import sys
import threading
from contextlib import AbstractContextManager
from typing import Final, TextIO


class Diversion(AbstractContextManager[None]):
    """``sys.stdout`` is ``sys.stderr`` while any thread is inside.

    (``contextlib.redirect_stdout`` leaves it so for ever if two threads overlap.) What other threads print goes there too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._stdout: TextIO = sys.stdout
        self._stderr: TextIO = sys.stderr

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._stdout, self._stderr = sys.stdout, sys.stderr
                sys.stdout = self._stderr

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and sys.stdout is self._stderr:  # unless what was imported put in another one for good
                sys.stdout = self._stdout


stdout_to_stderr: Final = Diversion()
"""The one of this process: ``with stdout_to_stderr: ...``."""
