"""``drx plugins``: all installed plugins, by distribution."""

from dataclasses import asdict
from itertools import groupby

from datarax_core._cli.findings import Finding, installed_plugins
from datarax_core._cli.listing import print_table
from datarax_core._cli.options import Debug, Json
from datarax_core._cli.output import say, say_json

_LISTED = ("kind", "name", "status", "target", "problem")  # facts that need no import


def plugins(*, as_json: Json = False, _debug: Debug = False) -> None:
    """List all installed plugins by distribution: sources, stages, decoders, hooks. Imports none of them."""
    found = installed_plugins()
    if as_json:
        distributions = groupby(found, key=lambda plugin: (plugin.distribution, plugin.version))
        say_json([_distribution(*named, list(of_it)) for named, of_it in distributions])
    elif found:
        columns = ["distribution", "version", "kind", "name", "status"] + ["detail"] * any(p.problem for p in found)
        rows = [(p.distribution, p.version, p.kind, p.name, p.status, p.problem)[: len(columns)] for p in found]
        print_table(columns, rows)
    else:
        say("no plugins are installed; pip install datarax-memory, or another one")


def _distribution(name: str, version: str, plugins: list[Finding]) -> dict[str, object]:
    listed = [{key: value for key, value in asdict(plugin).items() if key in _LISTED} for plugin in plugins]
    return {"distribution": name, "version": version, "plugins": listed}
