"""The plan of a mixture before it runs, and the counts of served records by child."""

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from datarax_core import Pipeline
from datarax_core._cli.app import app

README = Path(__file__).parents[3] / "plugins" / "mix" / "README.md"


def test_a_plan_lists_records_and_epochs_by_child(child: Any, mix: Any) -> None:
    made = mix({"web": child(0, 1000), "books": child(1, 50)}, (0.9, 0.1))
    shown, in_stages = re.findall(r"```text\n(.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert made.plan() == shown
    assert "of 2,100 records" in made.plan(num_epochs=2)
    assert "without end" in made.plan(num_epochs=None)
    stages = [
        {"from": 0, "weights": [0.9, 0.1]},
        {"from": 2000, "to": 6000, "ramp": [0.5, 0.5]},
        {"from": 8000, "weights": [0, 1]},
    ]
    assert mix({"web": child(0, 10_000), "books": child(1, 1000)}, stages).plan() == in_stages


def test_a_plan_of_children_that_drop_out(child: Any, mix: Any) -> None:
    made = mix([child(0, 20), child(1, 30), child(2, 9)], (0.6, 0.4, 0), at_end=(2, "drop", "repeat"), stop="all_seen")
    ends = [line.split("  ")[-1].strip() for line in made.plan().splitlines()[2:5]]
    assert ends == ["after record 66; drops out", "after record 70; drops out", "never served"]
    assert made.plan().endswith("An epoch ends after 70 records: the last child to have been served in full.")
    first = mix([child(0, 20), child(1, 300)], at_end="drop", stop="first_exhausted")
    assert "not reached: the epoch ends before record 320" in first.plan()


def test_a_plan_lists_the_children_of_nested_mixtures(child: Any, mix: Any) -> None:
    inner = mix({"a": child(0, 10), "b": child(1, 10)}, (0.5, 0.5))
    lines = mix({"inner": inner, "c": child(2, 20)}, (0.5, 0.5)).plan().splitlines()
    assert [line.split()[:3] for line in lines[2:6]] == [
        ["inner", "1/2", "20"],
        ["inner.a", "1/2", "10"],
        ["inner.b", "1/2", "10"],
        ["c", "1/2", "20"],
    ]


def test_a_plan_reports_rounded_weights(child: Any, mix: Any) -> None:
    made = mix([child(0, 100), child(1, 64), child(2, 10)], temperature=2.0)
    assert "no common denominator up to 2^20 holds them" in made.plan()
    assert abs(made.weights[0] - 10 / (18 + 10**0.5)) < 1e-6
    even = mix([child(0, 100), child(1, 64)], temperature=2.0)
    assert even.weights == pytest.approx((10 / 18, 8 / 18))
    assert "rounded" not in even.plan()


def test_a_plan_of_streams_and_of_draws(child: Any, mix: Any) -> None:
    endless = mix([child(0, 5, kind="no length"), child(1, 9)], (0.7, 0.3))
    assert "without a length; by child, of the first 10 records" in endless.plan()
    assert "unknown end; repeats" in endless.plan()
    first = mix([child(0, 5, kind="no length"), child(1, 9)], stop="first_exhausted")
    assert "unknown end; the mixture ends with it" in first.plan()
    assert first.plan().endswith("It ends with the first child that is exhausted.")
    drawn = mix([child(0, 5), mix([child(1, 9), child(2, 9)])], (0.7, 0.3), sampling="categorical")
    assert "about 16" in drawn.plan()


def test_stats_are_the_counts_by_child(child: Any, mix: Any) -> None:
    made = mix({"a": child(0, 10), "b": child(1, 30)}, (0.75, 0.25))
    made.get_batch(20)
    assert made.stats() == {"records": 20, "records_by_child": {"a": 15, "b": 5}}
    pipeline = Pipeline(source=made, batch_size=8)
    next(iter(pipeline))
    assert pipeline.stats()["records_by_child"] == {"a": 6, "b": 2}
    pipeline.scan(lambda batch: batch["id"], length=3)
    assert pipeline.stats()["records_by_child"] == {"a": 24, "b": 8}
    assert "40 records from 2 sources, proportional" in repr(pipeline)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    np.savez(tmp_path / "web.npz", x=np.arange(1000, dtype=np.int32))
    np.savez(tmp_path / "books.npz", x=np.arange(1000, 1050, dtype=np.int32))
    path = tmp_path / "train.yaml"
    path.write_text(
        dedent("""\
            batch_size: 100
            num_epochs: 2
            drop_last: true
            source:
              type: mix
              weights: {books: 0.1, web: 0.9}
              at_end: {books: 1, web: repeat}
              sources:
                web: {type: memory, path: web.npz, shuffle: true}
                books: {type: memory, path: books.npz, shuffle: true}
            """)
    )
    return path


def test_drx_plan_prints_the_plan_of_a_config(config: Path) -> None:
    result = CliRunner().invoke(app, ["plan", str(config)])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "21 batches a run (batches of 100, 2 epochs, drop_last)"
    assert [line.split()[:3] for line in lines[3:5]] == [["web", "9/10", "2,000"], ["books", "1/10", "100"]]
    assert lines[-1] == "An epoch ends after 1,050 records: as many records as its children have."


def test_drx_run_counts_the_records_of_each_child(config: Path) -> None:
    result = CliRunner().invoke(app, ["run", str(config)])
    assert result.exit_code == 0, result.output
    counts = {line.split()[2]: line.split()[3] for line in result.output.splitlines() if line.startswith("records of ")}
    assert counts == {"web": "2,000", "books": "100"}


def test_a_config_is_the_mixture_built_in_python(config: Path) -> None:
    pipeline = Pipeline.from_config(config)
    assert pipeline.source.names == ("web", "books")
    assert pipeline.source.weights == (0.9, 0.1)
    first, second = list(pipeline), list(Pipeline.from_config(config))
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one["x"], other["x"])
    ids = np.concatenate([np.asarray(batch["x"]) for batch in first])
    assert np.unique(ids[:1050]).size == 1050


def test_configs_nest_and_errors_have_their_place(config: Path) -> None:
    text = config.read_text()
    deeper = config.with_name("deeper.yaml")
    deeper.write_text(
        text.replace(
            "books: {type: memory, path: books.npz, shuffle: true}",
            "books: {type: mix, weights: [1, 2], sources: [{type: memory, path: web.npz}, {type: memory, path: books.npz}]}",
        )
    )
    assert len(Pipeline.from_config(deeper).source) == 2050
    deeper.write_text(text.replace("path: books.npz", "pth: books.npz"))
    result = CliRunner().invoke(app, ["plan", str(deeper)])
    assert result.exit_code == 1
    assert "source.sources.books.pth: unknown field 'pth'; did you mean 'path'?" in result.output
