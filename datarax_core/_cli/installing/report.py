"""Run of an installer, and what it changed, as text or JSON."""

import typer

from datarax_core._cli.output import complain, say, say_json

from .changes import Changes, plugins_anew, plugins_here
from .installer import ran


def run_and_report(command: list[str], *, as_json: bool) -> None:
    """Run an installer's command, and say which plugins are new, gone or changed.

    Raises:
        typer.Exit: The installer failed; with its exit status.
    """
    before = plugins_here()
    code = ran(command, complain)
    if code:
        say_json({"command": command, "exit_code": code}) if as_json else None
        raise typer.Exit(code)
    changes = Changes.between(before, plugins_anew())
    if as_json:
        say_json({"command": command, "exit_code": code, **changes.as_dict()})
    else:
        say("\n".join(changes.lines()))
