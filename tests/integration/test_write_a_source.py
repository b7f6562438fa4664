"""The example of a third party's plugin, and the page that walks through it."""

import re
from pathlib import Path

import pytest
from distributions import ROOT
from environments import run

EXAMPLE = ROOT / "examples/plugins/acme_parquet"
PAGE = (ROOT / "docs/write-a-source.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:<!-- (?P<file>\S+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL)
CODE = [block for block in BLOCK.finditer(PAGE) if block["language"]]


@pytest.mark.parametrize("block", CODE, ids=lambda block: block["text"].strip().splitlines()[0])
def test_the_page_shows_the_code_as_it_is(block: re.Match[str]) -> None:
    assert block["file"], "say above the block which file of the example it is taken from"
    assert f"\n{block['text']}" in (EXAMPLE / block["file"]).read_text(encoding="utf-8")


def test_the_page_shows_every_file_that_an_author_has_to_write() -> None:
    assert {"pyproject.toml", "acme_parquet/_config.py", "acme_parquet/_source.py", "tests/test_conformance.py"} <= {
        block["file"] for block in CODE
    }


def test_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_the_example_uses_nothing_private_of_the_core() -> None:
    files = list(EXAMPLE.rglob("*.py"))
    assert len(files) > 5
    private = re.compile(r"datarax_core(\.\w+)*\._|from datarax_core[\w.]* import [^#\n]*\b_")
    assert [file.name for file in files if private.search(file.read_text(encoding="utf-8"))] == []


def test_the_example_passes_its_own_tests_where_nothing_else_is_installed(third_parties: Path) -> None:
    ran = run(third_parties / "env/bin/python", "-m", "pytest", "-q", cwd=third_parties / "acme-parquet")
    assert re.search(r"^\d+ passed", ran.stdout.splitlines()[-1])
