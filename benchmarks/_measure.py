"""Timing against a reference in the same run: alternating pairs, the median of their ratios, and its spread."""

import resource
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from rich.console import Console
from rich.table import Table

LEAST, RUNS = 9, 15
"""The fewest pairs of a row, and how many there are where a benchmark names no number."""

Key = TypeVar("Key", bound=Hashable)
Bound = Literal["at least", "at most"]
Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of a report; ``ratio`` is compared with the target, as a lower or an upper limit.

    ``spread`` holds the lower and the upper quartile of the ratios of which ``ratio`` is the median, and ``pairs`` their
    number. Both are empty for what is counted rather than timed.
    """

    what: str
    reference: str
    ours: str
    ratio: float
    target: float
    bound: Bound
    spread: tuple[float, float] | None = None
    pairs: int = 0

    @property
    def is_reached(self) -> bool:
        """Whether the target is reached."""
        return self.ratio >= self.target if self.bound == "at least" else self.ratio <= self.target

    def cells(self) -> tuple[str, ...]:
        """Return the texts of a line."""
        quartiles = "" if self.spread is None else " to ".join(f"{ratio:.2f}" for ratio in self.spread)
        told = f"{self.bound} {self.target:.3g}", "yes" if self.is_reached else "NO"
        return self.what, self.reference, self.ours, f"{self.ratio:.2f}", quartiles, str(self.pairs or ""), *told


HEADINGS = ("what", "reference", "ours", "ratio", "quartiles", "pairs", "target", "")


# -- measuring --------------------------------------------------------------------------------------------------------------


def against(
    reference: Work, ours: Work, *, records: int, what: str, target: float, runs: int = RUNS, pause: float = 0.0
) -> Row:
    """Return the row for the speed of ``ours`` as a multiple of the speed of ``reference``; both serve ``records`` a call.

    ``pause`` is waited before each call, for what the other goes on to read ahead.
    """
    reference(), ours()
    pairs = paired(timed(reference, pause), timed(ours, pause), runs)
    rates = tuple(_rate(records / taken) for taken in medians(pairs))
    return row(what, [theirs / own for theirs, own in pairs], target, "at least", rates)


def cost(reference: Work, ours: Work, *, what: str, target: float, calls: int = 1, runs: int = RUNS) -> Row:
    """Return the row for the time of ``ours`` as a multiple of that of ``reference``; texts tell it for each of the calls."""
    reference(), ours()
    return cost_of(paired(timed(reference), timed(ours), runs), what=what, target=target, calls=calls)


def cost_of(pairs: list[tuple[float, float]], *, what: str, target: float, calls: int = 1) -> Row:
    """Return the row for pairs of seconds that were measured already."""
    texts = tuple(duration(taken / calls) for taken in medians(pairs))
    return row(what, [own / theirs for theirs, own in pairs], target, "at most", texts)


def limited(work: Work | Iterable[float], limit: float, *, what: str, runs: int = LEAST) -> Row:
    """Return the row for the seconds of a call against a limit; ``work`` may be the seconds themselves."""
    taken = [seconds(work) for _ in range(max(runs, LEAST))] if callable(work) else list(work)
    texts = duration(limit), duration(statistics.median(taken))
    return row(what, [each / limit for each in taken], 1.0, "at most", texts)


def row(what: str, ratios: Iterable[float], target: float, bound: Bound, texts: tuple[str, ...] = ("", "")) -> Row:
    """Return the row for the median and the quartiles of ratios; texts tell the reference and ours."""
    found = sorted(ratios)
    low, middle, high = statistics.quantiles(found, n=4, method="inclusive")
    return Row(what, *texts, middle, target, bound, (low, high), len(found))


def paired(reference: Callable[[], float], ours: Callable[[], float], runs: int = RUNS) -> list[tuple[float, float]]:
    """Return pairs of what both return, of at least nine rounds; each begins as often as the other.

    What a machine does beside a benchmark lasts longer than a call: it slows both of a pair, and hardly their ratio.
    """
    pairs = []
    for number in range(max(runs, LEAST)):
        if number % 2:
            own = ours()
            pairs.append((reference(), own))
        else:
            theirs = reference()
            pairs.append((theirs, ours()))
    return pairs


def in_turn(calls: Mapping[Key, Callable[[], float]], runs: int = LEAST) -> dict[Key, list[float]]:
    """Return what each call returns in rounds of them all, every second round backwards."""
    found: dict[Key, list[float]] = {key: [] for key in calls}
    for number in range(runs):
        for key in reversed(list(calls)) if number % 2 else list(calls):
            found[key].append(calls[key]())
    return found


def timed(work: Work, pause: float = 0.0) -> Callable[[], float]:
    """Return a function that returns the seconds of one call, after a pause."""

    def take() -> float:
        time.sleep(pause)
        return seconds(work)

    return take


def seconds(work: Work) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the median of the first ones, and that of the second ones."""
    theirs, ours = zip(*pairs, strict=True)
    return statistics.median(theirs), statistics.median(ours)


def resident_mib() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


# -- printing ---------------------------------------------------------------------------------------------------------------


def report(title: str, rows: Iterable[Row], *, markdown: bool = False) -> None:
    """Print rows as a table: of a terminal, or of Markdown for a file of results."""
    if markdown:
        lines = [HEADINGS, ("---", *("---:",) * 6, "---"), *(row.cells() for row in rows)]
        print(f"\n## {title}\n", *(f"| {' | '.join(cells)} |" for cells in lines), sep="\n")
        return
    table = Table(title=title, title_justify="left")
    for name in HEADINGS:
        table.add_column(name, justify="left" if name in ("what", "") else "right")
    for row in rows:
        table.add_row(*row.cells())
    Console(width=150).print(table)


def duration(seconds: float) -> str:
    """Return seconds in the unit that suits them."""
    for limit, factor, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def _rate(records: float) -> str:
    return f"{records / 1e6:.2f} M rec/s" if records >= 1e5 else f"{records / 1e3:.1f} k rec/s"
