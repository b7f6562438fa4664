"""Recordings, written for the tests."""

import gzip
import json
from itertools import islice
from pathlib import Path

SYMBOLS = ["ACME", "INIT", "HOOLI"]


def record(folder: Path, *counts: int, damaged: int | None = None) -> str:
    """Write files of so many ticks, with a broken line in place of tick ``damaged``; return the path of their list."""
    folder.mkdir(exist_ok=True)
    ticks = iter(range(sum(counts)))
    for number, count in enumerate(counts):
        lines = ["34200;ACME" if tick == damaged else line_of(tick) for tick in islice(ticks, count)]
        with gzip.open(folder / f"day-{number}.csv.gz", "wt", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
    files = [{"name": f"day-{number}.csv.gz", "ticks": count} for number, count in enumerate(counts)]
    listed = folder / "recording.json"
    listed.write_text(json.dumps({"symbols": SYMBOLS, "files": files}), encoding="utf-8")
    return str(listed)


def line_of(tick: int) -> str:
    return f"{34_200 + tick},{SYMBOLS[tick % 3]},{tick / 4}"
