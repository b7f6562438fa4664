"""Distributions of this tree as they are released: built, inspected, and tried in environments of their own.

Run: ``make wheels``, or ``python tests/integration/importable/distributions.py [FOLDER]``. It leaves sdists and wheels in the
folder if they are in order, and reports the faults otherwise. The tests do the same, one by one.
"""

import json
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from environments import environment, pip, requirements_of, run, said_by
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.version import Version

ROOT: Final = Path(__file__).parents[3]
CORE: Final = "datarax-core"
EXAMPLES: Final = sorted(file.parent for file in ROOT.glob("examples/plugins/*/pyproject.toml"))
"""Folders of the plugins that guides walk through."""

SMOKE: Final = ROOT / "tests/integration/smoke"

_FOLLOWED: Final = ("https://", "#")
"""Beginnings of links that an index follows."""

_BACKEND: Final = """
import json, os, sys
from hatchling.build import build_sdist, build_wheel

for kind, folder, out in json.loads(sys.argv[1]):
    os.chdir(folder)
    {"sdist": build_sdist, "wheel": build_wheel}[kind](out)
"""

_SMOKE_RUNNER: Final = """
import json, runpy, sys
from importlib import import_module

packages, *smokes = sys.argv[1:]
for smoke in smokes:
    runpy.run_path(smoke, run_name="__main__")
print(json.dumps([import_module(package).__file__ for package in packages.split(",")]))
"""


@dataclass(frozen=True)
class Project:
    """Project: a folder with a pyproject.toml."""

    folder: Path

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Content of its pyproject.toml."""
        return tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def table(self) -> dict[str, Any]:
        """The ``project`` table of its pyproject.toml."""
        table: dict[str, Any] = self.settings["project"]
        return table

    @property
    def name(self) -> str:
        """Name of the distribution."""
        return str(self.table["name"])

    @property
    def package(self) -> str:
        """Name of the package that is imported."""
        return self.name.replace("-", "_")

    @property
    def stem(self) -> str:
        """Beginning of the file names of its distributions."""
        return f"{self.package}-{self.table['version']}"

    @property
    def same_minor(self) -> str:
        """Requirement that allows this minor version of it."""
        major, minor = Version(self.table["version"]).release[:2]
        return f"{self.name}>={major}.{minor},<{major}.{minor + 1}"

    def test_requirements(self) -> list[Requirement]:
        """Requirements of its tests, if it has an extra for them."""
        return list(map(Requirement, self.table["optional-dependencies"]["test"]))

    def package_files(self) -> set[str]:
        """Return the files of the package: code, py.typed, templates."""
        kinds = ("*.py", "py.typed", "*.template")
        files = (file for kind in kinds for file in (self.folder / self.package).rglob(kind))
        return {str(file.relative_to(self.folder)) for file in files}


@dataclass(frozen=True)
class Built(Project):
    """Project and the files of its distributions."""

    out: Path

    @property
    def sdist(self) -> Path:
        """Path of its sdist."""
        return self.out / f"{self.stem}.tar.gz"

    @property
    def wheel(self) -> Path:
        """Path of its wheel."""
        return self.out / f"{self.stem}-py3-none-any.whl"

    @cached_property
    def installed_as(self) -> metadata.Distribution:
        """Metadata of the wheel."""
        return said_by(self.wheel)

    def requires(self) -> list[Requirement]:
        """Return the requirements of the wheel, extras included."""
        return requirements_of(self.installed_as)


def projects() -> list[Project]:
    """Return core and every plugin of this tree."""
    return [Project(ROOT), *(Project(file.parent) for file in sorted(ROOT.glob("plugins/*/pyproject.toml")))]


def build(wanted: Sequence[Project], out: Path) -> dict[str, Built]:
    """Build sdists and wheels as for a release, by name: the sdist from the tree, the wheel from the sdist."""
    built = {project.name: Built(project.folder, out) for project in wanted}
    _build([("sdist", each.folder, out) for each in built.values()])
    with tempfile.TemporaryDirectory() as unpacked:
        for each in built.values():
            with tarfile.open(each.sdist) as archive:
                archive.extractall(unpacked, filter="data")
        _build([("wheel", Path(unpacked, each.stem), out) for each in built.values()])
    return built


def combinations(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the sets of distributions that must work: core alone, with each plugin, and with all."""
    plugins = [name for name in names if name != CORE]
    return {"core": [CORE], **{f"core and {name}": [CORE, name] for name in plugins}, "all": [CORE, *plugins]}


