"""Plans of sources, pipelines and ``drx plan``, and the epochs of positions."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from datarax_core import Pipeline
from datarax_core._cli.app import app


def test_a_plan_of_any_source(make_source: Any, make_host_source: Any, streams: Any) -> None:
    source = make_source(100, shuffle=True, name="digits")
    assert source.plan() == "EagerSourceBase 'digits': 100 records an epoch, shuffled; 1 epoch, 100 records in all"
    assert source.plan(3).endswith("3 epochs, 300 records in all")
    assert make_host_source(10).plan(None) == "HostRecords: 10 records an epoch, in sequence; without end"
    assert (
        make_source(9, shard=(1, 2))
        .plan(1)
        .startswith("EagerSourceBase: 4 records an epoch, in sequence, shard 1 of 2")
    )
    assert (
        streams.Endless().plan() == "Endless: a stream without a length, whose epochs end where its records do; 1 epoch"
    )
    assert streams.Sized(7).plan() == "Sized: 7 records an epoch, as they come; 1 epoch, 7 records in all"


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({}, "4 batches a run (batches of 32, 1 epoch)"),
        ({"num_epochs": 2, "drop_last": True}, "6 batches a run (batches of 32, 2 epochs, drop_last)"),
        ({"num_epochs": None}, "batches without end (batches of 32, endless)"),
    ],
)
def test_a_plan_of_a_pipeline(make_source: Any, options: dict[str, Any], first: str) -> None:
    assert Pipeline(source=make_source(100), batch_size=32, **options).plan().splitlines()[0] == first
    one = Pipeline(source=make_source(20), batch_size=32)
    assert one.plan().splitlines()[0] == "1 batch a run (batches of 32, 1 epoch)"


def test_drx_plan_of_a_missing_file_is_one_message(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plan", str(tmp_path / "none.yaml")])
    assert result.exit_code == 1
    assert "none.yaml" in result.output
    assert "Traceback" not in result.output


def test_epochs_follow_from_positions(make_source: Any) -> None:
    source = make_source(10)
    assert source.num_records == 10
    assert source.epochs_at(8, 4).tolist() == [0, 0, 1, 1]
    assert source.stats_at(5) == {}
