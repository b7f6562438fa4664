"""``drx plugins``: all installed plugins, by distribution."""

from dataclasses import asdict
from itertools import groupby
from typing import Annotated

import typer

from datarax_core._cli.findings import Finding, installed_plugins
from datarax_core._cli.listing import in_detail, print_table
from datarax_core._cli.options import Debug, Json
from datarax_core._cli.output import say, say_json
from datarax_core.extensions.known import known as known_plugins

_LISTED = ("kind", "name", "status", "target", "problem", "place")  # facts that need no import


def plugins(
    *,
    known: Annotated[
        bool, typer.Option("--known", help="List the plugins that are known by name, installed or not.")
    ] = False,
    as_json: Json = False,
    _debug: Debug = False,
) -> None:
    """List all installed plugins by distribution: sources, stages, decoders, hooks. Imports none of them.

    With --known it lists those of which datarax-core knows the names: first-party ones, and others that their authors have
    entered. drx install takes these names.
    """
    found = installed_plugins()
    if known:
        _list_known(found, as_json=as_json)
    elif as_json:
        distributions = groupby(found, key=lambda plugin: (plugin.distribution, plugin.version))
        say_json([_distribution(*named, list(of_it)) for named, of_it in distributions])
    elif found:
        rows = [
            (p.distribution, p.version, p.kind, p.name, p.status, p.problem or in_detail(p.place, "")) for p in found
        ]
        columns = ["distribution", "version", "kind", "name", "status"] + ["detail"] * any(row[-1] for row in rows)
        print_table(columns, [row[: len(columns)] for row in rows])
    else:
        say("no plugins are installed; drx install memory, or another one of drx plugins --known")


def _list_known(found: list[Finding], *, as_json: bool) -> None:
    statuses = {(plugin.kind, plugin.name, plugin.distribution): plugin.status for plugin in found}
    rows = [(one, statuses.get((one.kind, one.name, one.distribution), "not installed")) for one in known_plugins()]
    if as_json:
        say_json([{**one._asdict(), "status": status} for one, status in rows])
        return
    columns = ["kind", "name", "distribution", "status", "what it is"]
    print_table(columns, [(one.kind, one.name, one.distribution, status, one.summary) for one, status in rows])


def _distribution(name: str, version: str, plugins: list[Finding]) -> dict[str, object]:
    listed = [{key: value for key, value in asdict(plugin).items() if key in _LISTED} for plugin in plugins]
    return {"distribution": name, "version": version, "plugins": listed}
