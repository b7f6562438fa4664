"""The guides for authors of plugins, and the example plugins that they walk through."""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributions import EXAMPLES, ROOT
from environments import run

PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in sorted(ROOT.glob("docs/authors/*.md"))
}
PAGES["docs/write-a-source.md"] = (ROOT / "docs/write-a-source.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:<!-- (?P<file>\S+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
BLOCKS = [(page, block) for page, text in PAGES.items() for block in BLOCK.finditer(text)]
QUOTED = [(page, block) for page, block in BLOCKS if block["file"]]
RUN = [
    page for page in PAGES if any(each == page and _["language"] == "python" and not _["file"] for each, _ in BLOCKS)
]
PARSERS: dict[str, Any] = {"yaml": yaml.safe_load, "toml": tomllib.loads, "json": json.loads, "bash": str}


def quoted_file(page: str, name: str) -> Path:
    """Return the file of an example that a page names; the page about sources names files of one example."""
    inside = ROOT / "examples/plugins/acme_parquet" if page == "docs/write-a-source.md" else ROOT / "examples/plugins"
    return inside / name


@pytest.mark.parametrize(
    ("page", "block"), QUOTED, ids=[f"{Path(page).stem}-{n}" for n, (page, _) in enumerate(QUOTED)]
)
def test_a_page_shows_the_code_as_it_is(page: str, block: re.Match[str]) -> None:
    assert f"\n{block['text']}" in f"\n{quoted_file(page, block['file']).read_text(encoding='utf-8')}"


@pytest.mark.parametrize("page", RUN)
def test_what_a_page_does_not_quote_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for example in EXAMPLES:
        monkeypatch.syspath_prepend(example)
    namespace: dict[str, Any] = {"__name__": "page"}
    try:
        for number, block in enumerate(BLOCK.finditer(PAGES[page])):
            if block["language"] == "python" and not block["file"]:
                exec(compile(block["text"], f"{page} block {number}", "exec"), namespace)  # noqa: S102 - our own text
    finally:
        namespace.clear()
        packages = {example.name for example in EXAMPLES}
        for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
            del sys.modules[name]


def test_blocks_in_other_languages_can_be_read() -> None:
    for page, block in BLOCKS:
        if not block["file"] and block["language"] != "python":
            assert block["language"] in PARSERS, (
                f"{page}: say above the block which file of an example it is taken from"
            )
            PARSERS[block["language"]](block["text"])


def test_the_page_about_sources_shows_every_file_that_an_author_has_to_write() -> None:
    shown = {block["file"] for page, block in QUOTED if page == "docs/write-a-source.md"}
    assert {
        "pyproject.toml",
        "acme_parquet/_config.py",
        "acme_parquet/_source.py",
        "tests/test_conformance.py",
    } <= shown


def test_each_example_is_shown_with_its_entry_point_and_its_tests() -> None:
    shown = {quoted_file(page, block["file"]) for page, block in QUOTED}
    for example in EXAMPLES:
        assert example / "pyproject.toml" in shown
        assert any(file.is_relative_to(example / "tests") for file in shown)


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", PAGES[page])
    for link, anchor in links:
        if not link.startswith("https://"):
            target = ((ROOT / page).parent / link).resolve() if link else ROOT / page
            assert target.exists(), link
            assert not anchor or anchor in anchors_of(target), f"{link}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_all_pages_are_in_the_index() -> None:
    index = PAGES["docs/authors/README.md"]
    assert [
        page
        for page in PAGES
        if page != "docs/authors/README.md" and f"({Path(page).name}" not in index.replace("../", "")
    ] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_uses_nothing_private_of_the_core(example: Path) -> None:
    private = re.compile(r"datarax_core(\.\w+)*\._|from datarax_core[\w.]* import [^#\n]*\b_")
    files = list(example.rglob("*.py"))
    assert len(files) > 3
    assert [file.name for file in files if private.search(file.read_text(encoding="utf-8"))] == []
    deep = re.compile(r"(?:from|import) datarax_core\.\w+\.")
    assert [file.name for file in files if deep.search(file.read_text(encoding="utf-8"))] == []


def test_the_examples_pass_their_own_tests_where_nothing_else_is_installed(third_parties: Path, tmp_path: Path) -> None:
    """All in one process, which imports JAX once; packages are imported from their wheels, and other plugins are disabled."""
    folders = [str(third_parties / example.name.replace("_", "-") / "tests") for example in EXAMPLES]
    settings = {
        "addopts": "--import-mode=importlib",
        "filterwarnings": "error",
        "pythonpath": " ".join(f'"{folder}"' for folder in folders),
    }
    config = tmp_path / "pytest.ini"
    config.write_text("\n".join(["[pytest]", *(f"{name} = {value}" for name, value in settings.items())]))
    others = [
        file.parent.name for file in third_parties.glob("*/pyproject.toml") if f"{file.parent}/tests" not in folders
    ]
    disabled = f"DATARAX_DISABLE_PLUGINS={','.join(others)}"
    python = third_parties / "env/bin/python"
    ran = run("/usr/bin/env", disabled, python, "-m", "pytest", "-q", "-c", config, *folders, cwd=tmp_path)
    assert re.search(r"^\d+ passed", ran.stdout.splitlines()[-1])
