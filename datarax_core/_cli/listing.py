"""Lists of plugins, printed as tables or JSON."""

from dataclasses import asdict
from typing import Any

from datarax_core.errors import printable
from datarax_core.extensions.plugin_registry import PluginInfo, PluginRegistry

from .output import say, say_json, stdout


def list_plugins(registry: PluginRegistry[Any], *, as_json: bool, install: str) -> None:
    """Print a line for each plugin of a registry; if there is none, name the distribution to ``install``."""
    infos = registry.describe()
    if as_json:
        say_json([asdict(info) for info in infos])
    elif infos:
        print_table(*_columns(infos))
    else:
        say(f"no {registry.group.noun}s are installed; pip install {install}, or another plugin")


def print_table(columns: list[str], rows: list[tuple[str, ...]]) -> None:
    """Print a table; a narrow terminal folds its last column only."""
    from rich.console import Console  # noqa: PLC0415 - JSON output does not need it
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    width = None if stdout().isatty() else max(sum(map(len, row)) for row in rows) + 80  # a file is never wrapped
    console = Console(markup=False, highlight=False, emoji=False, width=width)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip(), is_styled=True)  # rich pads the last column


def _columns(infos: list[PluginInfo]) -> tuple[list[str], list[tuple[str, ...]]]:
    columns = ["name", "status", "distribution", "version"] + ["detail"] * any(info.detail for info in infos)
    rows = [(info.name, info.status, info.distribution, info.version, info.detail) for info in infos]
    return columns, [row[: len(columns)] for row in rows]
