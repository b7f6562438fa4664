"""Findings about installed plugins: from their metadata, completed by trial imports."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from datarax_core.errors import PluginDisabledError
from datarax_core.extensions.catalog import (
    DISABLE_VARIABLE,
    Catalog,
    current_environment,
    disabled_words,
    unknown_words,
)
from datarax_core.extensions.discovery import Environment, Fault
from datarax_core.extensions.hooks import HookRegistry
from datarax_core.extensions.plugin_registry import PluginRegistry
from datarax_core.registry.decoders import DecoderRegistry
from datarax_core.registry.sources import SourceRegistry
from datarax_core.registry.stages import StageRegistry

CONFIGURABLE: Final[tuple[type[PluginRegistry[Any]], ...]] = (SourceRegistry, StageRegistry, DecoderRegistry)
"""Registries of plugins that a config can name."""

_ALL: Final[tuple[type[PluginRegistry[Any]], ...]] = (*CONFIGURABLE, HookRegistry)

REGISTRIES: Final = {registry.group.noun: registry for registry in _ALL}
"""For the name of each kind of plugin, the registry that lists and loads plugins of that kind."""


PLACE: Final = "place"
"""Kind of a finding about a named file or module as a whole, whose plugins are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Finding about one plugin.

    ``status`` is ready before and ok after a successful import; or disabled, conflict, unmet, broken, contract, hung or died.
    ``problem`` says why and what to do. ``seconds`` is the duration of the import beyond the imports of core itself, and
    ``imports`` holds the packages that took most of it, with their seconds. ``place`` says how a plugin came here that no
    distribution provides; if its file or module fails, the finding is about that, and its kind is `PLACE`.
    """

    kind: str
    name: str
    distribution: str
    version: str
    target: str
    status: str = "ready"
    problem: str = ""
    seconds: float | None = None
    imports: dict[str, float] = field(default_factory=dict)
    place: str = ""

    @property
    def is_problem(self) -> bool:
        """Whether the user has to mend the plugin or its installation."""
        return self.status not in ("ready", "ok", "disabled")

    @property
    def may_import(self) -> bool:
        """Whether to try the import; a plugin with an unmet requirement may still work without it."""
        return self.status in ("ready", "unmet")

    @property
    def title(self) -> str:
        """Name for sentences: ``source 'memory' (datarax-memory 0.1.0)``."""
        return f"{self.kind} {self.name!r} ({self.place or f'{self.distribution} {self.version}'})"

    @property
    def label(self) -> str:
        """Kind and name: ``source:memory``."""
        return f"{self.kind}:{self.name}"

    @property
    def package(self) -> str:
        """Top-level package that the plugin is imported from."""
        return self.target.partition(":")[0].partition(".")[0].strip()


def installed_plugins() -> list[Finding]:
    """Return a finding for every plugin, sorted by distribution; imports none that is installed, and those of named places."""
    return sorted(_found(), key=lambda finding: (finding.distribution, finding.version))


def without_unknown_words() -> list[str]:
    """Take words out of ``DATARAX_DISABLE_PLUGINS`` that would end a command, and return a sentence for each."""
    words = disabled_words()
    unknown = unknown_words(words, current_environment(words))
    if unknown:
        os.environ[DISABLE_VARIABLE] = ",".join(word for word in words if word not in unknown)
    return list(unknown.values())


def _found() -> Iterator[Finding]:
    environment = Environment.now()
    catalogs = {word: Catalog.from_environment(registry.group) for word, registry in REGISTRIES.items()}
    yield from map(_of_fault, next(iter(catalogs.values())).faults)
    for word, catalog in catalogs.items():
        for entry in catalog.entries():
            status, detail = catalog.status(entry)
            problem = "" if status == "ready" else f"{word} {entry.name!r} {detail}"
            if status == "disabled":
                problem = f"{word} {entry.name!r} is disabled {detail}"
            elif status == "unmet":  # one sentence for all plugins of a distribution, so that it is reported once
                missing = " ".join(f"'{line.partition(';')[0].strip()}'" for line in environment.unmet(entry))
                problem = f"{entry.origin} {detail}, which this environment does not satisfy; pip install {missing}"
            yield Finding(
                kind=word,
                name=entry.name,
                distribution=entry.dist,
                version=entry.version,
                target=entry.target,
                status=status,
                problem=problem,
                place=entry.place,
            )


def _of_fault(fault: Fault) -> Finding:
    """Return the finding about a file or module that is switched off, or whose code fails."""
    status = "disabled" if isinstance(fault.error, PluginDisabledError) else "broken"
    return Finding(
        kind=PLACE,
        name=fault.home,
        distribution=fault.home,
        version="",
        target="",
        status=status,
        problem=str(fault.error),
        place=fault.place,
    )
