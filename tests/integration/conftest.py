"""Fixtures of tests of installed distributions, made once for all pytest workers."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
from distributions import CORE, EXAMPLES, Built, Project, build, combinations, projects, prove
from environments import environment

from datarax_core._cli.scaffold import Kind, names_of, write_plugin

if TYPE_CHECKING:
    from conftest import MadeOnce

IGNORED = shutil.ignore_patterns("__pycache__", ".pytest_cache")


@pytest.fixture(scope="session")
def built(made_once: "MadeOnce") -> dict[str, Built]:
    """Return every distribution of the tree by name, as for a release."""
    folder = made_once("distributions", lambda folder: build(projects(), folder) and None)
    return {project.name: Built(project.folder, folder) for project in projects()}


@pytest.fixture(scope="session")
def proven(made_once: "MadeOnce", built: dict[str, Built]) -> Callable[[str], Path]:
    """Return ``proven(label)``, which gives the folder of commands of an environment in which these distributions work."""

    def commands(label: str) -> Path:
        wanted = [built[name] for name in combinations(list(built))[label]]
        return made_once(f"environment of {label}", lambda folder: prove(folder, wanted) and None) / "bin"

    return commands


@pytest.fixture(scope="session")
def third_parties(made_once: "MadeOnce", built: dict[str, Built]) -> Path:
    """Return a folder of third-party plugins, installed in ``env``: the examples, and ``new-KIND``, which ``drx new`` writes.

    ``env`` holds core, the requirements of their tests, and nothing else; the folder holds copies of the plugins too.
    """

    def make(folder: Path) -> None:
        examples = [example.name.replace("_", "-") for example in EXAMPLES]
        for name, example in zip(examples, EXAMPLES, strict=True):
            shutil.copytree(example, folder / name, ignore=IGNORED)
        for kind in get_args(Kind):
            write_plugin(names_of(f"new-{kind}", kind), folder / f"new-{kind}", kind=kind)
        new = [f"new-{kind}" for kind in get_args(Kind)]
        plugins = build([Project(folder / name) for name in (*examples, *new)], folder).values()
        tests = [requirement for plugin in plugins for requirement in plugin.test_requirements()]
        environment(folder / "env", [each.wheel for each in (built[CORE], *plugins)], also=tests)

    return made_once("third parties", make)
