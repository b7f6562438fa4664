"""``drx install``: plugins, installed by this environment's own installer."""

from typing import Annotated

import typer

from datarax_core._cli.completion import known_names
from datarax_core._cli.installing.installer import installer, shown
from datarax_core._cli.installing.passed_on import PassesOn, passed_on
from datarax_core._cli.installing.report import run_and_report
from datarax_core._cli.installing.wanted import to_install
from datarax_core._cli.options import Debug, Json
from datarax_core._cli.output import complain, say, say_json
from datarax_core.extensions.discovery import Environment

COMMAND = PassesOn


def install(
    ctx: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            help="Plugins, distributions, requirements such as 'acme-x>=1', or paths of projects.",
            metavar="NAME",
            autocompletion=known_names,
        ),
    ],
    *,
    editable: Annotated[
        bool, typer.Option("--editable", "-e", help="Install projects in place, so that edits of their code count.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command, and do not run it.")] = False,
    as_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Install plugins into this environment by its own pip, or by uv, and list the plugins that are new.

    A plugin's name stands for the distribution that is known to have it, see drx plugins --known. The command is printed before
    it runs. Options behind -- are passed on to the installer: drx install acme-x -- --no-deps --upgrade.
    """
    environment = Environment.now()
    arguments = [argument for name in names for argument in to_install(name, environment, editable=editable)]
    command = installer().install(list(dict.fromkeys(arguments)) if not editable else arguments, passed_on(ctx))
    if dry_run:
        say_json({"command": command}) if as_json else say(shown(command))
        return
    complain(shown(command))
    run_and_report(command, as_json=as_json)
