"""Shell completion from metadata and folders alone: no plugin is imported while the user types."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import typer

from datarax_core.errors import ConfigError
from datarax_core.extensions.places import Place, given_places, places_for_drx

_CONFIGS: Final = (".yaml", ".yml", ".toml", ".json")


def config_files(incomplete: str) -> list[str]:
    """Return the config files and the folders whose names begin with ``incomplete``."""
    return _files(incomplete, _CONFIGS)


def config_and_data_files(incomplete: str) -> list[str]:
    """Return the config files, the files that a known source opens, and the folders whose names begin with ``incomplete``."""
    from datarax_core.extensions.known import opening  # noqa: PLC0415 - only completion needs it

    return _files(incomplete, _CONFIGS, lambda path: bool(opening(path)))


def python_files(incomplete: str) -> list[str]:
    """Return the files of Python and the folders whose names begin with ``incomplete``."""
    return _files(incomplete, (".py",))


def _files(incomplete: str, suffixes: tuple[str, ...], also: Callable[[Path], bool] = lambda _: False) -> list[str]:
    folder = incomplete[: incomplete.rfind("/") + 1]
    try:
        found = sorted(Path(folder or ".").iterdir())
    except OSError:
        return []
    names = [
        f"{folder}{path.name}{'/' if path.is_dir() else ''}"
        for path in found
        if path.suffix.lower() in suffixes or path.is_dir() or also(path)
    ]
    is_hidden = incomplete.removeprefix(folder).startswith(".")
    return [name for name in names if name.startswith(incomplete) and (is_hidden or name[len(folder)] != ".")]


def source_names(incomplete: str, ctx: typer.Context | None = None) -> list[str]:
    """Return the types of sources that begin with ``incomplete``."""
    return _names(incomplete, ctx, "datarax.sources")


def decoder_names(incomplete: str, ctx: typer.Context | None = None) -> list[str]:
    """Return the types of decoders that begin with ``incomplete``."""
    return _names(incomplete, ctx, "datarax.decoders")


def configurable_names(incomplete: str, ctx: typer.Context | None = None) -> list[str]:
    """Return the types of sources, stages and decoders that begin with ``incomplete``."""
    return _names(incomplete, ctx, "datarax.sources", "datarax.stages", "datarax.decoders")


def plugin_names(incomplete: str, ctx: typer.Context | None = None) -> list[str]:
    """Return the names of all plugins and of their distributions that begin with ``incomplete``."""
    return _names(incomplete, ctx, with_distributions=True)


def known_names(incomplete: str) -> list[str]:
    """Return the names of known plugins, installed or not, and of their distributions, that begin with ``incomplete``."""
    from datarax_core.extensions.known import known  # noqa: PLC0415 - only completion needs it

    found = {name for one in known() for name in (one.name, one.distribution)}
    return sorted(name for name in found if name.startswith(incomplete))


def _names(incomplete: str, ctx: typer.Context | None, *groups: str, with_distributions: bool = False) -> list[str]:
    """Return the names of plugins of the entry-point groups ``groups``, or of all groups if none is given."""
    from datarax_core.extensions.discovery import GROUPS, Environment  # noqa: PLC0415 - only completion needs it

    environment = Environment.now()
    found = [entry for group in groups or GROUPS for entry in environment.entries(group)]
    names = {entry.name for entry in found} | ({entry.dist for entry in found} if with_distributions else set())
    for place in _places(ctx):  # of what kind a name is that a file declares, only its import would show
        names.update(place.declared_names())
    return sorted(name for name in names if name.startswith(incomplete))


def _places(ctx: typer.Context | None) -> list[Place]:
    """Return the places that the environment, ``pyproject.toml`` and the line so far name; none if they cannot be read."""
    words = () if ctx is None else ctx.find_root().params.get("plugins") or ()
    with suppress(ConfigError):
        return [*places_for_drx(words), *given_places()]
    return []
