"""``drx describe``: the config fields of a source, stage or decoder."""

from dataclasses import asdict
from typing import Annotated

import typer

from datarax_core._cli.completion import configurable_names
from datarax_core._cli.description import as_text, described
from datarax_core._cli.options import Debug, Json
from datarax_core._cli.output import say, say_json


def describe(
    name: Annotated[
        str,
        typer.Argument(
            help="The name of a source, a stage or a decoder.", metavar="NAME", autocompletion=configurable_names
        ),
    ],
    *,
    as_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Show the config fields of a source, stage or decoder: names, types, defaults, and an example."""
    found = list(described(name))
    if as_json:
        say_json([asdict(description) for description in found])
    else:
        say("\n\n".join(map(as_text, found)))
