"""The code blocks of all READMEs and guides run as they stand."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tfds_data

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = {
    "README.md": 3,
    "docs/configs.md": 13,
    "docs/conformance.md": 5,
    "docs/host-stages.md": 7,
    "docs/pipeline.md": 15,
    "docs/plugins.md": 10,
    "docs/ragged.md": 6,
    "docs/views.md": 22,
    "plugins/arrayrecord/README.md": 6,
    "plugins/image/README.md": 3,
    "plugins/memory/README.md": 5,
    "plugins/mix/README.md": 6,
    "plugins/text/README.md": 4,
    "plugins/tfds/README.md": 6,
    "plugins/views/README.md": 2,
}
BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


@pytest.mark.parametrize(("page", "blocks"), PAGES.items(), ids=PAGES)
def test_a_page_runs_from_top_to_bottom(
    page: str,
    blocks: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_once: Callable[[str, Callable[[Path], None]], Path],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # a page may import a module that it writes
    if page == "plugins/tfds/README.md":  # what its reader has on disk
        (tmp_path / "data").symlink_to(made_once("tfds", tfds_data.write_all) / "tfrecord")
    namespace: dict[str, Any] = {"__name__": "page"}
    ran = 0
    try:
        for block in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
            if block["file"]:
                (tmp_path / block["file"]).write_text(block["text"], encoding="utf-8")
            elif block["language"] == "python":
                exec(compile(block["text"], f"{page} block {ran}", "exec"), namespace)  # noqa: S102 - our own text
                ran += 1
    finally:
        namespace.clear()  # compiled functions outlive the page: they would hold its loops, and these their threads
    assert ran == blocks


def test_the_readme_begins_with_the_two_commands() -> None:
    first = BLOCK.search(README.read_text(encoding="utf-8"))
    assert first is not None
    assert [line.split("#")[0].strip() for line in first["text"].splitlines()] == ["make demo", "make test"]
