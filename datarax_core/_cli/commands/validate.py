"""``drx validate``: all mistakes of configs, with file and line."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from datarax_core._cli.completion import config_files
from datarax_core._cli.options import Debug, Json
from datarax_core._cli.output import complain, say, say_json
from datarax_core.errors import ConfigError, Problem
from datarax_core.registry.pipeline_config import load_config


def validate(
    configs: Annotated[
        list[Path],
        typer.Argument(
            help="Pipelines' configs: YAML, TOML or JSON.", metavar="CONFIG...", autocompletion=config_files
        ),
    ],
    *,
    as_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Report every mistake of configs, with file and line, and fail if there are any; reads no data."""
    found = {path: _problems(path) for path in configs}
    if as_json:
        say_json([_as_dict(path, problems) for path, problems in found.items()])
    else:
        _print(found)
    if any(found.values()):
        raise typer.Exit(1)


def _problems(path: Path) -> Sequence[Problem]:
    try:
        load_config(path)
    except ConfigError as invalid:
        return invalid.problems
    return ()


def _as_dict(path: Path, problems: Sequence[Problem]) -> dict[str, object]:
    plain = [{name: value for name, value in asdict(problem).items() if name != "file"} for problem in problems]
    return {"file": str(path), "valid": not problems, "problems": plain}


def _print(found: dict[Path, Sequence[Problem]]) -> None:
    for path, problems in found.items():
        if not problems:
            say(f"{path}: valid")
        for problem in problems:
            complain(str(problem))
