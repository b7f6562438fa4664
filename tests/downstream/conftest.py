"""Fixtures of tests of what plugins rely on; the plugins in ``plugins`` are tested in an environment of their own."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from distributions import CORE, Built, build, projects

if TYPE_CHECKING:
    from conftest import MadeOnce

collect_ignore = ["plugins"]


@pytest.fixture(scope="session")
def core(made_once: "MadeOnce") -> Built:
    """Return core as it is released; all distributions of the tree are built once for all tests."""
    folder = made_once("distributions", lambda folder: build(projects(), folder) and None)
    (project,) = (each for each in projects() if each.name == CORE)
    return Built(project.folder, Path(folder))
