"""Every error that datarax raises on purpose.

::

    DataraxError
    ├── SourceError                    a source named in a config cannot be used; ``source`` is its name
    │   ├── SourceNotFoundError        nothing installed provides it
    │   ├── SourceDisabledError        installed, but switched off in this process
    │   ├── SourceConflictError        several distributions provide it; none is picked
    │   ├── SourceIncompatibleError    its distribution needs another datarax-core
    │   ├── SourceLoadError            its code failed to import; ``__cause__`` says why
    │   └── SourceContractError        its code imported, but is no source
    ├── ConfigError                    a config cannot be read, or is invalid; every problem with its place  (ValueError)
    ├── SpecError                      records differ from the element spec, or cannot be batched            (ValueError)
    ├── NarrowingError                 a 64-bit value does not fit the 32 bits that a device keeps           (ValueError)
    ├── StateError                     a saved state belongs to another stream; all that differs is named    (ValueError)
    └── WorkerError                    a worker process ended while records were read in it; it can be started again

Each class is one thing that a reader can act on, and each message says what to do next. None of them is a ``KeyError``:
code that looks something up under ``except KeyError`` must never swallow one. A plain mistake in a call (a batch size of
0, a string where arrays belong) is a plain ``ValueError`` or ``TypeError``.
"""


class DataraxError(Exception):
    """Base of all datarax errors."""


class SourceError(DataraxError):
    """A source named in a config cannot be used. ``source`` is its name."""

    def __init__(self, source: str, message: str) -> None:
        super().__init__(message)
        self.source = source

    def __reduce__(self) -> tuple[type["SourceError"], tuple[str, str]]:
        return type(self), (self.source, str(self))


class SourceNotFoundError(SourceError):
    """No installed distribution provides the source."""


class SourceDisabledError(SourceError):
    """The source is installed, but switched off in this process."""


class SourceConflictError(SourceError):
    """Several distributions provide the same name; datarax never picks one."""


class SourceIncompatibleError(SourceError):
    """The distribution that provides the source was built for another datarax-core."""


class SourceLoadError(SourceError):
    """The source's code failed to import. ``__cause__`` is the reason."""


class SourceContractError(SourceError):
    """The source's code imported, but is not a valid source."""


class ConfigError(DataraxError, ValueError):
    """A config cannot be read or is invalid. The message lists every problem with its place."""


class SpecError(DataraxError, ValueError):
    """Records differ from the element spec, from one another, or cannot be batched."""


class NarrowingError(DataraxError, ValueError):
    """A 64-bit value does not fit the 32 bits that a device keeps while JAX's x64 mode is off."""


class StateError(DataraxError, ValueError):
    """A saved state belongs to another stream. The message names everything that differs."""


class WorkerError(DataraxError):
    """A worker process ended by itself, or was killed. The next batch starts new ones."""
