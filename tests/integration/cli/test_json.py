"""``--json``: the output of commands for programs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from commands import DRX, invoke, run
from installed_sources import install_broken

from datarax_core import Pipeline
from datarax_core._cli.output import say_json

if TYPE_CHECKING:
    from conftest import Site


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a config of 100 records, in the folder of its data."""
    np.savez(tmp_path / "data.npz", x=np.arange(100, dtype=np.int32))
    path = tmp_path / "train.yaml"
    path.write_text("batch_size: 32\nnum_epochs: 2\nsource: {type: memory, path: data.npz}\n")
    return path


def shown(*args: str) -> dict[str, Any]:
    done = invoke(*args, "--json")
    assert done.exit_code == 0, done.output
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def test_what_a_plugin_prints_at_any_time_is_not_in_the_output(tmp_path: Path) -> None:
    (tmp_path / "acme_noise.py").write_text(
        "import atexit, os, sys\n"
        "from datarax_core import Stage\n\n"
        "def noise():\n    print('noise')\n    os.write(1, b'noise')\n    os.system('echo noise')\n\n"
        "noise()\natexit.register(noise)\n\n"
        "class Quiet(Stage):\n    type: str = 'acme_quiet'\n    def __call__(self, batch):\n        return batch\n"
    )
    done = run(DRX, "--plugin", "acme_noise.py", "stages", "--json", cwd=tmp_path)
    assert "acme_quiet" in {stage["name"] for stage in json.loads(done.stdout)}
    assert done.stderr.count("noise") == 6


def test_a_plan_is_counts_and_the_printed_text(config: Path) -> None:
    assert shown("plan", str(config)) == {
        "config": str(config),
        "plan": Pipeline.from_config(config).plan(),
        "fields": {"x": "int32[]"},
        "batch_size": 32,
        "num_epochs": 2,
        "records_per_epoch": 100,
        "records": 200,
        "batches": 7,
    }


def test_a_plan_lists_the_stages_of_batch_sizes(config: Path) -> None:
    config.write_text(config.read_text().replace("batch_size: 32", "batch_size: [[0, 32], [60, 50]]"))
    plan = shown("plan", str(config))
    assert (plan["batch_size"], plan["batches"]) == ([[0, 32], [60, 50]], 5)
    assert plan["stages_of_batch_size"] == [
        {"position": 0, "batch_size": 32, "batches": 2},
        {"position": 64, "batch_size": 50, "batches": 3},
    ]
    assert "  from position 64: 3 batches of 50" in plan["plan"]
    assert shown("run", str(config))["records"] == 200


def test_a_plan_without_an_end_has_no_counts(config: Path) -> None:
    config.write_text(config.read_text().replace("num_epochs: 2", "num_epochs: null"))
    plan = shown("plan", str(config))
    assert (plan["records_per_epoch"], plan["records"], plan["batches"]) == (100, None, None)


def test_the_plan_of_a_mixture_counts_its_children(config: Path) -> None:
    child = "{type: memory, path: data.npz}"
    config.write_text(f"batch_size: 4\nsource: {{type: mix, weights: [3, 1], sources: [{child}, {child}]}}\n")
    plan = shown("plan", str(config))
    assert sum(plan["records_by_child"].values()) == plan["records"]


def test_a_run_is_what_it_printed_as_numbers(config: Path) -> None:
    ran = shown("run", str(config))
    assert {name: ran[name] for name in ("batches", "records", "bytes", "finished", "records_substituted")} == {
        "batches": 7,
        "records": 200,
        "bytes": 800,
        "finished": True,
        "records_substituted": 0,
    }
    assert ran["seconds"] >= ran["seconds_first_batch"] > 0
    assert ran["records_per_second"] > 0
    assert ran["explain"].startswith("Pipeline(MemorySource: 100 records in sequence; ")
    assert "records_per_second" not in shown("run", str(config), "--limit", "1")


def test_records_that_cannot_be_read_are_listed_one_by_one(site: "Site", tmp_path: Path) -> None:
    install_broken(site)
    config = tmp_path / "train.yaml"
    config.write_text("batch_size: 64\nsource: {type: acme_broken}\n")
    done = run(DRX, "verify", str(config), "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["records"], found["finished"]) == (1000, True)
    assert found["quarantine"] == str(tmp_path / "train.quarantine.jsonl")
    cause = "OSError: the disk is tired"
    assert found["bad"] == [{"record": n, "file": None, "row": None, "cause": cause} for n in (7, 407, 807)]


def test_data_that_can_be_read_have_no_quarantine(config: Path) -> None:
    found = shown("verify", str(config))
    assert (found["records"], found["bytes"], found["bad"], found["quarantine"]) == (100, 400, [], None)


def test_a_conversion_says_what_to_write_in_a_config(config: Path, tmp_path: Path) -> None:
    converted = shown("convert", str(config), str(tmp_path / "x.array_record"), "--shards", "2")
    assert (converted["records"], converted["records_substituted"], len(converted["paths"])) == (100, 0, 2)
    assert converted["source"] == {"type": "arrayrecord", "paths": ["x.array_record@2"]}


def test_numbers_that_json_has_not_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"a": [float("nan"), 1.5], 2: (float("inf"), None)})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "2": [None, None]}