def problems(built: Mapping[str, Built]) -> list[str]:
    """Return a sentence for each fault of the built files; nothing is installed for it."""
    with tempfile.TemporaryDirectory() as from_tree:
        _build([("wheel", each.folder, Path(from_tree)) for each in built.values()])
        found = [
            f"{each.name}: the wheel from the sdist is not the one from the tree"
            for each in built.values()
            if each.wheel.read_bytes() != Path(from_tree, each.wheel.name).read_bytes()
        ]
    for each in built.values():
        found += [f"{each.name}: {problem}" for problem in (*_of_contents(each), *_of_metadata(each))]
    return [*found, *_of_versions(built)]


def prove(folder: Path, built: Sequence[Built]) -> Path:
    """Install distributions into a fresh environment, try them there, and return the folder of its commands.

    Raises:
        AssertionError: They do not; the message holds their output.
    """
    commands = environment(folder, [each.wheel for each in built])
    listed = json.loads(run(commands / "drx", "sources", "--json", cwd=folder).stdout)
    expected = [
        (entry.name, "ready", each.name, each.table["version"])
        for each in built
        for entry in each.installed_as.entry_points.select(group="datarax.sources")
    ]
    found = [(info["name"], info["status"], info["distribution"], info["version"]) for info in listed]
    if found != sorted(expected):
        raise AssertionError(f"drx lists {found} where {sorted(expected)} is installed")
    packages = [each.package for each in built]
    smokes = [SMOKE / f"{package.removeprefix('datarax_')}.py" for package in packages]
    printed = run(commands / "python", "-I", "-c", _SMOKE_RUNNER, ",".join(packages), *smokes, cwd=folder).stdout
    (site,) = folder.glob("lib/*/site-packages")
    if json.loads(printed.splitlines()[-1]) != [f"{site}/{package}/__init__.py" for package in packages]:
        raise AssertionError(f"what is imported is not what was installed: {printed}")
    pip("--python", commands / "python", "check")
    return commands


def main(out: str = "dist") -> int:
    """Build, inspect and try all distributions."""
    place = Path(out).absolute()
    place.mkdir(parents=True, exist_ok=True)
    built = build(projects(), place)
    for each in built.values():
        _say(f"built {each.sdist.name} and {each.wheel.name}, {each.wheel.stat().st_size / 1000:.0f} kB")
    wrong = problems(built)
    for label, names in combinations(list(built)).items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                prove(Path(folder), [built[name] for name in names])
            except AssertionError as failure:
                wrong.append(f"{label}: {failure}")
            else:
                _say(f"works in an environment of its own: {label}")
    for problem in wrong:
        _say(f"WRONG: {problem}")
    _say(f"{place}: {'not in order' if wrong else 'in order'}")
    return 1 if wrong else 0


def _build(wanted: Sequence[tuple[str, Path, Path]]) -> None:
    """Build in a process of its own, with the build backend of this environment."""
    steps = json.dumps([(kind, str(folder), str(out)) for kind, folder, out in wanted])
    subprocess.run([sys.executable, "-c", _BACKEND, steps], check=True)  # noqa: S603 - our own code


