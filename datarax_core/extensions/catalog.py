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

from datarax_core.errors import (
    PluginConflictError,
    PluginDisabledError,
    PluginIncompatibleError,
    PluginLoadError,
    PluginNotFoundError,
    did_you_mean,
)

from .contract import is_strict, leave_out, stdout_to_stderr
from .discovery import CORE, GROUPS, Environment, Installed

DISABLE_VARIABLE: Final = "DATARAX_DISABLE_PLUGINS"

Status = Literal["ready", "disabled", "conflict", "unmet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a group's names stand for: the word for it, and the first-party names with their distributions."""

    word: str
    group: str
    homes: Mapping[str, str]


class Catalog:
    """Installed names of one kind. Only `load` executes code of a plugin.

    Args:
        kind: Which.
        environment: Where the entry points of its group are; None is one where nothing is installed.
        disabled: Names and distributions that are switched off, or ``all``.
        allowed: The only names and distributions that are not; None is no such list.
    """

    def __init__(
        self,
        kind: Kind,
        environment: Environment | None = None,
        *,
        disabled: Iterable[str] = (),
        allowed: Iterable[str] | None = None,
    ) -> None:
        self.kind = kind
        self._entries: dict[str, list[Installed]] = {}
        self._names_of: dict[tuple[str, str], list[str]] = {}
        self._environment = environment or Environment()
        for entry in self._environment.entries(kind.group):
            self._entries.setdefault(entry.name, []).append(entry)
            self._names_of.setdefault((entry.dist, entry.target), []).append(entry.name)
        self._disabled = frozenset(disabled)
        self._allowed = None if allowed is None else frozenset(allowed)

    @classmethod
    def from_environment(cls, kind: Kind, allow: Iterable[str] | None = None) -> Self:
        """What is installed now, less what ``DATARAX_DISABLE_PLUGINS=all|name|dist,...`` switches off now.

        Raises:
            TypeError: ``allow`` is no list of names.
            PluginError: The process is strict, and something is wrong with a plugin; see `_strictness`.
        """
        words = os.environ.get(DISABLE_VARIABLE, "").split(",")
        allowed = None if allow is None else _names_in(allow)
        catalog = cls(kind, Environment.now(), disabled=filter(None, map(str.strip, words)), allowed=allowed)
        catalog._require_installed(allowed or frozenset())
        if is_strict():
            catalog._require_usable()
        return catalog

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """Every installed name, usable or not, sorted."""
        return sorted(self._entries)

    def entries(self) -> list[Installed]:
        """Every entry point, sorted by name; names that clash appear once for each distribution."""
        return [entry for name in self.names() for entry in self._entries[name]]

    def status(self, entry: Installed) -> tuple[Status, str]:
        """What can be said of an entry without importing it, and why; of one that is ready, its other names."""
        if reason := self._disabled_by(entry):
            return "disabled", reason
        if clash := self._clash(entry.name):
            return "conflict", clash
        if unmet := self._environment.unmet(entry):
            return "unmet", "needs " + ", ".join(unmet)
        others = self.also_named(entry)
        return "ready", f"also named {_list(map(repr, others))}" if others else ""

    def also_named(self, entry: Installed) -> list[str]:
        """The other names under which the distribution of ``entry`` provides the same object: its aliases, or their origin."""
        return [name for name in self._names_of[entry.dist, entry.target] if name != entry.name]

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
            reasons = _list(dict.fromkeys(self._disabled_by(entry) for entry in entries))
            raise PluginDisabledError(
                self.kind.word,
                name,
                f"{self.kind.word} {name!r} ({_list(entry.origin for entry in entries)}) is disabled {reasons}",
            )
        if clash := self._clash(name):
            raise PluginConflictError(self.kind.word, name, f"{self.kind.word} {name!r} {clash}")
        return enabled[0]

    def load(self, name: str) -> object:
        """The object behind ``name``, imported from its plugin. What the plugin prints meanwhile goes to stderr.

        Raises:
            PluginError: What `select` raises, or it was built for another core, or its import fails; then that is the cause.
        """
        entry = self.select(name)
        if needed := self._environment.unmet_core(entry):
            raise self._incompatible(entry, needed)
        try:
            with stdout_to_stderr:
                return metadata.EntryPoint(name, entry.target, self.kind.group).load()
        except KeyboardInterrupt:
            raise
        # The boundary to code of others, which fails in any way it likes: it exits when a library is missing, skips as if
        # it were a test, or panics in Rust, and none of these is an Exception.
        except BaseException as cause:
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

    # -- who may have a name --------------------------------------------------------------------------------------------

    def _enabled(self, name: str) -> list[Installed]:
        return [entry for entry in self._entries[name] if not self._disabled_by(entry)]

    def _disabled_by(self, entry: Installed) -> str:
        """What switches the entry off, and how to switch it on; empty if nothing does."""
        dists = {word for word in self._disabled if canonicalize_name(word) == entry.dist}
        every = {"all"} if entry.dist != CORE else set()  # what core brings is no plugin of others
        if words := sorted(dists | ((every | {entry.name}) & self._disabled)):
            return f"by {DISABLE_VARIABLE}={','.join(words)}; take that out of the variable to use it"
        allowed = self._allowed
        if allowed is None or any(word == entry.name or canonicalize_name(word) == entry.dist for word in allowed):
            return ""
        return f"by the allowlist of this process; add {entry.name!r} or {entry.dist!r} to `allow` to use it"

    def _clash(self, name: str) -> str:
        """Why no distribution may have this name: two provide it, or one that does not own it. Empty if one may."""
        enabled = self._enabled(name)
        home = self.kind.homes.get(name)
        strangers = sorted({entry.dist for entry in enabled if home and entry.dist != home})
        if len(enabled) < 2 and not strangers:
            return ""
        provided = "is provided by " + _list(f"{entry.origin} ({entry.target})" for entry in enabled)
        if strangers:
            remedy = f"uninstall {_list(strangers)}, or set {DISABLE_VARIABLE}={','.join(strangers)}"
            return f"{provided}, but that name belongs to {home}; {remedy}"
        return f"{provided}; uninstall one, or set {DISABLE_VARIABLE} to the distribution that you do not want"

    # -- what is wrong with an environment ------------------------------------------------------------------------------

    def _require_installed(self, allowed: frozenset[str]) -> None:
        """Warn of words on the allowlist that allow nothing: what a misspelt one was to allow is disabled."""
        if all(word in self._entries for word in allowed):
            return
        entries = [entry for group in GROUPS for entry in self._environment.entries(group)]
        known = sorted({entry.name for entry in entries} | {entry.dist for entry in entries})
        for word in sorted(allowed):
            if word in known or canonicalize_name(word) in known:
                continue
            message = f"`allow` names {word!r}, which is no installed plugin, and no distribution of any"
            leave_out(PluginNotFoundError(self.kind.word, word, message + did_you_mean(word, known)))

    def _require_usable(self) -> None:
        """Refuse an environment in which a plugin that is not disabled cannot be used."""
        for entry in self.entries():
            status, detail = self.status(entry)
            if status == "conflict":
                raise PluginConflictError(self.kind.word, entry.name, f"{self.kind.word} {entry.name!r} {detail}")
            if status == "unmet" and (needed := self._environment.unmet_core(entry)):
                raise self._incompatible(entry, needed)
            if status == "unmet":
                message = f"{self.kind.word} {entry.name!r} ({entry.origin}) {detail}, which this environment does not satisfy"
                raise PluginLoadError(self.kind.word, entry.name, message)

    def _incompatible(self, entry: Installed, needed: str) -> PluginIncompatibleError:
        return PluginIncompatibleError(
            self.kind.word,
            entry.name,
            f"{self.kind.word} {entry.name!r} ({entry.origin}) needs {needed}, and {CORE} {self._environment.version(CORE)} is "
            f"installed; upgrade {entry.dist}, or install a {CORE} that it accepts",
        )

    def _broken(self, entry: Installed, cause: BaseException) -> str:
        reason = f"exited with {cause.code!r}" if isinstance(cause, SystemExit) else f"{type(cause).__name__}: {cause}"
        message = f"{self.kind.word} {entry.name!r} ({entry.origin}) failed to import {entry.target}: {reason}"
        if unmet := self._environment.unmet(entry):
            return f"{message}; {entry.dist} needs {_list(unmet)}, which this environment does not satisfy"
        return f"{message}; this is a fault of {entry.dist} or of its installation"


def _names_in(allow: Iterable[str]) -> frozenset[str]:
    """The words of an allowlist.

    Raises:
        TypeError: It is one text, or holds what is none.
    """
    words = None if isinstance(allow, str) or not isinstance(allow, Iterable) else list(allow)
    if words is None or not all(isinstance(word, str) for word in words):
        raise TypeError(
            f"`allow` lists names of plugins or of their distributions, such as ['memory', 'datarax-mix'], not {allow!r:.80}"
        )
    return frozenset(words)


def _list(words: Iterable[str]) -> str:
    return " and ".join(words)
