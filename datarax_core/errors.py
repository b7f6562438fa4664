"""Every error that datarax raises on purpose.

::

    DataraxError
    ├── PluginError                    a plugin cannot be used; ``kind``, such as "source", and ``name`` say which
    │   ├── PluginNotFoundError        no installed distribution provides it
    │   ├── PluginDisabledError        installed, but switched off in this process
    │   ├── PluginConflictError        several distributions provide it; none is picked
    │   ├── PluginIncompatibleError    it requires another datarax-core than the installed one
    │   ├── PluginLoadError            its code failed to import; ``__cause__`` says why
    │   └── PluginContractError        its code imported, but is no valid source, stage, decoder or hook plugin
    ├── ConfigError                    a config cannot be read, or is invalid; lists every problem and its place (ValueError)
    ├── DataFileError                  a file of records is damaged, foreign, or changed while it was read       (ValueError)
    ├── RecordError                    one record cannot be read or decoded; names record and file               (ValueError)
    ├── SpecError                      records differ from the element spec, or cannot be batched                (ValueError)
    │   └── StageError                 a stage cannot work on the records that reach it; names its option        (ValueError)
    ├── NarrowingError                 a 64-bit value does not fit the 32 bits that a device keeps               (ValueError)
    ├── StateError                     a saved state belongs to another stream; names all that differs           (ValueError)
    └── WorkerError                    a worker process ended while it read records; the next batch starts new ones

A plugin that cannot be used is left out with a `PluginWarning`, as long as nobody asks for it by name.

Each class stands for one mistake that its reader can act on, and each message says how to mend it. No class is a
``KeyError``, so that ``except KeyError`` around a look-up never swallows one. A plain mistake in a call (a batch size of 0, a
string in place of arrays) is a plain ``ValueError`` or ``TypeError``.
"""

import difflib
import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

_PASSING: Final = (
    "EIO ENXIO EMFILE ENFILE ENOMEM ENOBUFS ENOSPC EDQUOT EAGAIN EINTR EBUSY ENOLCK ETIMEDOUT ESTALE EREMOTEIO ENETDOWN "
    "ENETUNREACH ENETRESET EHOSTDOWN EHOSTUNREACH"
)
PASSING_ERRNOS: Final = frozenset(getattr(errno, name) for name in _PASSING.split() if hasattr(errno, name))
"""Numbers of errors of the system that say nothing about the bytes that were to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A mistake in a config, with its place: ``train.yaml:7: source.sources[1].paths: this field is required``.

    ``file`` is empty for a config that is in no file, ``line`` None if it is unknown, and ``place`` empty for a problem with
    the whole file.
    """

    message: str
    file: str = ""
    line: int | None = None
    column: int | None = None
    place: str = ""

    def __str__(self) -> str:
        spot = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return ": ".join(filter(None, [spot, self.place, self.message]))


class DataraxError(Exception):
    """Base of all datarax errors."""


class PluginError(DataraxError):
    """A plugin cannot be used. ``kind`` is the noun for it, such as "source" or "hook plugin", and ``name`` its name."""

    def __init__(self, kind: str, name: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name

    def __reduce__(self) -> tuple[type["PluginError"], tuple[str, str, str]]:
        return type(self), (self.kind, self.name, str(self))


class PluginNotFoundError(PluginError):
    """No installed distribution provides the name."""


class PluginDisabledError(PluginError):
    """The plugin is installed, but switched off in this process."""


class PluginConflictError(PluginError):
    """Several distributions provide the same name; datarax never picks one."""


class PluginIncompatibleError(PluginError):
    """The distribution that provides the name requires another datarax-core than the installed one."""


class PluginLoadError(PluginError):
    """The plugin's code failed to import. ``__cause__`` is the reason."""


class PluginContractError(PluginError):
    """The plugin's code imported, but is no valid source, stage, decoder or hook plugin; the message says what to write."""


class ConfigError(DataraxError, ValueError):
    """A config cannot be read or is invalid. The message lists every problem with its place; ``problems`` holds them."""

    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> Self:
        """Return the error that lists these problems, one per line."""
        listed = tuple(problems)
        error = cls("\n".join(map(str, listed)))
        error.problems = listed
        return error


class DataFileError(DataraxError, ValueError):
    """A file of records is damaged, truncated, of another format, or was changed while it was read; ``path`` names it."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[type["DataFileError"], tuple[str, str]]:
        return type(self), (self.path, str(self))


class RecordError(DataraxError, ValueError):
    """One record cannot be read or decoded.

    ``record`` is its record index in the source, ``path`` its file and ``row`` its number in that file, if it has them.
    ``reason`` describes the cause, which is chained.
    """

    def __init__(
        self, message: str, *, record: int, reason: str, path: str | None = None, row: int | None = None
    ) -> None:
        super().__init__(message)
        self.record, self.reason, self.path, self.row = record, reason, path, row

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), str(self), vars(self))


class SpecError(DataraxError, ValueError):
    """Records differ from the element spec, from one another, or cannot be batched."""


class StageError(SpecError):
    """A stage cannot work on the records that reach it. ``option`` is the location of its wrong option, such as ("field",)."""

    def __init__(self, message: str, option: tuple[int | str, ...] = ()) -> None:
        super().__init__(message)
        self.option = option


class NarrowingError(DataraxError, ValueError):
    """A 64-bit value does not fit the 32 bits that a device keeps while JAX's x64 mode is off."""


class StateError(DataraxError, ValueError):
    """A saved state belongs to another stream. The message names everything that differs."""


class WorkerError(DataraxError):
    """A worker process ended by itself, or was killed. The next batch starts new ones."""


class PluginWarning(UserWarning):
    """A plugin was left out, or is used by an alias; the message says which plugin, why, and what to do.

    ``DATARAX_STRICT_PLUGINS=1`` makes an error of a plugin that is left out. The new name in the config ends the other warning.
    """


def _again(cls: type[RecordError], message: str, fields: dict[str, Any]) -> RecordError:
    """Return a RecordError from the parts that its pickle holds."""
    return cls(message, **fields)


def reason_of(error: Exception) -> str:
    """Return the cause of an error for reports of bad records."""
    if isinstance(error, RecordError):
        return error.reason
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def is_passing(error: BaseException) -> bool:
    """Return whether an error, or one that it was raised from, is trouble that may pass, and says nothing about the bytes.

    Such are a lack of memory, a time-out, a lost connection, a failing disk or too many open files: a record that fails by them
    is no bad record, and is neither substituted nor listed.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, MemoryError | TimeoutError | ConnectionError):
            return True
        if isinstance(found, OSError) and found.errno in PASSING_ERRNOS:
            return True
        found = found.__cause__
    return False


def did_you_mean(name: str, known: Iterable[str], *, count: int = 1) -> str:
    """Return ``; did you mean 'train'?`` for messages; an empty text if no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=count)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def printable(text: str) -> str:
    """Return a text with control characters escaped, which would move the cursor or colour a terminal; lines stay lines."""
    if text.isascii() and text.isprintable():  # nearly all, in a twentieth of the time
        return text
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but for tab and line feed, and those that turn the direction of text."""
