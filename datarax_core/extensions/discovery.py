"""Discovery of installed entry points from distribution metadata; no plugin is imported.

A damaged distribution is warned of, and hides no other. Metadata is read line by line, which takes milliseconds for a hundred
distributions. ``importlib.metadata`` parses each file as an e-mail, with its readme, every time that it is asked for a version.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final, Self

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from datarax_core.errors import PluginLoadError, printable

from .loading import leave_out

CORE: Final = "datarax-core"

GROUPS: Final = ("datarax.sources", "datarax.stages", "datarax.decoders", "datarax.hooks")

_FIELDS: Final = ("Name:", "Version:", "Requires-Dist:")
"""Beginnings of the lines of metadata that are used here."""

_PLAIN: Final = re.compile(r"([\w.-]+) *(?:\(([^;@\[]*)\)|([^;@\[(]*))")
"""Pattern of a requirement without marker, extras and address."""


@dataclass(frozen=True, slots=True, order=True)
class Installed:
    """An entry point, with the distribution that declares it; ``requires`` are that distribution's ``Requires-Dist`` lines."""

    name: str
    dist: str
    version: str
    target: str
    requires: tuple[str, ...] = field(default=(), repr=False)

    @property
    def origin(self) -> str:
        """Distribution and version, as in ``datarax-memory 0.1.0``."""
        return f"{self.dist} {self.version}"

    @property
    def package(self) -> str:
        """Top-level package that the plugin is imported from."""
        return self.target.partition(":")[0].partition(".")[0].strip()


class Environment:
    """Installed distributions. Of several with one name, the first on the path counts, since Python imports that one.

    A distribution that is found twice (editable and installed) therefore counts once. A folder without metadata, which an
    installer left behind, counts only if it is the only one.
    """

    def __init__(self, distributions: Iterable[metadata.Distribution] = ()) -> None:
        self._found: dict[str, tuple[metadata.Distribution, str]] = {}
        self._is_met: dict[str, bool] = {}
        self._versions: dict[str, Version | None] = {}
        for dist in distributions:
            name, version = by_folder(dist)
            if name.startswith("~"):  # leftovers of an interrupted pip
                continue
            first, _ = self._found.setdefault(canonicalize_name(name), (dist, version))
            if first is not dist and is_bare(first):
                self._found[canonicalize_name(name)] = dist, version

    @classmethod
    def now(cls) -> Self:
        """Return the distributions that are installed at this moment."""
        return cls(metadata.distributions())

    def entries(self, group: str) -> list[Installed]:
        """Return the entry points of ``group``, sorted by name. Warns of damaged distributions that have any, and omits them.

        Cost: one small file read for each installed distribution, two if it has the group.
        """
        return sorted({entry for name, (dist, _) in self._found.items() for entry in _entries(dist, name, group)})

    def version(self, name: str) -> str | None:
        """Return the installed version of a distribution; None if it is not installed."""
        dist, version = self._found.get(canonicalize_name(name), (None, ""))
        return version or (None if dist is None else dist.version)

    def unmet(self, entry: Installed) -> list[str]:
        """Return the requirements of an entry's distribution that are not satisfied here, as declared."""
        return [line for line in entry.requires if not self._meets(line)]

    def unmet_core(self, entry: Installed) -> str | None:
        """Return the entry's requirement on datarax-core if the installed datarax-core does not satisfy it; otherwise None."""
        return next((line for line in self.unmet(entry) if _required_name(line) == CORE), None)

    def _meets(self, line: str) -> bool:
        if line not in self._is_met:
            self._is_met[line] = self._satisfies(line)
        return self._is_met[line]

    def _satisfies(self, line: str) -> bool:
        """Return True if a ``Requires-Dist`` line is satisfied; an unreadable line is not."""
        marker = line.partition(";")[2]
        if "extra ==" in marker and " or " not in marker:  # most lines: for an extra, which is not required here
            return True
        try:
            if plain := _PLAIN.fullmatch(line):  # takes a quarter of the time of Requirement
                return self._has(plain[1], SpecifierSet(plain[2] or plain[3]))
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                return True
            return self._has(requirement.name, requirement.specifier)
        except ValueError:
            return False

    def _has(self, name: str, versions: SpecifierSet) -> bool:
        if name not in self._versions:
            text = self.version(name)
            self._versions[name] = None if text is None else Version(text)
        version = self._versions[name]
        return version is not None and versions.contains(version, prereleases=True)


