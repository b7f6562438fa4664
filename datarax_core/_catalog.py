"""What plugins provide under one entry-point group, by name; each name is usable, or says what is wrong and what to do.

Sources use it, and so can everything else that is found by name: stages, decoders, hooks.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Final, Literal, Self

from packaging.utils import canonicalize_name

from ._discovery import CORE, Installed, installed
from .errors import (
    PluginConflictError,
    PluginDisabledError,
    PluginIncompatibleError,
    PluginLoadError,
    PluginNotFoundError,
)

DISABLE_VARIABLE: Final = "DATARAX_DISABLE_PLUGINS"

Status = Literal["ready", "disabled", "conflict", "unmet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a group's names stand for: the word for it, and the first-party names with their distributions."""

    word: str
    group: str
    homes: Mapping[str, str]


class Catalog:
    """Installed names of one kind. Only `load` executes code of a plugin."""

    def __init__(self, kind: Kind, entries: Iterable[Installed] = (), *, disabled: Iterable[str] = ()) -> None:
        self.kind = kind
        self._entries: dict[str, list[Installed]] = {}
        for entry in sorted(entries):
            self._entries.setdefault(entry.name, []).append(entry)
        self._disabled = frozenset(disabled)

    @classmethod
    def from_environment(cls, kind: Kind) -> Self:
        """What is installed now, less what ``DATARAX_DISABLE_PLUGINS=all|name|dist,...`` switches off now."""
        words = os.environ.get(DISABLE_VARIABLE, "").split(",")
        return cls(kind, installed(kind.group), disabled=filter(None, map(str.strip, words)))

    def names(self) -> list[str]:
        """Every installed name, usable or not, sorted."""
        return sorted(self._entries)

    def entries(self) -> list[Installed]:
        """Every entry point, sorted by name; names that clash appear once for each distribution."""
        return [entry for name in self.names() for entry in self._entries[name]]

    def status(self, entry: Installed) -> tuple[Status, str]:
        """What can be said of an entry without importing it, and why."""
        if words := self._disabled_by(entry):
            return "disabled", f"by {DISABLE_VARIABLE}={words}"
        if clash := self._clash(entry.name):
            return "conflict", clash
        if unmet := entry.unmet():
            return "unmet", "needs " + ", ".join(unmet)
        return "ready", ""

    def select(self, name: str) -> Installed:
        """The one entry point behind ``name``.

        Raises:
            PluginError: Nothing has the name, all that do are disabled, or several do.
        """
        entries = self._entries.get(name)
        if not entries:
            raise self.unknown(name, self.names())
        enabled = self._enabled(name)
        if not enabled:
            words = ",".join(sorted({self._disabled_by(entry) for entry in entries}))
            raise PluginDisabledError(
                self.kind.word,
                name,
                f"{self.kind.word} {name!r} ({_list(entry.origin for entry in entries)}) is disabled by "
                f"{DISABLE_VARIABLE}={words}; take that out of the variable to use it",
            )
        if clash := self._clash(name):
            raise PluginConflictError(self.kind.word, name, f"{self.kind.word} {name!r} {clash}")
        return enabled[0]

    def load(self, name: str) -> object:
        """The object behind ``name``, imported from its plugin.

        Raises:
            PluginError: What `select` raises, or it was built for another core, or its import fails; then that is the cause.
        """
        entry = self.select(name)
        if needed := entry.unmet_core():
            raise PluginIncompatibleError(
                self.kind.word,
                name,
                f"{self.kind.word} {name!r} ({entry.origin}) needs {needed}, and {CORE} {metadata.version(CORE)} is "
                f"installed; upgrade {entry.dist}, or install a {CORE} that it accepts",
            )
        try:
            return metadata.EntryPoint(name, entry.target, self.kind.group).load()
        # The boundary to code of others, which fails in any way it likes; some even exit when a library is missing.
        except (Exception, SystemExit) as cause:
            raise PluginLoadError(self.kind.word, name, self._broken(entry, cause)) from cause

    def unknown(self, name: str, names: list[str]) -> PluginNotFoundError:
        """The error that ``name`` is none of ``names``: what may be meant, or what to install."""
        if home := self.kind.homes.get(name):
            return PluginNotFoundError(
                self.kind.word, name, f"{self.kind.word} {name!r} is not installed; pip install {home}"
            )
        message = f"unknown {self.kind.word} {name!r}"
        for close in difflib.get_close_matches(name, sorted({*names, *self.kind.homes}), n=1):
            message += f"; did you mean {close!r}"
            message += "?" if close in names else f" (pip install {self.kind.homes[close]})?"
        return PluginNotFoundError(self.kind.word, name, f"{message} (installed: {', '.join(names) or 'none'})")

    def _enabled(self, name: str) -> list[Installed]:
        return [entry for entry in self._entries[name] if not self._disabled_by(entry)]

    def _disabled_by(self, entry: Installed) -> str:
        """The words of the disable variable that switch the entry off."""
        dists = {word for word in self._disabled if canonicalize_name(word) == entry.dist}
        return ",".join(sorted(dists | ({"all", entry.name} & self._disabled)))

    def _clash(self, name: str) -> str:
        """Why no distribution may have this name: two provide it, or one that does not own it. Empty if one may."""
        enabled = self._enabled(name)
        home = self.kind.homes.get(name)
        strangers = sorted({entry.dist for entry in enabled if home and entry.dist != home})
        provided = "is provided by " + _list(f"{entry.origin} ({entry.target})" for entry in enabled)
        if strangers:
            remedy = f"uninstall {_list(strangers)}, or set {DISABLE_VARIABLE}={','.join(strangers)}"
            return f"{provided}, but that name belongs to {home}; {remedy}"
        if len(enabled) > 1:
            return f"{provided}; uninstall one, or set {DISABLE_VARIABLE} to the distribution that you do not want"
        return ""

    def _broken(self, entry: Installed, cause: BaseException) -> str:
        reason = f"exited with {cause.code!r}" if isinstance(cause, SystemExit) else f"{type(cause).__name__}: {cause}"
        message = f"{self.kind.word} {entry.name!r} ({entry.origin}) failed to import {entry.target}: {reason}"
        if unmet := entry.unmet():
            return f"{message}; {entry.dist} needs {_list(unmet)}, which this environment does not satisfy"
        return f"{message}; this is a fault of {entry.dist} or of its installation"


def _list(words: Iterable[str]) -> str:
    return " and ".join(words)
