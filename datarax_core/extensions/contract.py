"""What core asks of a plugin, and what becomes of one that does not keep it."""

import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final, TextIO, cast

from datarax_core.errors import ConfigError, PluginContractError, PluginError, PluginWarning

STRICT_VARIABLE: Final = "DATARAX_STRICT_PLUGINS"


def is_strict() -> bool:
    """Whether ``DATARAX_STRICT_PLUGINS=1`` says that a plugin which cannot be used is an error, wanted or not.

    Raises:
        ConfigError: The variable says neither that, nor (0, empty, unset) the opposite.
    """
    word = os.environ.get(STRICT_VARIABLE, "").strip()
    if word not in ("", "0", "1"):
        raise ConfigError(f"{STRICT_VARIABLE} is 1, or else 0, empty or not set; not {word!r}")
    return word == "1"


def leave_out(error: PluginError, consequence: str = "") -> None:
    """Warn of a plugin that is left out for this error, and what that means.

    Raises:
        PluginError: ``error`` itself, if the process is strict.
    """
    if is_strict():
        raise error
    warnings.warn(PluginWarning("; ".join(filter(None, [str(error), consequence]))), stacklevel=3)


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


def declared_name(loaded: object) -> str | None:
    """What a class gives as its registered name: the default of its ``type``, or of that of its config; None if nothing."""
    fields = getattr(getattr(loaded, "config_class", loaded), "model_fields", None)
    default = getattr(fields.get("type"), "default", None) if isinstance(fields, dict) else None
    return default if isinstance(default, str) else None


def _refuse(kind: str, loaded: object, name: str | None, origin: str, problems: Iterable[str]) -> None:
    if told := "; ".join(problems):
        label = repr(name) if name else getattr(loaded, "__qualname__", repr(loaded))
        raise PluginContractError(kind, name or label, f"{kind} {label} ({origin}) is no {kind}: {told}")


def _own_config_problems(loaded: object, base: Any, name: str | None, methods: tuple[str, str]) -> Iterator[str]:
    """What is wrong with a class that is its own config, and writes one of the methods of ``base``."""
    word, own = base.__name__.lower(), cast("Any", loaded)
    if not isinstance(loaded, type):
        yield f"it is {type(loaded).__name__} {loaded!r:.80}, not a class; name the {word} class instead"
    elif not issubclass(loaded, base):
        yield f"it does not derive from {base.__name__}; write `class {loaded.__name__}({base.__name__}):`"
    else:
        yield from _name_problems(loaded.__name__, own.model_fields["type"].default, name)
        if all(getattr(loaded, method) is getattr(base, method) for method in methods):
            yield f"it defines neither {methods[0]}() nor {methods[1]}(); write one of them"


def _name_problems(config: str, default: object, name: str | None) -> Iterator[str]:
    wanted = name or "your_name"
    remedy = f'write `type: Literal["{wanted}"] = "{wanted}"` in it'
    if not isinstance(default, str) or not default:
        yield f"{config}.type has no default; {remedy}"
    elif name is not None and default != name:
        yield f"{config}.type defaults to {default!r}, but the entry point is named {name!r}; {remedy}"


API_VERSION: Final = 1
"""Kept so that plugins which import it load. Nothing reads it: a plugin's ``Requires-Dist`` says which cores it works with."""

BY_HAND: Final = "registered by hand"
"""Stands in messages for distribution and version of a plugin that no distribution provides."""
