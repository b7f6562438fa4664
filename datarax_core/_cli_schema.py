"""``drx schema``: the JSON Schema of everything that is installed, for editors."""

import contextlib
import json
import sys
from pathlib import Path

import typer

from ._pipeline_schema import pipeline_schema
from .registry import default_registry


def write_schema(out: Path | None) -> None:
    """Print the schema, or write it to ``out`` and say how editors find it; what is left out of it is said on stderr.

    Raises:
        OSError: The file cannot be written.
    """
    with contextlib.redirect_stdout(sys.stderr):  # plugins are imported, and some print
        schema, notes = pipeline_schema(default_registry())
    text = json.dumps(schema, indent=2)
    if out is None:
        typer.echo(text)
    else:
        out.write_text(f"{text}\n", encoding="utf-8")
        typer.echo(f"{out}: editors use it in YAML files that begin with\n\n# yaml-language-server: $schema={out}")
    for note in notes:
        typer.echo(note, err=True)
