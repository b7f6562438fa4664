"""Command ``make fuzz``: mutants of files of every format, read in child processes until the time is over.

``FORMAT`` is a name, or the beginning of names, such as ``npz`` or ``tfds-``; empty takes all formats. ``SEED`` is the number
of the first mutant: mutant n of a format is the same in every run, so that ``SEED=n MINUTES=0`` tries this one alone; without
it a number is drawn. Each finding is printed with the place of the bytes, and with the command that tries it again.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "fuzz/importable"), str(TESTS / "plugins/tfds/importable")]

from fuzz_children import PASSED, Outcome, outcomes  # noqa: E402 - lies in a folder of tests
from fuzz_format import make_files  # noqa: E402

FAMILIES = ("fuzz_arrayrecord", "fuzz_memory", "fuzz_tfrecord", "fuzz_tfds", "fuzz_config")
AT_ONCE = 200
"""Mutants of a format that a child tries."""


def main() -> int:
    """Try mutants of the formats that the command line names; return the exit status."""
    wanted = _arguments()
    chosen = {
        family: [name for name in import_module(family).FORMATS if name.startswith(wanted.format)]
        for family in FAMILIES
    }
    formats = [(family, name) for family, names in chosen.items() for name in names]
    if not formats:
        print(f"no format begins with {wanted.format!r}")
        return 2
    first = random.SystemRandom().randrange(10**9) if wanted.seed is None else wanted.seed
    print(f"{len(formats)} formats, {wanted.minutes:g} minutes, first mutant {first}", flush=True)
    with tempfile.TemporaryDirectory() as base:
        for family in dict.fromkeys(family for family, _ in formats):
            folder = Path(base) / family
            folder.mkdir()
            make_files(import_module(family), folder)
        findings = 0
        for family, name in formats:
            share = wanted.minutes * 60 / len(formats)
            findings += _fuzz(family, name, Path(base) / family, first, share)
    return 1 if findings else 0


def _fuzz(family: str, name: str, folder: Path, first: int, seconds: float) -> int:
    """Try mutants of one format, at least one, until the time is over; return the number of findings."""
    kinds: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    until = time.monotonic() + seconds
    number = first
    while not kinds or time.monotonic() < until:
        cases = [(name, number + more) for more in range(AT_ONCE if seconds else 1)]
        number += len(cases)
        for outcome in outcomes(family, str(folder), cases):
            kinds[outcome.kind] += 1
            if outcome.kind not in PASSED or not seconds:
                _show(outcome, shown)
            if time.monotonic() > until:
                break
    print(f"{name}: {sum(kinds.values())} mutants, {dict(kinds)}", flush=True)
    return sum(count for kind, count in kinds.items() if kind not in PASSED)


def _show(outcome: Outcome, shown: Counter[str]) -> None:
    """Print a finding, unless three like it have been printed."""
    alike = "".join(letter for letter in outcome.detail[:60] if letter.isalpha())
    shown[alike] += 1
    if shown[alike] <= 3:
        print(outcome, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Try mutants of files of every format.")
    parser.add_argument("--format", default="", help="name of a format, or the beginning of names")
    parser.add_argument("--seed", type=int, help="number of the first mutant")
    parser.add_argument("--minutes", type=float, default=5.0, help="time for all formats; 0 tries one mutant of each")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
