"""Lists of plugins, printed as tables or JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from unicodedata import combining, east_asian_width

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
    if not stdout().isatty():  # nothing is folded or styled, and the imports of rich take as long as all the rest
        for line in _aligned([tuple(columns), *rows]):
            say(line)
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    console = Console(markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip(), is_styled=True)  # rich pads the last column


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield lines in which the cells of a column begin at one place, two spaces behind the widest cell of the one before."""
    cells = [[printable(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """Return how many places of a terminal a text takes: wide characters of East Asian scripts take two, accents none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def _columns(infos: list[PluginInfo]) -> tuple[list[str], list[tuple[str, ...]]]:
    details = [in_detail(info.place, info.detail) for info in infos]
    columns = ["name", "status", "distribution", "version"] + ["detail"] * any(details)
    rows = [
        (info.name, info.status, info.distribution, info.version, detail)
        for info, detail in zip(infos, details, strict=True)
    ]
    return columns, [row[: len(columns)] for row in rows]


def in_detail(place: str, detail: str) -> str:
    """Return the detail of a plugin in a table, with how a plugin came here that no distribution provides."""
    return "; ".join(filter(None, [place and f"by {place}", detail]))
