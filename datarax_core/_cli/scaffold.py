"""Scaffold of a new plugin: checks its name, fills in the templates, and writes all files or none."""

import keyword
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata, resources, util
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from packaging.utils import canonicalize_name
from packaging.version import Version

from datarax_core.errors import PluginConflictError, PluginError
from datarax_core.registry.sources import SourceRegistry

CORE: Final = "datarax-core"

Kind: TypeAlias = Literal["plugin", "view"]
"""A folder of templates."""

_TEMPLATE: Final = ".template"
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_FOLDERS: Final = frozenset({"build", "dist", "docs", "test", "tests"})


class Names(NamedTuple):
    """Names of a plugin: of its distribution, of its ``type`` in configs, of its package, and of its class."""

    distribution: str
    type: str
    package: str
    cls: str


def names_of(name: str) -> Names:
    """Return the names of a new plugin called ``name``.

    Raises:
        PluginError: The name is not valid for a distribution or a package.
        PluginConflictError: The name is taken.
    """
    distribution = canonicalize_name(name)
    package = distribution.replace("-", "_")
    if not _NAME.fullmatch(distribution):
        raise _refused(name, "a distribution's name has letters, digits and single hyphens, as in acme-parquet")
    if distribution != name:
        raise _refused(name, f"write {distribution}, as it will be called wherever it is installed")
    if not package.isidentifier() or keyword.iskeyword(package):
        raise _refused(name, f"its package would be {package}, which Python cannot import; begin with another word")
    if package in _FOLDERS:
        raise _refused(name, f"a project has a folder {package} for other things; put a word of your own before it")
    if taken := _taken(distribution, package):
        raise PluginConflictError(
            "source", name, f"{name!r} cannot be the name of a plugin: {taken}; choose another, such as acme-{name}"
        )
    return Names(distribution, package, package, _class_name(distribution))


def write_plugin(names: Names, out: Path, *, kind: Kind = "plugin") -> list[str]:
    """Write the plugin to the new folder ``out``, and return the names of its files. The folder is written whole or not at all.

    Args:
        names: The names in it.
        out: The folder.
        kind: The templates: of a plugin with a source of its own, or of one with a view.

    Raises:
        FileExistsError: ``out`` exists.
        FileNotFoundError, PermissionError: The folder around ``out`` does not exist, or cannot be written to.
    """
    if out.exists() or out.is_symlink():
        raise FileExistsError(f"{out} is there already; move it away, or write elsewhere with --out")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise FileNotFoundError(f"there is no folder {parent} to write {out.name} into; make it first")
    files = dict(_files(names, kind))
    try:
        unfinished = tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=parent)
    except PermissionError as error:
        raise PermissionError(
            f"{parent} cannot be written to: permission denied; write elsewhere with --out"
        ) from error
    with unfinished as folder:
        for path, text in files.items():
            file = Path(folder, out.name, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        Path(folder, out.name).rename(out)
    return sorted(files)


def _refused(name: str, reason: str) -> PluginError:
    return PluginError("source", name, f"{name!r} cannot be the name of a plugin: {reason}")


def _taken(distribution: str, package: str) -> str:
    """Return a sentence that names the owner of the name; empty if it is free."""
    homes = SourceRegistry.group.first_party
    if distribution in {CORE, *homes.values()}:
        return f"{distribution} is a distribution of this project"
    if package in homes:
        return f"the type {package!r} belongs to {homes[package]}"
    if package in sys.stdlib_module_names:
        return f"its package would hide the module {package} of Python's own library"
    for info in SourceRegistry.from_environment().describe():
        if info.name == package:
            return f"the type {package!r} is taken by {info.target} ({info.origin})"
    try:
        return f"{distribution} {metadata.version(distribution)} is installed"
    except metadata.PackageNotFoundError:
        found = util.find_spec(package)
    return "" if found is None else f"its package would hide the one at {found.origin or 'that name'}"


def _class_name(distribution: str) -> str:
    """Return the name in camel case, with ``Source`` added if the templates use that name for something else."""
    name = "".join(word.capitalize() for word in distribution.split("-"))
    used = {
        word
        for kind in get_args(Kind)
        for _, template in _templates(kind)
        for word in re.findall(r"\b[A-Z]\w*", template)
    }
    return f"{name}Source" if {name, f"{name}Config"} & used else name


def _files(names: Names, kind: Kind) -> Iterator[tuple[str, str]]:
    """Yield path and text of each file of the plugin."""
    values = {**names._asdict(), "core_bounds": _core_bounds()}
    for path, template in _templates(kind):
        place = path.replace("package/", f"{names.package}/").replace("gitignore", ".gitignore")
        yield place, Template(template).substitute(values)


def _templates(kind: Kind) -> Iterator[tuple[str, str]]:
    """Yield path and text of each template; the path is that of the file, but for the package's name and a leading dot."""
    yield from _below(resources.files(__package__) / "templates" / kind, "")


def _below(folder: Traversable, path: str) -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _below(entry, f"{path}{entry.name}/")
        elif entry.name.endswith((_TEMPLATE, "py.typed")):
            yield f"{path}{entry.name.removesuffix(_TEMPLATE)}", entry.read_text(encoding="utf-8")


def _core_bounds() -> str:
    """Return the version specifier that allows the minor version of the installed core only."""
    major, minor = Version(metadata.version(CORE)).release[:2]
    return f">={major}.{minor},<{major}.{minor + 1}"