def plugins_by_package() -> dict[str, Installed]:
    """Return an installed plugin of third parties for each top-level package that one is imported from."""
    environment = Environment.now()
    found = {entry.package: entry for group in GROUPS for entry in environment.entries(group)}
    return {package: entry for package, entry in found.items() if entry.dist != CORE}


def by_folder(dist: metadata.Distribution) -> tuple[str, str]:
    """Return (name, version) from the name of the metadata folder, such as ``numpy-2.4.0.dist-info``, as Python does."""
    # Private, and much cheaper than `dist.metadata`. A distribution of another importer may have none.
    path = getattr(dist, "_path", None)
    if path is None:
        return str(dist.metadata["Name"]), ""
    stem, _, suffix = str(path.name).rpartition(".")
    name, _, version = stem.partition("-")
    return printable(name), printable(version) if suffix == "dist-info" else ""


def is_bare(dist: metadata.Distribution) -> bool:
    """Return True for a ``dist-info`` folder without METADATA, which an interrupted installer leaves behind."""
    path = getattr(dist, "_path", None)
    return isinstance(path, Path) and path.suffix == ".dist-info" and not (path / "METADATA").exists()


def _entries(dist: metadata.Distribution, name: str, group: str) -> Iterator[Installed]:
    """Yield the entry points that a distribution has in ``group``."""
    try:
        text = read_text(dist, "entry_points.txt") or ""
        if f"[{group}]" not in text:
            return
        fields = _fields(dist)
    except (AttributeError, ValueError):  # METADATA is missing, or is no text
        fields = []
    declared = dict(reversed(fields))
    if not declared.get("Name"):
        place = getattr(dist, "_path", None) or dist.locate_file("")
        _warn_damaged(str(place), f"a distribution with {group} has damaged metadata")
        return
    requires = tuple(value for key, value in fields if key == "Requires-Dist")
    for line in _lines(text, group):
        entry, _, target = (printable(part.strip()) for part in line.partition("="))
        if not entry or not target:
            _warn_damaged(name, f"its entry points cannot be read: {line!r} is no line of {group}")
            return
        yield Installed(entry, name, printable(declared.get("Version") or "of unknown version"), target, requires)


def _fields(dist: metadata.Distribution) -> list[tuple[str, str]]:
    """Return the fields of a distribution's metadata that are used here, each of which is one line."""
    text = read_text(dist, "METADATA")
    if text is None:  # an egg, from before wheels
        declared = [("Name", dist.metadata["Name"]), ("Version", dist.metadata["Version"])]
        return declared + [("Requires-Dist", line) for line in dist.requires or ()]
    head = text.partition("\n\n")[0].splitlines()
    return [
        (key, value.strip()) for key, _, value in (line.partition(":") for line in head if line.startswith(_FIELDS))
    ]


def read_text(dist: metadata.Distribution, name: str) -> str | None:
    """Return a file of a distribution's metadata as text; None if there is no such file."""
    path = getattr(dist, "_path", None)
    if not isinstance(path, Path):  # in a zip file, for example
        return dist.read_text(name)
    try:
        with open(f"{path}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 - a quarter of what read_text() costs
            return file.read().decode()
    except OSError:
        return None


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


def _required_name(line: str) -> str | None:
    """Return the canonical name of the distribution that a requirement names; None if the line is unreadable."""
    try:
        return canonicalize_name(Requirement(line).name)
    except InvalidRequirement:
        return None
