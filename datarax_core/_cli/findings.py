"""Findings about installed plugins: from their metadata, completed by trial imports."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from datarax_core.extensions.catalog import Catalog
from datarax_core.extensions.discovery import Environment
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Finding about one plugin.

    ``status`` is ready before and ok after a successful import; or disabled, conflict, unmet, broken, contract, hung or died.
    ``problem`` says why and what to do. ``seconds`` is the duration of the import beyond the imports of core itself, and
    ``imports`` holds the packages that took most of it, with their seconds.
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
        return f"{self.kind} {self.name!r} ({self.distribution} {self.version})"

    @property
    def label(self) -> str:
        """Kind and name: ``source:memory``."""
        return f"{self.kind}:{self.name}"

    @property
    def package(self) -> str:
        """Top-level package that the plugin is imported from."""
        return self.target.partition(":")[0].partition(".")[0].strip()


def installed_plugins() -> list[Finding]:
    """Return a finding for every installed plugin, sorted by distribution; imports none of them."""
    return sorted(_found(), key=lambda finding: (finding.distribution, finding.version))


def _found() -> Iterator[Finding]:
    environment = Environment.now()
    for word, registry in REGISTRIES.items():
        catalog = Catalog.from_environment(registry.group)
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
            )
