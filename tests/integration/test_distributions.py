"""Distributions as users install them: each sdist, the wheel built from it, and environments without this tree.

`distributions` builds, looks and tries, and is what ``make wheels`` runs.
"""

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from distributions import CORE, Built, Project, build, combinations, problems, projects
from environments import run

MEMORY = "datarax-memory"
COMBINATIONS = combinations([project.name for project in projects()])

Proven = Callable[[str], Path]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a config of ten records, in the folder of its data."""
    np.savez(tmp_path / "data.npz", x=np.arange(10, dtype=np.int32))
    path = tmp_path / "train.yaml"
    path.write_text("batch_size: 4\nsource: {type: memory, path: data.npz, shuffle: true}\n", encoding="utf-8")
    return path


def test_distributions_hold_the_right_files_and_metadata(built: dict[str, Built]) -> None:
    assert problems(built) == []


@pytest.mark.parametrize("label", COMBINATIONS)
def test_a_set_of_distributions_works_in_an_environment_of_its_own(label: str, proven: Proven) -> None:
    assert (proven(label) / "drx").exists()


def test_files_next_to_the_code_are_not_packaged(built: dict[str, Built], tmp_path: Path) -> None:
    copy = _copy_of_memory(tmp_path)
    for stray in ("notes.txt", "datarax_memory/data.npz", "datarax_memory/.DS_Store", "datarax_memory/_old.py~"):
        (copy.folder / stray).touch()
    again = build([copy], tmp_path)[MEMORY]
    assert again.wheel.read_bytes() == built[MEMORY].wheel.read_bytes()
    assert [problem for problem in problems({CORE: built[CORE], MEMORY: again}) if "holds" in problem] == []


def test_faults_of_a_distribution_are_found(built: dict[str, Built], tmp_path: Path) -> None:
    copy = _copy_of_memory(tmp_path)
    settings = copy.folder / "pyproject.toml"
    text = settings.read_text(encoding="utf-8").partition("[tool.hatch.build.targets.wheel]")[0]
    text = text.replace('version = "0.1.0"', 'version = "0.2.0"').replace("datarax-core>=0.1,<0.2", "datarax-core<1")
    settings.write_text(text, encoding="utf-8")
    (copy.folder / "datarax_memory/notes.txt").touch()
    (copy.folder / "todo.txt").touch()
    found = problems({CORE: built[CORE], **build([Project(copy.folder)], tmp_path)})
    assert found == [
        f"{MEMORY}: the wheel holds datarax_memory/notes.txt, which is no part of it",
        f"{MEMORY}: the sdist holds datarax_memory/notes.txt, which is no part of it",
        f"{MEMORY}: the sdist holds todo.txt, which is no part of it",
        f"{MEMORY}: datarax-core<1 has no lowest version",
        "the distributions have several versions, 0.1.0, 0.2.0",
        f"{MEMORY} does not require datarax-core>=0.1,<0.2",
        "the extra 'memory' of datarax-core does not name datarax-memory>=0.2,<0.3",
        "the extra 'all' of datarax-core does not name datarax-memory>=0.2,<0.3",
    ]


def test_a_config_runs_by_the_installed_command(proven: Proven, config: Path) -> None:
    printed = run(proven(f"core and {MEMORY}") / "drx", "run", config, cwd=config.parent).stdout.splitlines()
    assert printed[0].startswith("Pipeline(MemorySource: 10 records shuffled; ")
    assert "x  int32[]" in printed
    assert any(line.startswith("3 batches, 10 records, ") for line in printed)


def test_the_core_alone_says_what_to_install(proven: Proven, config: Path) -> None:
    commands = proven("core")
    listed = run(commands / "drx", "sources", cwd=config.parent).stdout
    assert listed == "no sources are installed; pip install datarax-memory, or another plugin\n"
    ran = run(commands / "drx", "run", config, cwd=config.parent, exits=1)
    assert ran.stdout == ""
    assert ran.stderr == f"{config}:2: source.type: source 'memory' is not installed; pip install datarax-memory\n"


def _copy_of_memory(folder: Path) -> Project:
    (memory,) = (project for project in projects() if project.name == MEMORY)
    return Project(
        Path(shutil.copytree(memory.folder, folder / "memory", ignore=shutil.ignore_patterns("__pycache__")))
    )


def test_the_oldest_versions_are_installed_with_their_extras() -> None:
    pins = runpy.run_path(str(Path(__file__).parents[1] / "lowest.py"))["floors"]()
    assert {"fsspec[http]", "moto[server]", "s3fs", "numpy"} <= {pin.partition("==")[0] for pin in pins}
