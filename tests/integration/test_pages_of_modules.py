"""docs/architecture.md and CONTRIBUTING.md show today's modules: the trees are written from docstrings, named files exist."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
FILE = re.compile(r"`((?:datarax_core|plugins|tests|docs|benchmarks|examples)/[\w./-]+)`")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Import docs/architecture.py."""
    spec = importlib.util.spec_from_file_location("architecture", ARCHITECTURE.with_suffix(".py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_today_s_modules_and_layers(script: ModuleType) -> None:
    page = ARCHITECTURE.read_text(encoding="utf-8")
    assert script.written(page) == page, "run make docs"


def test_each_distribution_has_its_tree(script: ModuleType) -> None:
    shown = {
        found[3] for found in script.BLOCK.finditer(ARCHITECTURE.read_text(encoding="utf-8")) if found[2] == "tree"
    }
    packages = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("plugins/*/datarax_*/__init__.py")}
    assert shown == {"datarax_core", *packages}


def test_each_module_has_a_sentence_that_fits_a_line(script: ModuleType) -> None:
    for package in ("datarax_core", *ROOT.glob("plugins/*/datarax_*")):
        for line in script.tree(ROOT / package):
            assert len(line) <= script.WIDTH + 128, (
                f"{package}: the first sentence of a docstring is too long for the tree: {line}"
            )
            assert re.search(r"\S\s+\S.*[.:]$", line), f"{package}: a docstring does not begin with a sentence: {line}"


@pytest.mark.parametrize("page", [ARCHITECTURE, CONTRIBUTING], ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = FILE.findall(page.read_text(encoding="utf-8"))
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_contributing_lists_the_targets_of_the_makefile() -> None:
    shown = set(re.findall(r"^make ([\w-]+)", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE))
    documented = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert shown == documented - {"help", "clean"}
