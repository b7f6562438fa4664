"""``drx plugins``."""

from dataclasses import asdict
from itertools import groupby
from typing import Any

from datarax_core._cli.kinds import KINDS, described
from datarax_core._cli.listing import print_table
from datarax_core._cli.options import Debug, Json
from datarax_core._cli.output import say, say_json


def plugins(*, as_json: Json = False, _debug: Debug = False) -> None:
    """List all that is installed, by distribution: sources, stages, decoders, hooks. Imports none of them."""
    rows = [{"kind": kind.word, **asdict(info)} for kind in KINDS for info in described(kind)]
    rows.sort(key=lambda row: (row["distribution"], row["version"]))  # within one by kind and name, as they were
    if as_json:
        say_json(_by_distribution(rows))
    elif rows:
        columns = ["distribution", "version", "kind", "name", "status"] + ["detail"] * any(r["detail"] for r in rows)
        print_table(columns, [tuple(row[column] for column in columns) for row in rows])
    else:
        say("no plugins are installed; pip install datarax-memory, or another one")


def _by_distribution(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    grouped = groupby(rows, key=lambda row: (row.pop("distribution"), row.pop("version")))
    return [{"distribution": name, "version": version, "plugins": list(of_it)} for (name, version), of_it in grouped]
