"""Plans, ``drx plan`` and ``drx peek`` show what each view in a source does, those below a view indented."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import view_sources
import yaml
from flax import nnx
from typer.testing import CliRunner
from view_sources import EveryOther, EveryOtherConfig, LoggedConfig

from datarax_core import Pipeline, SourceView
from datarax_core._cli.app import app
from datarax_core.sources import view_lines


class Told(EveryOther):
    def describe_view(self) -> str:
        return f"keeps {len(self)} of {self.parent.num_records} records\nthose at odd indices"


def told(*parents: Any, name: str | None = None) -> Told:
    return Told(EveryOtherConfig(), *parents, name=name)


def test_lines_of_nested_views_are_indented() -> None:
    nested = told(SourceView(LoggedConfig(), told(view_sources.memory(), name="inner")))
    expected = [
        "Told: keeps 9 of 18 records",
        "  those at odd indices",
        "  Told 'inner': keeps 18 of 37 records",
        "    those at odd indices",
    ]
    assert view_lines(nested) == expected
    pipeline = Pipeline(source=nested, stages=[], batch_size=4, rngs=nnx.Rngs(0))
    assert pipeline.plan().splitlines()[-4:] == expected
    assert view_lines(view_sources.memory()) == []


def test_children_of_a_mixture_are_named_above_their_views() -> None:
    mix = view_sources.mixture(told(view_sources.memory()), view_sources.memory(), view_sources.memory()[:5])
    assert view_lines(mix) == [
        "  0:",
        "    Told: keeps 18 of 37 records",
        "      those at odd indices",
        "  2:",
        "    Subset: keeps 5 of 37 records",
    ]
    assert mix.plan().splitlines()[-5:] == view_lines(mix)
    wrapped = SourceView(LoggedConfig(), mix)
    assert wrapped.plan() == mix.plan()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", label=np.arange(100) % 10)
    source = {"type": "memory", "path": str(tmp_path / "data.npz")}
    part = {"type": "subset", "slice": [0, 50], "source": source}
    view = {"type": "filter", "where": {"label": [3, 5]}, "source": part}
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump({"source": view, "batch_size": 4}))
    return path


@pytest.mark.parametrize("command", ["plan", "peek"])
def test_commands_show_views(command: str, config: Path) -> None:
    shown = CliRunner().invoke(app, [command, str(config)]).stdout
    assert "FilterView: keeps 10 of 50 records where label is 3 or 5\n  SubsetView: keeps 50 of 100 records" in shown
    parsed = json.loads(CliRunner().invoke(app, [command, "--json", str(config)]).stdout)
    assert parsed["views"][0].startswith("FilterView: keeps 10 of 50 records")
