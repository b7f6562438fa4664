"""``drx new``: a new plugin from the templates."""

from pathlib import Path
from typing import Annotated

import typer

from datarax_core._cli.options import Debug
from datarax_core._cli.output import say
from datarax_core._cli.scaffold import Kind, names_of, next_commands, words_of, write_plugin
from datarax_core.errors import DataraxError


def new(
    name: Annotated[str, typer.Argument(help="The distribution's name, such as acme-parquet.", metavar="NAME")],
    *,
    kind: Annotated[Kind | None, typer.Option(help="The kind of plugin.", show_default="source")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to write.", show_default="the name, here")
    ] = None,
    view: Annotated[bool, typer.Option("--view", help="The same as --kind view.")] = False,
    _debug: Debug = False,
) -> None:
    """Write a new plugin of a kind: it installs, works and passes the conformance tests as it stands.

    A stage is compiled with the pipeline, a host-stage is called with columns of NumPy; a stream is a source without random
    access, a view a source over a source. One file is to be edited. The plugin has a README, a changelog, and workflows
    that test it and publish it.
    """
    if view and kind not in (None, "view"):
        raise DataraxError(f"--view is --kind view, and --kind says {kind}; give one of them")
    kind = "view" if view else kind or "source"
    names = names_of(name, kind)
    folder = Path(name) if out is None else out
    files = write_plugin(names, folder, kind=kind)
    say("\n".join(f"{folder / file}" for file in files))
    say("\n  ".join(["\nnext:\n", *next_commands(names, folder, kind)]))
    say(f"\nyours goes into {folder / names.package / words_of(kind)['module']}.py; README.md says more")
