"""What is installed, read from distribution metadata: no plugin is imported, and no broken one hides another."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from ._strictness import leave_out
from .errors import PluginLoadError

CORE: Final = "datarax-core"

GROUPS: Final = ("datarax.sources", "datarax.stages", "datarax.decoders", "datarax.hooks")


@dataclass(frozen=True, slots=True, order=True)
class Installed:
    """One entry point, with the distribution that declares it; ``requires`` are its ``Requires-Dist`` lines."""

    name: str
    dist: str
    version: str
    target: str
    requires: tuple[str, ...] = field(default=(), repr=False)

    @property
    def origin(self) -> str:
        """Distribution and version, as people name them: ``datarax-memory 0.1.0``."""
        return f"{self.dist} {self.version}"

    def unmet(self) -> list[str]:
        """Its requirements that this environment does not satisfy, as declared."""
        return [line for line in self.requires if not _is_met(line)]

    def unmet_core(self) -> str | None:
        """Its requirement on datarax-core, if another datarax-core is installed."""
        return next((line for line in self.unmet() if _required_name(line) == CORE), None)


def installed(group: str) -> list[Installed]:
    """The entry points of ``group``, sorted by name. A distribution seen twice (editable and installed) counts once.

    Cost: one small file read for each installed distribution; about 5 ms for 150 of them.
    """
    dists = {canonicalize_name(name) for name in _declaring(group)}
    return sorted({entry for name in dists for entry in _entries(name, group)})


def _declaring(group: str) -> Iterator[str]:
    """Names of the distributions that have the group. A damaged one is warned of and left out."""
    for dist in metadata.distributions():
        try:
            if f"[{group}]" not in (dist.read_text("entry_points.txt") or ""):
                continue
            name = _declared(dist, "Name")
        except (KeyError, TypeError, ValueError):  # no METADATA, or it is no text; what raises depends on Python
            name = None
        if name:
            yield name
        else:
            _warn_damaged(str(dist.locate_file("")), f"a distribution with {group} has damaged metadata")


def _entries(name: str, group: str) -> Iterator[Installed]:
    """What the first distribution of this name on the path, the one that Python imports, has in ``group``."""
    try:
        dist = metadata.distribution(name)
        entry_points = dist.entry_points.select(group=group)
    except metadata.PackageNotFoundError:  # what an interrupted pip leaves behind, a folder such as ~atarax_memory
        return
    except (TypeError, ValueError) as cause:
        _warn_damaged(name, f"its entry points cannot be read ({cause})")
        return
    version = _declared(dist, "Version") or "of unknown version"
    requires = tuple(dist.requires or ())
    for entry in entry_points:
        yield Installed(entry.name, name, version, entry.value, requires)


def _declared(dist: metadata.Distribution, key: str) -> str | None:
    values: list[str] = dist.metadata.get_all(key, [])  # indexing warns of a missing key from Python 3.12
    return values[0] if values else None


def _warn_damaged(place: str, problem: str) -> None:
    error = PluginLoadError("distribution", place, f"{place}: {problem}")
    leave_out(error, "what it provides is missing until it is installed again")


def _required_name(line: str) -> str | None:
    try:
        return canonicalize_name(Requirement(line).name)
    except InvalidRequirement:
        return None


def _is_met(line: str) -> bool:
    """Whether the environment satisfies a ``Requires-Dist`` line; one that nobody can read is not satisfied."""
    try:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            return True
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except (InvalidRequirement, InvalidVersion, metadata.PackageNotFoundError):
        return False
