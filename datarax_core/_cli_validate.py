"""``drx validate``: everything that is wrong with config files, all at once."""

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import typer

from ._problem import Problem
from .config import load_config
from .errors import ConfigError


def validate(paths: Sequence[Path], *, as_json: bool = False) -> bool:
    """Print which configs are valid, and every problem of the others; no data is looked at.

    Returns:
        Whether all are valid.
    """
    found = {path: _problems(path) for path in paths}
    if as_json:
        listed = [
            {"file": str(path), "valid": not problems, "problems": [_plain(problem) for problem in problems]}
            for path, problems in found.items()
        ]
        typer.echo(json.dumps(listed, indent=2))
        return not any(found.values())
    for path, problems in found.items():
        if not problems:
            typer.echo(f"{path}: valid")
        for problem in problems:
            typer.echo(str(problem), err=True)
    return not any(found.values())


def _problems(path: Path) -> Sequence[Problem]:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # plugins are imported, and some print
            load_config(path)
    except ConfigError as invalid:
        return invalid.problems
    return ()


def _plain(problem: Problem) -> dict[str, object]:
    return {name: value for name, value in asdict(problem).items() if name != "file"}
