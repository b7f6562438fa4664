"""Discovery of installed entry points from distribution metadata; no plugin is imported.

A damaged distribution is warned of, and hides no other. Metadata is read line by line, which takes milliseconds for a hundred
distributions. ``importlib.metadata`` parses each file as an e-mail, with its readme, every time that it is asked for a version.
"""

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, cast

from datarax_core.errors import PluginError, PluginLoadError, printable

from .distributions import by_folder, canonical_name, installed, is_bare, place_of, read_text
from .loading import imported, leave_out

if TYPE_CHECKING:
    from .requirements import Requirements

CORE: Final = "datarax-core"

GROUPS: Final = ("datarax.sources", "datarax.stages", "datarax.decoders", "datarax.hooks")

_FIELDS: Final = ("Name:", "Version:", "Requires-Dist:")
"""Beginnings of the lines of metadata that are used here."""

_PLACE: Final = attrgetter("name", "dist", "version", "target", "requires")
"""Key of the order of entries."""


@dataclass(frozen=True, slots=True)
class Installed:
    """An entry point, with the distribution that declares it; ``requires`` are that distribution's ``Requires-Dist`` lines.

    A plugin of a file or module that was named has that in place of a distribution, and its ``place`` says how it was named.
    """

    name: str
    dist: str
    version: str
    target: str
    requires: tuple[str, ...] = field(default=(), repr=False)
    place: str = ""

    @property
    def origin(self) -> str:
        """Distribution and version, as in ``datarax-memory 0.1.0``; or the place, as in ``--plugin ./count.py``."""
        return self.place or f"{self.dist} {self.version}"

    @property
    def package(self) -> str:
        """Top-level package that the plugin is imported from."""
        return self.target.partition(":")[0].partition(".")[0].strip()


class Fault(NamedTuple):
    """A named place whose plugins cannot be used: how it was named, its file or module, why, and the names that it may have."""

    place: str
    home: str
    error: PluginError
    names: tuple[str, ...]


ISOLATED: Final = "DATARAX_ISOLATED_PLUGINS"
"""Environment variable in which an isolated test tells its child processes which plugins there are."""

_TO_IMPORT: Final = object()
"""In place of an added plugin that is imported when it is loaded."""

NAMED: Final[dict[str, Installed]] = {}
"""A plugin of each top-level package that was imported from a named place, for messages about failures in its code."""


class Environment:
    """Installed distributions, and plugins that are added to them.

    Of several distributions with one name, the first on the path counts, since Python imports that one. A distribution that is
    found twice (editable and installed) therefore counts once. A folder without metadata, which an installer left behind,
    counts only if it is the only one.

    Args:
        distributions: The installed distributions.
        only: The distributions whose plugins count; None is all. Requirements are held against all of them.
    """

    def __init__(
        self, distributions: Iterable[metadata.Distribution] = (), only: Collection[str] | None = None
    ) -> None:
        self._found: dict[str, tuple[metadata.Distribution, str]] = {}
        self._checked: Requirements | None = None
        self._only = only
        self._added: dict[str, dict[Installed, object]] = {}
        self._versions: dict[str, str] = {}
        self.faults: list[Fault] = []
        """The named places that are switched off, or whose code fails."""
        self.homes: set[str] = set()
        """The words for all named places."""
        for dist in distributions:
            name, version = by_folder(dist)
            if name.startswith("~"):  # leftovers of an interrupted pip
                continue
            first, _ = self._found.setdefault(canonical_name(name), (dist, version))
            if first is not dist and is_bare(first):
                self._found[canonical_name(name)] = dist, version

    @classmethod
    def now(cls) -> Self:
        """Return the distributions that are installed at this moment; in an isolated test, those that it lets in."""
        if STAND_INS:
            return cast("Self", STAND_INS[-1]())
        if text := os.environ.get(ISOLATED):
            import json  # noqa: PLC0415 - only child processes of isolated tests need it

            return cls.isolated(**json.loads(text))
        return cls(installed())

    @classmethod
    def isolated(
        cls, only: Sequence[str] | None, added: Sequence[Sequence[Any]], hidden: Sequence[Sequence[str]] = ()
    ) -> Self:
        """Return core, the distributions ``only``, and added plugins: group, name, distribution, version, target, requires.

        If ``only`` is None, all distributions count. Of ``hidden`` plugins, which only the process of the test has, name and
        origin are told.
        """
        made = cls(installed(), None if only is None else {CORE, *only})
        for group, name, dist, version, target, requires in added:
            made.add(group, Installed(name, dist, version, target, tuple(requires)), _TO_IMPORT)
        for name, origin in hidden:
            what = "is an object, or a class that is defined in a function, which only the test's process has"
            error = PluginLoadError("plugin", name, f"{name!r} ({origin}) {what}; define it at the top of a module")
            made.faults.append(Fault(origin, name, error, (name,)))
        return made

    def entries(self, group: str) -> list[Installed]:
        """Return the entry points of ``group``, sorted by name. Warns of damaged distributions that have any, and omits them.

        Cost: one small file read for each installed distribution, two if it has the group.
        """
        only = self._found if self._only is None else self._found.keys() & set(self._only)
        found = {entry for name in only for entry in _entries(self._found[name][0], name, group)}
        return sorted(found.union(self._added.get(group, ())), key=_PLACE)

    def add(self, group: str, entry: Installed, loaded: object) -> None:
        """Add a plugin that no installed distribution provides, and that is loaded."""
        self._added.setdefault(group, {})[entry] = loaded
        if entry.version:
            self._versions[canonical_name(entry.dist)] = entry.version

    def version(self, name: str) -> str | None:
        """Return the installed version of a distribution; None if it is not installed."""
        dist, version = self._found.get(canonical_name(name), (None, ""))
        version = self._versions.get(canonical_name(name), version)
        return version or (None if dist is None else dist.version)

    def unmet(self, entry: Installed) -> list[str]:
        """Return the requirements of an entry's distribution that are not satisfied here, as declared."""
        return self._requirements().unmet(entry.requires) if entry.requires else []

    def unmet_core(self, entry: Installed) -> str | None:
        """Return the entry's requirement on datarax-core if the installed datarax-core does not satisfy it; otherwise None."""
        return next((line for line in self.unmet(entry) if self._requirements().required_name(line) == CORE), None)

    def load(self, entry: Installed, group: str) -> object:
        """Return the object behind an entry point of ``group``, imported. Raises `PluginImportError` if that fails."""
        added = self._added.get(group, {}).get(entry, _TO_IMPORT)
        return imported(entry.name, entry.target, group) if added is _TO_IMPORT else added

    def loaded(self, entry: Installed, group: str) -> object:
        """Return the object behind an entry point if it is added, or its module is imported; None otherwise."""
        added = self._added.get(group, {}).get(entry, _TO_IMPORT)
        if added is not _TO_IMPORT:
            return added
        module, _, attribute = entry.target.partition(":")
        found: Any = sys.modules.get(module.strip())
        for part in filter(None, attribute.strip().split(".")):
            found = getattr(found, part, None)
        return found

    def _requirements(self) -> "Requirements":
        if self._checked is None:
            from .requirements import Requirements  # noqa: PLC0415 - a tenth of what core imports, and most processes need none

            self._checked = Requirements(self.version)
        return self._checked


