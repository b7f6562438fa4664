"""Words of ``drx install`` and ``drx uninstall``: names of plugins, requirements and paths, as an installer takes them."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from datarax_core.errors import DataraxError, PluginNotFoundError, did_you_mean
from datarax_core.extensions.discovery import CORE, Environment, Installed
from datarax_core.extensions.distributions import canonical_name
from datarax_core.extensions.known import known

from .kinds import entries_by_kind

_ARCHIVES: Final = (".whl", ".tar.gz", ".zip")
_PROJECT: Final = ("pyproject.toml", "setup.py")
_CLOSE: Final = 0.8  # from which likeness on a name is taken for a misspelt one
_CLOSE_REST: Final = 0.7  # the same without "acme-", or "datarax-", that both begin with


def to_install(word: str, environment: Environment, *, editable: bool = False) -> list[str]:
    """Return what an installer takes for a word.

    Args:
        word: A plugin's name, a distribution or a requirement such as ``acme-x>=1``, an address, or the path of a project.
        environment: What is installed.
        editable: Whether projects are installed in place.

    Raises:
        PluginNotFoundError: The word is nearly a known name, and so most likely misspelt.
        DataraxError: It is none of these, or several distributions have a plugin of the name.
    """
    if "://" in word or " @ " in word:
        return [word]
    homes = homes_of(environment)
    place, extras = _without_extras(word)
    if _is_explicit_path(place) or (place not in homes and _is_project(Path(place))):
        _require_installable(Path(place).expanduser(), word)
        path = os.path.expanduser(place)  # noqa: PTH111 - a Path would drop the ./ by which installers know a path
        found = path if os.sep in path or path.startswith(".") else f".{os.sep}{path}"
        return ["--editable", found + extras] if editable and Path(path).is_dir() else [found + extras]
    return [_requirement(word, homes)]


def to_uninstall(word: str, environment: Environment) -> str:
    """Return the distribution that a word names: itself, or a plugin of it.

    Raises:
        PluginNotFoundError: No installed plugin, and no distribution of any, has the name.
        DataraxError: It is core, or several distributions have a plugin of the name.
    """
    homes: dict[str, dict[str, str]] = {}
    for kind, entry in entries_by_kind(environment):
        homes.setdefault(entry.name, {}).setdefault(entry.dist, f"{kind} of {entry.origin}")
    dists = {dist for by_dist in homes.values() for dist in by_dist} | {CORE}
    plain = canonical_name(word)
    found = plain if plain in dists and not _others(homes.get(word, {}), plain) else _only(word, homes)
    if found is None:
        names = sorted(homes.keys() | dists)
        hint = did_you_mean(word, names)
        raise PluginNotFoundError(
            "plugin",
            word,
            f"no installed plugin, and no distribution of any, is called {word!r}{hint or '; drx plugins lists them'}",
        )
    if found == CORE:
        what = "" if plain == CORE else f"{word!r} is part of {CORE}, and "
        raise DataraxError(f"{what}{CORE} is drx itself; your installer removes it: pip uninstall {CORE}")
    return found


def homes_of(environment: Environment) -> dict[str, dict[str, str]]:
    """Return for each name of a known or installed plugin its distributions, and in words what each has of that name."""
    homes: dict[str, dict[str, str]] = {}
    for one in known():
        homes.setdefault(one.name, {}).setdefault(one.distribution, f"{one.kind} of {one.distribution}")
    for kind, entry in entries_by_kind(environment):
        homes.setdefault(entry.name, {}).setdefault(entry.dist, f"{kind} of {entry.dist}")
    return homes


def names_of(distributions: Iterable[str], environment: Environment) -> list[tuple[str, Installed]]:
    """Return kind and entry of each plugin of some distributions, which would go with them."""
    wanted = set(distributions)
    return [(kind, entry) for kind, entry in entries_by_kind(environment) if entry.dist in wanted]


def _requirement(word: str, homes: dict[str, dict[str, str]]) -> str:
    """Return the requirement that a word stands for, with the distribution of a plugin in place of its name."""
    try:
        wanted = Requirement(word)
    except InvalidRequirement as cause:
        raise DataraxError(
            f"{word!r} is no name of a plugin or distribution, no requirement such as 'acme-x>=1', and no path of a project"
        ) from cause
    rest = str(wanted).removeprefix(wanted.name)
    dists = {dist for by_dist in homes.values() for dist in by_dist} | {CORE}
    plain = canonical_name(wanted.name)
    if plain in dists and not _others(homes.get(wanted.name, {}), plain):
        return f"{plain}{rest}"
    home = _only(wanted.name, homes)
    if home == CORE:
        raise DataraxError(
            f"{wanted.name!r} is part of {CORE}, which is installed; to upgrade it: drx install {CORE} -- --upgrade"
        )
    if home is not None:
        return f"{home}{rest}"
    close = _close(wanted.name, homes.keys() | dists)
    if close and not rest:  # installing a misspelt name would install whatever somebody has put there
        (owner,) = [*homes.get(close[0], {close[0]: ""})][:1]
        of_it = f" ({owner})" if owner != close[0] else ""
        raise PluginNotFoundError(
            "plugin",
            wanted.name,
            f"no known plugin or distribution is called {wanted.name!r}; did you mean {close[0]!r}{of_it}? If you do mean a "
            f"distribution of that name, say which version: '{wanted.name}>=0'",
        )
    return f"{wanted.name}{rest}"


def _close(name: str, known: Iterable[str]) -> list[str]:
    """Return the known name that ``name`` is most like, if it is: as a whole, and without the words that both begin with."""
    found = difflib.get_close_matches(name, sorted(known), n=3, cutoff=_CLOSE)
    return [other for other in found if _likeness_of_rest(name, other) >= _CLOSE_REST][:1]


def _likeness_of_rest(name: str, other: str) -> float:
    words, others = name.split("-"), other.split("-")
    while len(words) > 1 and len(others) > 1 and words[0] == others[0]:
        words, others = words[1:], others[1:]
    return difflib.SequenceMatcher(None, "-".join(others), "-".join(words)).ratio()


def _only(name: str, homes: dict[str, dict[str, str]]) -> str | None:
    """Return the one distribution that has a plugin of a name; None if none has.

    Raises:
        DataraxError: Several have one.
    """
    found = homes.get(name, {})
    if len(found) > 1:
        raise DataraxError(
            f"{name!r} is {' and '.join(found.values())}; name the one that you mean by its distribution"
        )
    return next(iter(found), None)


def _others(by_dist: dict[str, str], dist: str) -> bool:
    """Return whether a name that is a distribution's is also a plugin's of another distribution."""
    return any(other != dist for other in by_dist)


def _without_extras(word: str) -> tuple[str, str]:
    """Return (path, extras) of ``./acme[test]``."""
    place, bracket, extras = word.partition("[")
    return (place, bracket + extras) if extras.endswith("]") and not Path(word).exists() else (word, "")


def _is_explicit_path(place: str) -> bool:
    return place.startswith((".", "~", os.sep)) or os.sep in place or place.endswith(_ARCHIVES)


def _is_project(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _PROJECT)


def _require_installable(path: Path, word: str) -> None:
    if not path.exists():
        raise DataraxError(f"{word}: no such file or folder; a path is that of a project's folder, a wheel or an sdist")
    if path.is_dir() and not _is_project(path):
        raise DataraxError(f"{word} is no project: it has no pyproject.toml; drx new writes one")
