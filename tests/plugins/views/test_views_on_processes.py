"""Nested views on 1, 2 and 4 processes: the same global batches, and exact resume on another number of processes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launched import launch, whole

HERE = Path(__file__).parent
ONE_PROCESS = HERE / "one_process.py"
COUNTS, BEFORE, CASES = [4, 2, 1], 3, 18  # as it has them
Seen = dict[int, dict[str, Any]]


@pytest.fixture(scope="module")
def seen(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Seen:
    """Return what the processes observed together, by their number; 4 of them save the states that fewer resume."""

    def launch_all(folder: Path) -> None:
        launch(ONE_PROCESS, [4], folder, HERE / "importable")
        launch(ONE_PROCESS, [2, 1], folder, HERE / "importable")

    folder = made_once("views on processes", launch_all)
    return {
        count: whole(
            [
                json.loads((folder / f"seen-{count}-{process}.json").read_text(encoding="utf-8"))
                for process in range(count)
            ]
        )
        for count in COUNTS
    }


@pytest.mark.parametrize("case", [str(case) for case in range(CASES)])
def test_every_number_of_processes_serves_and_resumes_one_stream(seen: Seen, case: str) -> None:
    together = seen[4][case]
    assert len(together["batches"]) > BEFORE, together["made"]
    for count in (1, 2):
        assert seen[count][case]["batches"] == together["batches"], together["made"]
        assert seen[count][case]["resumed"] == together["batches"][BEFORE:], together["made"]


def test_the_cases_have_views_of_all_kinds(seen: Seen) -> None:
    made = " ".join(seen[1][str(case)]["made"] for case in range(CASES))
    kinds = [
        "bucket",
        "concat",
        "filter",
        "fit",
        "group",
        "mix",
        "pack",
        "repeat",
        "sample",
        "slice",
        "subset",
        "window",
        "zip",
    ]
    assert [kind for kind in kinds if kind not in made] == []
