"""Benchmarks that others run, tiny: their arithmetic, the curves of cost against size, and the script for an accelerator."""

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports a module of the benchmarks, which find one another by their folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_a_row_is_the_median_of_pairs_with_its_quartiles(benchmark: Any) -> None:
    measure = benchmark("_measure")
    called: list[str] = []

    def side(name: str, seconds: float) -> Any:
        def run() -> float:
            called.append(name)
            return seconds

        return run

    pairs = measure.paired(side("theirs", 2.0), side("ours", 1.0), runs=2)
    assert pairs == [(2.0, 1.0)] * 9  # at least nine
    assert called[:6] == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    row = measure.row("what", [3.0, 1.0, 2.0, 4.0, 5.0], 2.5, "at least")
    assert (row.ratio, row.spread, row.pairs, row.is_reached) == (3.0, (2.0, 4.0), 5, True)
    assert row.cells() == ("what", "", "", "3.00", "2.00 to 4.00", "5", "at least 2.5", "yes")
    assert measure.limited([0.2] * 9, 0.1, what="slow").cells()[3:] == ("2.00", "2.00 to 2.00", "9", "at most 1", "NO")
    assert [measure.duration(taken) for taken in (2e-9, 3e-6, 4e-3, 5.0)] == ["2 ns", "3 us", "4 ms", "5 s"]


@pytest.mark.parametrize(
    ("shape", "costs", "is_as_told"),
    [
        ("flat", {1: 1.0, 10: 1.2, 100: 1.1}, True),
        ("flat", {1: 1.0, 10: 1.0, 100: 2.0}, False),
        ("linear", {1: 5.0, 10: 6.0, 100: 40.0, 1000: 400.0}, True),
        ("linear", {1: 1.0, 10: 10.0, 100: 1000.0}, False),
        ("logarithmic", {1: 1.0, 10: 2.0, 1000: 5.0}, True),
        ("logarithmic", {1: 1.0, 10: 2.0, 1000: 9.0}, False),
        ("quadratic", {1: 1.0, 10: 100.0, 100: 9000.0}, True),
    ],
)
def test_a_curve_says_whether_it_has_its_shape(
    benchmark: Any,
    shape: str,
    costs: dict[int, float],
    is_as_told: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    assert benchmark("growth").Curve("what", "units", shape, costs).is_as_told is is_as_told


def test_the_curves_are_drawn(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    growth = benchmark("growth")
    curves = growth.main(["--most", "10", "--rounds", "1", "--markdown"])
    printed = capsys.readouterr().out
    assert len(curves) >= 20
    assert {curve.unit for curve in curves} == {
        "records", "files", "children", "fields", "records a batch", "bytes a record", "hosts", "distributions", "levels",
    }  # fmt: skip
    assert all(curve.costs and min(curve.costs.values()) > 0 for curve in curves)
    assert printed.count("\n### ") == len(curves)
    assert "| files | cost | size | cost grew |  |" in printed


def test_the_script_for_an_accelerator_runs_here(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rows = benchmark("on_device").main(["--small"])
    printed = capsys.readouterr().out
    assert [part for part in ("## gathers", "## transfers", "## memory") if part in printed] == [
        "## gathers", "## transfers", "## memory",
    ]  # fmt: skip
    assert "`jnp.take` of 20,000 rows of 3,072 bytes" in printed
    memory = [row for row in rows if row.what.startswith("device memory")]
    assert len(memory) == 2
    assert all(row.is_reached for row in memory), memory
