"""``drx uninstall``: plugins, removed by this environment's own installer."""

import sys
from typing import Annotated

import typer

from datarax_core._cli.completion import plugin_names
from datarax_core._cli.installing.installer import installer, shown
from datarax_core._cli.installing.passed_on import PassesOn, passed_on
from datarax_core._cli.installing.report import run_and_report
from datarax_core._cli.installing.wanted import names_of, to_uninstall
from datarax_core._cli.options import Debug, Json
from datarax_core._cli.output import complain, say, say_json
from datarax_core.errors import DataraxError
from datarax_core.extensions.discovery import Environment

COMMAND = PassesOn


def uninstall(
    ctx: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(help="Plugins, or distributions of plugins.", metavar="NAME", autocompletion=plugin_names),
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would go, and the command.")] = False,
    as_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Uninstall the distributions of plugins by this environment's own pip, or by uv; all their plugins go.

    It says which plugins go, prints the command, and asks before it runs. Options behind -- are passed on to the installer.
    """
    environment = Environment.now()
    distributions = list(dict.fromkeys(to_uninstall(name, environment) for name in names))
    going = names_of(distributions, environment)
    command = installer().uninstall(distributions, passed_on(ctx))
    if dry_run:
        listed = [{"kind": kind, "name": entry.name, "distribution": entry.dist} for kind, entry in going]
        lines = [f"would go: {kind} {entry.name!r} ({entry.origin})" for kind, entry in going]
        say_json({"command": command, "going": listed}) if as_json else say("\n".join([*lines, shown(command)]))
        return
    for kind, entry in going:
        complain(f"going: {kind} {entry.name!r} ({entry.origin})")
    complain(shown(command))
    if not yes:
        _ask(distributions)
    run_and_report(command, as_json=as_json)


def _ask(distributions: list[str]) -> None:
    """Ask whether to go on.

    Raises:
        DataraxError: Nobody can answer.
        Abort: The answer is no.
    """
    if not sys.stdin.isatty():
        raise DataraxError("nothing is uninstalled: there is no terminal to ask on; write --yes")
    typer.confirm(f"uninstall {', '.join(distributions)}?", abort=True, err=True)
