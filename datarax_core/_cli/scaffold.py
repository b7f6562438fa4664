"""Scaffold of a new plugin: checks its name, fills in the templates, and writes all files or none."""

import keyword
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata, resources, util
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from datarax_core.errors import PluginConflictError, PluginError
from datarax_core.extensions.hooks import HookRegistry
from datarax_core.extensions.known import homes
from datarax_core.extensions.plugin_registry import PluginRegistry
from datarax_core.registry.decoders import DecoderRegistry
from datarax_core.registry.sources import SourceRegistry
from datarax_core.registry.stages import StageRegistry

CORE: Final = "datarax-core"

Kind: TypeAlias = Literal["source", "stream", "view", "stage", "host-stage", "decoder", "hooks"]
"""A kind of plugin: its folder of templates, which are added to those of the folder ``common``.

Its ``kind.toml`` holds the words of the kind, and names further folders. ``x.part`` is a value ``$x`` of the others.
"""

_COMMON: Final = "common"
_WORDS: Final = "kind.toml"
_PART: Final = ".part"
_TEMPLATE: Final = ".template"
_REGISTRIES: Final[Mapping[str, type[PluginRegistry[Any]]]] = {
    registry.group.noun: registry for registry in (SourceRegistry, StageRegistry, DecoderRegistry, HookRegistry)
}
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_FOLDERS: Final = frozenset({"build", "dist", "docs", "test", "tests"})


class Names(NamedTuple):
    """Names of a plugin: of its distribution, of its ``type`` in configs, of its package, and of its class."""

    distribution: str
    type: str
    package: str
    cls: str


def names_of(name: str, kind: Kind = "source") -> Names:
    """Return the names of a new plugin of a kind, called ``name``.

    Raises:
        PluginError: The name is not valid for a distribution or a package.
        PluginConflictError: The name is taken: by a distribution, a package, or a plugin of the same registry.
    """
    registry = _REGISTRIES[words_of(kind)["registry"]]
    noun = registry.group.noun
    distribution = canonicalize_name(name)
    package = distribution.replace("-", "_")
    if not _NAME.fullmatch(distribution):
        raise _refused(noun, name, "a distribution's name has letters, digits and single hyphens, as in acme-parquet")
    if distribution != name:
        raise _refused(noun, name, f"write {distribution}, as it will be called wherever it is installed")
    if not package.isidentifier() or keyword.iskeyword(package):
        raise _refused(
            noun, name, f"its package would be {package}, which Python cannot import; begin with another word"
        )
    if package in _FOLDERS:
        raise _refused(
            noun, name, f"a project has a folder {package} for other things; put a word of your own before it"
        )
    if taken := _taken(distribution, package, registry):
        raise PluginConflictError(
            noun, name, f"{name!r} cannot be the name of a plugin: {taken}; choose another, such as acme-{name}"
        )
    return Names(distribution, package, package, _class_name(distribution, kind))


def write_plugin(names: Names, out: Path, *, kind: Kind = "source") -> list[str]:
    """Write the plugin to the new folder ``out``, and return the names of its files. The folder is written whole or not at all.

    Args:
        names: The names in it.
        out: The folder.
        kind: The kind of plugin.

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


def next_commands(names: Names, folder: Path, kind: Kind) -> list[str]:
    """Return the commands that install a new plugin, show it at work, and test it."""
    look = [Template(command).substitute(names._asdict()) for command in words_of(kind)["look"]]
    return [f"cd {folder}", 'pip install -e ".[test]"', *look, "pytest"]


@cache
def words_of(kind: Kind) -> dict[str, Any]:
    """Return the words of a kind, as its ``kind.toml`` has them."""
    return tomllib.loads((_folder(kind) / f"{_WORDS}{_TEMPLATE}").read_text(encoding="utf-8"))


def _refused(noun: str, name: str, reason: str) -> PluginError:
    return PluginError(noun, name, f"{name!r} cannot be the name of a plugin: {reason}")


def _taken(distribution: str, package: str, registry: type[PluginRegistry[Any]]) -> str:
    """Return a sentence that names the owner of the name; empty if it is free."""
    if distribution in {CORE, *(home for each in _REGISTRIES.values() for home in each.group.first_party.values())}:
        return f"{distribution} is a distribution of this project"
    if owner := _owner(distribution, package, registry):
        return f"the {'hook plugin' if registry is HookRegistry else 'type'} {package!r} {owner}"
    if package in sys.stdlib_module_names:
        return f"its package would hide the module {package} of Python's own library"
    try:
        return f"{distribution} {metadata.version(distribution)} is installed"
    except metadata.PackageNotFoundError:
        found = util.find_spec(package)
    return "" if found is None else f"its package would hide the one at {found.origin or 'that name'}"


def _owner(distribution: str, name: str, registry: type[PluginRegistry[Any]]) -> str:
    """Return whose plugin has the name in a registry, as the end of a sentence; empty if it is none's."""
    if home := registry.group.first_party.get(name):
        return f"belongs to {home}"
    for info in registry.from_environment().describe():
        if info.name == name:
            return f"is taken by {info.target} ({info.origin})"
    home = homes((registry.group.noun,)).get(name, distribution)
    return "" if home == distribution else f"is that of {home}, a known plugin"


