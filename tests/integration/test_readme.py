"""The README's code runs as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


def test_the_readme_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "readme"}
    ran = 0
    for block in BLOCK.finditer(README.read_text(encoding="utf-8")):
        if block["file"]:
            (tmp_path / block["file"]).write_text(block["text"], encoding="utf-8")
        elif block["language"] == "python":
            exec(compile(block["text"], f"README.md block {ran}", "exec"), namespace)  # noqa: S102 - our own text
            ran += 1
    assert ran == 3


def test_the_readme_begins_with_the_two_commands() -> None:
    first = BLOCK.search(README.read_text(encoding="utf-8"))
    assert first is not None
    assert [line.split("#")[0].strip() for line in first["text"].splitlines()] == ["make demo", "make test"]
