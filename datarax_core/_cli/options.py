"""Arguments and options that several commands share."""

import math
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final

import typer

from .completion import config_and_data_files, config_files, python_files, source_names
from .output import say

MOST: Final = 2**63 - 1
"""Largest count that an option takes."""

DEBUG: Final = "datarax.debug"
"""Key in the command's context under which ``--debug`` is noted."""


def _remember_debug(ctx: typer.Context, value: bool) -> None:  # noqa: FBT001 - typer's signature
    if value:
        ctx.meta[DEBUG] = True


def _print_version(value: bool) -> None:  # noqa: FBT001 - typer's signature
    if value:
        say(f"datarax-core {metadata.version('datarax-core')}")
        raise typer.Exit


def finite(value: float) -> float:
    """Return a number of seconds; refuse NaN and infinity."""
    if not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no number of seconds.")
    return value


Debug = Annotated[
    bool, typer.Option("--debug", callback=_remember_debug, is_eager=True, help="Show the traceback of a mistake.")
]
Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="PLACE",
        help="Use the plugins of a file or module: FILE.py, FILE.py:Class, MODULE or MODULE:Class. May be repeated.",
        autocompletion=python_files,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Config = Annotated[
    Path,
    typer.Argument(help="The pipeline's config: YAML, TOML or JSON.", metavar="CONFIG", autocompletion=config_files),
]
ConfigOrData = Annotated[
    Path,
    typer.Argument(
        help="The pipeline's config: YAML, TOML or JSON. Or a file or folder of records, which an installed source opens.",
        metavar="CONFIG",
        autocompletion=config_and_data_files,
    ),
]
Kind = Annotated[
    str | None,
    typer.Option(
        "--type",
        metavar="NAME",
        help="The source that opens a data file; if left out, the installed ones are asked.",
        autocompletion=source_names,
    ),
]
