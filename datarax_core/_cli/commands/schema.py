"""``drx schema``: the JSON Schema of configs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from datarax_core._cli.options import Debug
from datarax_core._cli.output import complain, say
from datarax_core.registry.pipeline_config import pipeline_schema
from datarax_core.registry.sources import default_registry


def schema(
    *,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write; printed if left out.")] = None,
    _debug: Debug = False,
) -> None:
    """Write the JSON Schema of configs, with all installed plugins, for completion in editors."""
    made, notes = pipeline_schema(default_registry())
    text = json.dumps(made, indent=2)
    if out is None:
        say(text)
    else:
        out.write_text(f"{text}\n", encoding="utf-8")
        say(f"{out}: editors use it in YAML files that begin with\n\n# yaml-language-server: $schema={out}")
    for note in notes:
        complain(note)
