"""Plugins written against the API of 0.1.0 install beside today's core, and pass their own tests and the kit that they use.

They are frozen: `acme_grid` is what ``drx new`` wrote at 0.1.0, `acme_parquet` the example of that version, and `acme_sensors`
three stages, a decoder and hooks in the style of then; all import modules that were moved since. They also pass with the core
of 0.1.0 itself, of which no release can be downloaded. That was checked by hand, and can be where the history is at hand, by
``python tests/downstream/importable/old_plugins.py 0d19dcc``, the last commit before core was divided into packages.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from distributions import Built
from old_plugins import PLUGINS, RUN, install, run_tests_of

if TYPE_CHECKING:
    from conftest import MadeOnce


@pytest.fixture(scope="session")
def installed(made_once: "MadeOnce", core: Built) -> Path:
    return made_once("old plugins", lambda folder: install(folder, core))


def test_there_are_three_plugins() -> None:
    assert set(PLUGINS) == set(RUN) == {"acme_grid", "acme_parquet", "acme_sensors"}


@pytest.mark.parametrize("plugin", RUN)
def test_a_plugin_of_0_1_0_passes_its_tests(plugin: str, installed: Path) -> None:
    ran = run_tests_of(plugin, installed, RUN[plugin])
    assert ran.returncode == 0, f"{plugin}, written against datarax-core 0.1.0, breaks with this core:\n{ran.stdout}"
    assert re.search(r"^\d\d+ passed", ran.stdout.splitlines()[-1]), ran.stdout


@pytest.mark.parametrize("plugin", PLUGINS)
def test_it_was_written_against_0_1_0(plugin: str) -> None:
    """Nothing of it may follow the tree: a name that is newer than 0.1.0 would show nothing."""
    settings = (PLUGINS[plugin] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"datarax-core>=0.1,<0.2"' in settings
    code = "\n".join(path.read_text(encoding="utf-8") for path in PLUGINS[plugin].rglob("*.py"))
    assert re.search(r"^from datarax_core\.(indices|spec|local_files)\b", code, re.MULTILINE)
    assert not re.search(r"datarax_core\.(order\.|records|files|storage|extensions|stages\.)\b", code)