def _of_contents(built: Built) -> Iterator[str]:
    """Yield a sentence for each missing or unexpected file."""
    package = built.package_files()
    info = {
        f"{built.stem}.dist-info/{name}"
        for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    pages = {str(page.relative_to(built.folder)) for page in built.folder.glob("docs/**/*.md")}
    shared = {f"{built.stem}.data/data/share/doc/{built.name}/{page.removeprefix('docs/')}" for page in pages}
    yield from _differences("wheel", set(zipfile.ZipFile(built.wheel).namelist()), package | info | shared)
    around = {name for name in ("LICENSE", "README.md", "CHANGELOG.md") if (built.folder / name).exists()}
    with tarfile.open(built.sdist) as archive:
        names = {name.removeprefix(f"{built.stem}/") for name in archive.getnames()} - {
            ".gitignore"
        }  # hatchling's doing
    yield from _differences("sdist", names, package | around | pages | {"PKG-INFO", "pyproject.toml"})


def _differences(kind: str, found: set[str], expected: set[str]) -> Iterator[str]:
    for name in sorted(expected - found):
        yield f"the {kind} lacks {name}"
    for name in sorted(found - expected):
        yield f"the {kind} holds {name}, which is no part of it"


def _of_metadata(built: Built) -> Iterator[str]:
    """Yield a sentence for metadata that an index would refuse or show wrongly, or that differs from the pyproject.toml."""
    text = built.installed_as.read_text("METADATA") or ""
    try:
        parsed = Metadata.from_email(text, validate=True)
    except ExceptionGroup as invalid:
        yield from (f"the metadata is invalid: {error}" for error in invalid.exceptions)
        return
    if not parsed.project_urls:
        yield "it has no project URLs"
    links = re.findall(r"\]\(([^)\s]+)\)", parsed.description or "")
    yield from (
        f"its description links to {link}, which an index cannot follow"
        for link in links
        if not link.startswith(_FOLLOWED)
    )
    named = set(re.findall(r"\bdocs/[\w/-]+\.md\b", parsed.description or ""))
    lacking = named - {str(page.relative_to(built.folder)) for page in built.folder.glob("docs/**/*.md")}
    yield from (f"its description names {page}, which it does not have" for page in sorted(lacking))
    readme = (built.folder / "README.md").read_text(encoding="utf-8").strip()
    if (parsed.description or "").strip() != readme or parsed.description_content_type != "text/markdown":
        yield "the description is not README.md as Markdown"
    table = built.table
    said = parsed.name, str(parsed.version), str(parsed.requires_python), parsed.license_expression
    if set(said) != {built.name, table["version"], table["requires-python"], "MIT"}:
        yield f"it says {said} of itself"
    if built.installed_as.read_text("licenses/LICENSE") != (ROOT / "LICENSE").read_text(encoding="utf-8"):
        yield "its license is not that of the tree"
    required = {requirement for requirement in built.requires() if requirement.marker is None}
    if required != set(map(Requirement, table["dependencies"])) or not required:
        yield f"it requires {sorted(map(str, required))}, not what pyproject.toml says"
    yield from (f"{each} has no lowest version" for each in required if ">=" not in str(each.specifier))
    groups = {"console_scripts": table.get("scripts", {}), **table.get("entry-points", {})}
    declared = {(group, name, target) for group, entries in groups.items() for name, target in entries.items()}
    if {(entry.group, entry.name, entry.value) for entry in built.installed_as.entry_points} != declared:
        yield "its entry points are not those of pyproject.toml"


def _of_versions(built: Mapping[str, Built]) -> Iterator[str]:
    """Yield a sentence if versions differ, a plugin requires another minor version of core, or an extra is missing."""
    versions = {each.table["version"] for each in built.values()}
    if len(versions) > 1:
        yield f"the distributions have several versions, {', '.join(sorted(versions))}"
    core = built[CORE]
    for plugin in (each for each in built.values() if each is not core):
        if Requirement(core.same_minor) not in plugin.requires():
            yield f"{plugin.name} does not require {core.same_minor}"
        for extra in (plugin.name.rpartition("-")[2], "all"):
            if Requirement(f'{plugin.same_minor}; extra == "{extra}"') not in core.requires():
                yield f"the extra {extra!r} of {CORE} does not name {plugin.same_minor}"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command's output


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