def _class_name(distribution: str, kind: Kind) -> str:
    """Return the name in camel case, with a word such as ``Source`` added if the templates use it for something else."""
    name = "".join(word.capitalize() for word in distribution.split("-"))
    used = {word for _, template in _templates(kind) for word in re.findall(r"\b[A-Z]\w*", template)}
    return f"{name}{words_of(kind)['module'].strip('_').capitalize()}" if {name, f"{name}Config"} & used else name


def _files(names: Names, kind: Kind) -> Iterator[tuple[str, str]]:
    """Yield path and text of each file of the plugin."""
    templates = dict(_templates(kind))
    own = names._asdict()
    parts = {
        path.removesuffix(_PART): Template(text).substitute(own)
        for path, text in templates.items()
        if path.endswith(_PART)
    }
    values = {"tool_datarax": "", **_values(own, words_of(kind)), **parts, **own}
    for path, template in templates.items():
        if not path.endswith((_PART, _WORDS)):
            place = path.replace("package/", f"{names.package}/").replace("TYPE", names.type)
            place = place.replace("gitignore", ".gitignore").replace("github/", ".github/")
            yield place, Template(template).substitute(values)


def _values(own: Mapping[str, str], words: Mapping[str, Any]) -> dict[str, str]:
    """Return the values that the common templates name, from the names of a plugin and the words of its kind."""
    article, describe = words["article"], words["describe"]
    tried_with = words.get("tried_with")
    checked = [f'"{each}"' for each in (own["package"], "tests", *filter(None, [tried_with]))]
    packed = ["example.yaml", *words.get("packed", ()), *filter(None, [tried_with])]
    required = dict(_requirements_of_core())
    values = {
        **{name: word for name, word in words.items() if isinstance(word, str)},
        "group": _REGISTRIES[words["registry"]].group.name,
        "summary": f"{article} for datarax: {describe}",
        "describe": f"{describe.capitalize()}.",
        "kind": article[0].lower() + article[1:],
        "target": words.get("target", "$cls"),
        "effect": words.get("effect", "with the distribution installed, a config can say `type: $type`."),
        "files": words.get("files", f"and `{tried_with}`, the source that it names"),
        "look": "\n".join(words["look"]),
        "exports": ", ".join(words["exports"]),
        "listed": ", ".join(f'"{name}"' for name in words["exports"]),
        "packed": "".join(f'"{name}", ' for name in packed),
        "checked": ", ".join(checked),
        "requirements": "".join(f', "{required[name]}"' for name in words["requires"]),
        "core_bounds": _core_bounds(),
    }
    return {name: Template(value).substitute(own) for name, value in values.items()}


def _templates(kind: Kind) -> Iterator[tuple[str, str]]:
    """Yield path and text of each template; the path is that of the file, but for the names of a plugin and leading dots."""
    for folder in (_COMMON, *words_of(kind).get("folders", ()), kind):
        yield from _below(_folder(folder), "")


def _folder(name: str) -> Traversable:
    return resources.files(__package__) / "templates" / name


def _below(folder: Traversable, path: str) -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _below(entry, f"{path}{entry.name}/")
        elif entry.name.endswith((_TEMPLATE, "py.typed")):
            yield f"{path}{entry.name.removesuffix(_TEMPLATE)}", entry.read_text(encoding="utf-8")


def _requirements_of_core() -> Iterator[tuple[str, str]]:
    """Yield name and requirement of each distribution that the installed core requires."""
    for text in metadata.requires(CORE) or ():
        required = Requirement(text)
        if required.marker is None:
            yield canonicalize_name(required.name), f"{required.name}{required.specifier}"


def _core_bounds() -> str:
    """Return the version specifier that allows the minor version of the installed core only."""
    major, minor = Version(metadata.version(CORE)).release[:2]
    return f">={major}.{minor},<{major}.{minor + 1}"
