"""What tests of installed distributions share, made once for all workers among which they are divided."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import DRX
from commands import run as run_command
from distributions import CORE, ROOT, Built, Project, build, combinations, projects, prove
from environments import environment

if TYPE_CHECKING:
    from conftest import MadeOnce

IGNORED = shutil.ignore_patterns("__pycache__", ".pytest_cache")


@pytest.fixture(scope="session")
def built(made_once: "MadeOnce") -> dict[str, Built]:
    """Every distribution of the tree by name, as for a release."""
    folder = made_once("distributions", lambda folder: build(projects(), folder) and None)
    return {project.name: Built(project.folder, folder) for project in projects()}


@pytest.fixture(scope="session")
def proven(made_once: "MadeOnce", built: dict[str, Built]) -> Callable[[str], Path]:
    """``proven(label)``: the folder of commands of an environment that holds these distributions, in which they work."""

    def commands(label: str) -> Path:
        wanted = [built[name] for name in combinations(list(built))[label]]
        return made_once(f"environment of {label}", lambda folder: prove(folder, wanted) and None) / "bin"

    return commands


@pytest.fixture(scope="session")
def third_parties(made_once: "MadeOnce", built: dict[str, Built]) -> Path:
    """A folder of plugins that are not ours, ``acme-parquet`` and what ``drx new acme-new`` writes, installed in ``env``.

    With the core, what their tests need, and nothing else; copies of the plugins lie beside.
    """

    def make(folder: Path) -> None:
        shutil.copytree(ROOT / "examples/plugins/acme_parquet", folder / "acme-parquet", ignore=IGNORED)
        written = run_command(DRX, "new", "acme-new", "--out", str(folder / "acme-new"))
        assert written.returncode == 0, written.stderr
        plugins = build([Project(folder / name) for name in ("acme-parquet", "acme-new")], folder).values()
        tests = [requirement for plugin in plugins for requirement in plugin.test_requirements()]
        environment(folder / "env", [each.wheel for each in (built[CORE], *plugins)], also=tests)

    return made_once("third parties", make)
