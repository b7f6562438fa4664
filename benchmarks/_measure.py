"""Timing against a reference in the same run: alternating pairs, and the median of their ratios."""

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

RUNS = 15


@dataclass(frozen=True)
class Row:
    """One line of a report; ``ratio`` is compared with the target, as a lower or an upper limit."""

    what: str
    reference: str
    ours: str
    ratio: float
    target: float
    bound: Literal["at least", "at most"]

    @property
    def is_reached(self) -> bool:
        """Whether the target is reached."""
        return self.ratio >= self.target if self.bound == "at least" else self.ratio <= self.target


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def against(
    reference: Callable[[], object],
    ours: Callable[[], object],
    *,
    records: int,
    what: str,
    target: float,
    runs: int = RUNS,
) -> Row:
    """Return the row for the speed of ``ours`` as a multiple of the speed of ``reference``; both serve ``records`` a call."""
    reference(), ours()
    pairs = [(seconds(reference), seconds(ours)) for _ in range(runs)]
    ratio = statistics.median(r / o for r, o in pairs)
    rates = (_rate(records / statistics.median(times)) for times in zip(*pairs, strict=True))
    return Row(what, *rates, ratio=ratio, target=target, bound="at least")


def _rate(records: float) -> str:
    return f"{records / 1e6:.2f} M rec/s" if records >= 1e5 else f"{records / 1e3:.1f} k rec/s"


def resident_mib() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def report(title: str, rows: list[Row]) -> None:
    """Print rows as a table."""
    table = Table(title=title, title_justify="left")
    for name in ("what", "reference", "ours", "ratio", "target", ""):
        table.add_column(name, justify="left" if name in ("what", "") else "right")
    for row in rows:
        target, reached = f"{row.bound} {row.target:g}", "yes" if row.is_reached else "NO"
        table.add_row(row.what, row.reference, row.ours, f"{row.ratio:.2f}", target, reached)
    Console(width=130).print(table)
