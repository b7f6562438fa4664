"""``drx new``: a new plugin from the templates."""

from pathlib import Path
from typing import Annotated

import typer

from datarax_core._cli.options import Debug
from datarax_core._cli.output import say
from datarax_core._cli.scaffold import names_of, write_plugin


def new(
    name: Annotated[str, typer.Argument(help="The distribution's name, such as acme-parquet.", metavar="NAME")],
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to write.", show_default="the name, here")
    ] = None,
    view: Annotated[bool, typer.Option("--view", help="Write a view, a source over a source.")] = False,
    _debug: Debug = False,
) -> None:
    """Write a new plugin with a source: it installs, works and passes the conformance tests as it stands.

    Its files show where your own code goes; docs/write-a-source.md walks through a finished plugin,
    docs/views.md explains views.
    """
    names = names_of(name)
    folder = Path(name) if out is None else out
    files = write_plugin(names, folder, kind="view" if view else "plugin")
    say("\n".join(f"{folder / file}" for file in files))
    say(f'\nnext:\n\n  cd {folder}\n  pip install -e ".[test]"\n  pytest\n  drx sources')
    own = "what your view does into {}/_view.py" if view else "your records into {}/_source.py"
    say(f"\nthen put {own.format(names.package)}, and choose a license in pyproject.toml")
