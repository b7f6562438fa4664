"""Catalog of one entry-point group: the installed names, each usable, or with the reason and a remedy.

The groups are those of sources, stages, decoders and hooks. Only `Catalog.load` imports an installed plugin.
"""

import difflib
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self

from datarax_core.errors import (
    ConfigError,
    PluginConflictError,
    PluginDisabledError,
    PluginError,
    PluginIncompatibleError,
    PluginLoadError,
    PluginNotFoundError,
    did_you_mean,
)

from .discovery import CORE, GROUPS, Environment, Fault, Installed
from .distributions import canonical_name
from .known import FIRST_PARTIES, homes
from .loading import PluginImportError, is_strict, leave_out, names_places

DISABLE_VARIABLE: Final = "DATARAX_DISABLE_PLUGINS"

Status = Literal["ready", "disabled", "conflict", "unmet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPointGroup:
    """A group of entry points: its name, the noun for its plugins in messages, and the names that first parties own.

    Attributes:
        name: As in package metadata, such as ``datarax.sources``.
        noun: Noun for one plugin of it, such as "source".
        example: A name of it, for messages.
        first_party: The distribution that owns a name, for each name that belongs to one.
    """

    name: str
    noun: str
    example: str
    first_party: Mapping[str, str]


class Catalog:
    """Installed names of one entry-point group.

    Args:
        group: Which group.
        environment: The distributions that are installed; None is none.
        disabled: Names and distributions that are switched off, or ``all``.
        allowed: The only names and distributions that may be used; None allows all.
    """

    def __init__(
        self,
        group: EntryPointGroup,
        environment: Environment | None = None,
        *,
        disabled: Iterable[str] = (),
        allowed: Iterable[str] | None = None,
    ) -> None:
        self.group = group
        self._entries: dict[str, list[Installed]] = {}
        self._names_of: dict[tuple[str, str], list[str]] = {}
        self._environment = environment or Environment()
        for entry in self._environment.entries(group.name):
            self._entries.setdefault(entry.name, []).append(entry)
            self._names_of.setdefault((entry.dist, entry.target), []).append(entry.name)
        self._disabled = frozenset(disabled)
        self.allowed: Final = None if allowed is None else frozenset(allowed)

    @classmethod
    def from_environment(cls, group: EntryPointGroup, allow: Iterable[str] | None = None) -> Self:
        """Return the catalog of what is installed and named, and of ``DATARAX_DISABLE_PLUGINS=all|name|dist,...``, read now.

        Raises:
            ConfigError: The variable names something else: no plugin would be disabled, and nobody would notice.
            TypeError: ``allow`` is no list of names.
            PluginError: A word of ``DATARAX_PLUGINS`` or ``--plugin`` names nothing; or the process is strict
                (`loading.is_strict`), and a plugin cannot be used.
        """
        allowed = None if allow is None else _require_names(allow)
        disabled = disabled_words()
        environment = current_environment(disabled, allowed)
        if unknown := unknown_words(disabled, environment):
            raise ConfigError("\n".join(unknown.values()))
        catalog = cls(group, environment, disabled=disabled, allowed=allowed)
        catalog._warn_of_unknown(allowed or frozenset())
        if is_strict():
            catalog._require_usable()
        return catalog

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """Return every installed name, usable or not, sorted."""
        return sorted(self._entries)

    def entries(self) -> list[Installed]:
        """Return every entry point, sorted by name; names that clash appear once for each distribution."""
        return [entry for name in self.names() for entry in self._entries[name]]

    def status(self, entry: Installed) -> tuple[Status, str]:
        """Return (status, detail) of an entry from metadata alone. For a ready entry, detail lists its aliases."""
        if reason := self._disabled_by(entry):
            return "disabled", reason
        if clash := self._clash(entry.name):
            return "conflict", clash
        if unmet := self._environment.unmet(entry):
            return "unmet", "needs " + ", ".join(unmet)
        others = self.also_named(entry)
        return "ready", f"also named {_listed(map(repr, others))}" if others else ""

    def also_named(self, entry: Installed) -> list[str]:
        """Return the other names that the distribution of ``entry`` gives the same object: its aliases, or their origin."""
        return [name for name in self._names_of[entry.dist, entry.target] if name != entry.name]

    def provides(self, name: str, plugin: object) -> bool:
        """Return whether ``plugin`` is the object behind an entry point of that name. Imports nothing."""
        entries = self._entries.get(name, ())
        return any(self._environment.loaded(entry, self.group.name) is plugin for entry in entries)

    def select(self, name: str) -> Installed:
        """Return the one entry point behind ``name``.

        Raises:
            PluginError: No plugin has the name, all that have it are disabled, or several have it.
        """
        noun, entries = self.group.noun, self._entries.get(name)
        if not entries:
            raise self.unknown(name, self.names())
        enabled = self._enabled(name)
        if not enabled:
            origins = _listed(entry.origin for entry in entries)
            reasons = _listed(dict.fromkeys(self._disabled_by(entry) for entry in entries))
            raise PluginDisabledError(noun, name, f"{noun} {name!r} ({origins}) is disabled {reasons}")
        if clash := self._clash(name):
            raise PluginConflictError(noun, name, f"{noun} {name!r} {clash}")
        return enabled[0]

    def load(self, name: str) -> object:
        """Return the object behind ``name``, imported from its plugin. The plugin's prints go to stderr meanwhile.

        Raises:
            PluginError: The errors of `select`; or the plugin needs another core; or its import fails (chained as cause).
        """
        entry = self.select(name)
        if needed := self._environment.unmet_core(entry):
            raise self._incompatible(entry, needed)
        try:
            return self._environment.load(entry, self.group.name)
        except PluginImportError as failed:
            raise PluginLoadError(self.group.noun, name, self._broken(entry, failed)) from failed.__cause__

    def unknown(self, name: str, names: list[str]) -> PluginError:
        """Return the error for a ``name`` that is not among ``names``, with a close name or a distribution to install.

        If the text of a file that cannot be used declares the name, that is the error.
        """
        noun, faults = self.group.noun, self.faults
        for fault in faults:
            if name in fault.names:
                return type(fault.error)(noun, name, f"{noun} {name!r}: {fault.error}")
        owners = {**homes([noun]), **self.group.first_party}
        if owner := owners.get(name):
            return PluginNotFoundError(noun, name, f"{noun} {name!r} is not installed; pip install {owner}")
        message = f"unknown {noun} {name!r}"
        for close in difflib.get_close_matches(name, sorted({*names, *owners}), n=1):
            message += f"; did you mean {close!r}"
            message += "?" if close in names else f" (pip install {owners[close]})?"
        message += f" (installed: {', '.join(names) or 'none'})"
        if self.group.name and re.search(r"[/\\:]|\.py$", name):
            message += "; a config names no code: name a file or module by drx --plugin, and its plugin by the name that it has"
        return PluginNotFoundError(noun, name, "; ".join([message, *(f"{fault.error}" for fault in faults)]))

    @property
    def faults(self) -> list[Fault]:
        """The named places that are switched off, or whose code fails."""
        return self._environment.faults

    # -- who may have a name --------------------------------------------------------------------------------------------

    def _enabled(self, name: str) -> list[Installed]:
        return [entry for entry in self._entries[name] if not self._disabled_by(entry)]

    def _disabled_by(self, entry: Installed) -> str:
        """Return why the entry is disabled, and how to enable it; empty if it is enabled."""
        dists = {name for name in self._disabled if canonical_name(name) == entry.dist}
        every = {"all"} if entry.dist != CORE else set()  # core's own stages are no third-party plugin
        if matches := sorted(dists | ((every | {entry.name}) & self._disabled)):
            return f"by {DISABLE_VARIABLE}={','.join(matches)}; take that out of the variable to use it"
        allowed = self.allowed
        if (
            entry.place
            or allowed is None
            or any(name == entry.name or canonical_name(name) == entry.dist for name in allowed)
        ):
            return ""
        return f"by the allowlist of this process; add {entry.name!r} or {entry.dist!r} to `allow` to use it"

    def _clash(self, name: str) -> str:
        """Return why no distribution may use this name: several provide it, or one that does not own it. Empty if one may."""
        enabled = self._enabled(name)
        owner = self.group.first_party.get(name)
        strangers = sorted({entry.dist for entry in enabled if owner and entry.dist != owner})
        if len(enabled) < 2 and not strangers:
            return ""
        provided = "is provided by " + _listed(f"{entry.origin} ({entry.target})" for entry in enabled)
        if named := [entry for entry in enabled if entry.place]:
            others = f", but that name belongs to {owner}" if strangers else ""
            return f"{provided}{others}; give {named[0].target} another name, its `type`, or leave {named[0].dist} out"
        if strangers:
            remedy = f"uninstall {_listed(strangers)}, or set {DISABLE_VARIABLE}={','.join(strangers)}"
            return f"{provided}, but that name belongs to {owner}; {remedy}"
        return f"{provided}; uninstall one, or set {DISABLE_VARIABLE} to the distribution that you do not want"

    # -- problems of an environment -------------------------------------------------------------------------------------

    def _warn_of_unknown(self, allowed: frozenset[str]) -> None:
        """Warn of entries of the allowlist that match no plugin, since a misspelt entry disables the plugin it should allow."""
        if all(name in self._entries for name in allowed):
            return
        known = sorted(self._environment.homes.union(*_known_in(self._environment)))
        for name in sorted(allowed):
            if name in known or canonical_name(name) in known:
                continue
            message = f"`allow` names {name!r}, which is no installed plugin, and no distribution of any"
            leave_out(PluginNotFoundError(self.group.noun, name, message + did_you_mean(name, known)))

    def _require_usable(self) -> None:
        """Raise a PluginError if a plugin that is not disabled cannot be used."""
        noun = self.group.noun
        for entry in self.entries():
            status, detail = self.status(entry)
            if status == "conflict":
                raise PluginConflictError(noun, entry.name, f"{noun} {entry.name!r} {detail}")
            if status == "unmet" and (needed := self._environment.unmet_core(entry)):
                raise self._incompatible(entry, needed)
            if status == "unmet":
                message = f"{noun} {entry.name!r} ({entry.origin}) {detail}, which this environment does not satisfy"
                raise PluginLoadError(noun, entry.name, message)

    def _incompatible(self, entry: Installed, needed: str) -> PluginIncompatibleError:
        noun = self.group.noun
        return PluginIncompatibleError(
            noun,
            entry.name,
            f"{noun} {entry.name!r} ({entry.origin}) needs {needed}, and {CORE} {self._environment.version(CORE)} is "
            f"installed; upgrade {entry.dist}, or install a {CORE} that it accepts",
        )

    def _broken(self, entry: Installed, failed: PluginImportError) -> str:
        """Return the message for an import that failed."""
        message = f"{self.group.noun} {entry.name!r} ({entry.origin}) {failed}"
        if unmet := self._environment.unmet(entry):
            return f"{message}; {entry.dist} needs {_listed(unmet)}, which this environment does not satisfy"
        return f"{message}; this is a fault of {entry.dist} or of its installation"


def current_environment(disabled: Collection[str], allowed: Collection[str] | None = None) -> Environment:
    """Return what is installed, and the plugins of places that are named, at this moment. Imports named places only.

    Raises:
        PluginError: A word for a place names nothing; or the process is strict, and the code of a place fails.
    """
    environment = Environment.now()
    if names_places():
        from .named import add_named  # noqa: PLC0415 - few processes need it

        add_named(environment, disabled=disabled, allowed=allowed)
    return environment


def disabled_words() -> list[str]:
    """Return the words of ``DATARAX_DISABLE_PLUGINS``."""
    return list(filter(None, map(str.strip, os.environ.get(DISABLE_VARIABLE, "").split(","))))


def unknown_words(words: Iterable[str], environment: Environment) -> dict[str, str]:
    """Return a sentence for each of the ``words`` that names no plugin, no distribution of plugins, and is not ``all``.

    First-party names are known whether or not they are installed.
    """
    words = list(words)
    if not words:
        return {}
    names, dists = _known_in(environment)
    names |= {"all", *(row[1] for row in FIRST_PARTIES)}
    dists |= {row[2] for row in FIRST_PARTIES}
    names |= environment.homes
    unknown = [word for word in words if word not in names and canonical_name(word) not in dists]
    return {word: _unknown_word(word, names | dists) for word in unknown}


def _unknown_word(word: str, known: Iterable[str]) -> str:
    hint = did_you_mean("all" if word == "*" else word.lower(), known)
    message = f"{DISABLE_VARIABLE} names {word!r}, which no installed plugin and no distribution of any is called"
    return f"{message}{hint or '; take it out of the variable, or write all to disable every plugin'}"


def _known_in(environment: Environment) -> tuple[set[str], set[str]]:
    """Return (names of all installed plugins, names of their distributions)."""
    entries = [entry for group in GROUPS for entry in environment.entries(group)]
    return {entry.name for entry in entries}, {entry.dist for entry in entries}


def _require_names(allow: Iterable[str]) -> frozenset[str]:
    """Return the names of an allowlist.

    Raises:
        TypeError: It is one text, or holds anything but texts.
    """
    names = None if isinstance(allow, str) or not isinstance(allow, Iterable) else list(allow)
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"`allow` lists names of plugins or of their distributions, such as ['memory', 'datarax-mix'], not {allow!r:.80}"
        )
    return frozenset(names)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)