STAND_INS: Final[list[Callable[[], Environment]]] = []
"""What isolated tests have in place of the installed distributions; the last one counts."""


def plugins_by_package() -> dict[str, Installed]:
    """Return a plugin of third parties for each top-level package that one is imported from: installed ones, and named ones."""
    environment = Environment.now()
    found = {entry.package: entry for group in GROUPS for entry in environment.entries(group)}
    return NAMED | {package: entry for package, entry in found.items() if entry.dist != CORE}


def _entries(dist: metadata.Distribution, name: str, group: str) -> Iterator[Installed]:
    """Yield the entry points that a distribution has in ``group``."""
    try:
        text = read_text(dist, "entry_points.txt") or ""
        if f"[{group}]" not in text:
            return
        own_name, version, requires = _fields(dist)
    except (AttributeError, ValueError):  # METADATA is missing, or is no text
        own_name = ""
    if not own_name:
        _warn_damaged(place_of(dist) or str(dist.locate_file("")), f"a distribution with {group} has damaged metadata")
        return
    version = printable(version or "of unknown version")
    for line in _lines(text, group):
        entry, _, target = line.partition("=")
        entry, target = printable(entry.strip()), printable(target.strip())
        if not entry or not target:
            _warn_damaged(name, f"its entry points cannot be read: {line!r} is no line of {group}")
            return
        yield Installed(entry, name, version, target, requires)


def _fields(dist: metadata.Distribution) -> tuple[str, str, tuple[str, ...]]:
    """Return name, version and requirements from a distribution's metadata, where each is one line; of several, the first."""
    text = read_text(dist, "METADATA")
    if text is None:  # an egg, from before wheels
        return dist.metadata["Name"], dist.metadata["Version"], tuple(dist.requires or ())
    declared: dict[str, str] = {}
    requires = []
    for line in text.partition("\n\n")[0].splitlines():
        if line.startswith(_FIELDS):
            key, _, value = line.partition(":")
            if key == "Requires-Dist":
                requires.append(value.strip())
            else:
                declared.setdefault(key, value.strip())
    return declared.get("Name", ""), declared.get("Version", ""), tuple(requires)


def _lines(text: str, group: str) -> Iterator[str]:
    """Yield the lines of one section of an ``entry_points.txt``, without comments and without a byte order mark."""
    section = ""
    for line in map(str.strip, text.removeprefix("\ufeff").splitlines()):
        if line.startswith("["):
            section = line
        elif line and section == f"[{group}]" and not line.startswith(("#", ";")):
            yield line


def _warn_damaged(place: str, problem: str) -> None:
    error = PluginLoadError("distribution", place, printable(f"{place}: {problem}"))
    leave_out(error, "what it provides is missing until it is installed again")
