"""The code in the plugin's README runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[3] / "plugins" / "mix" / "README.md"
BLOCK = re.compile(
    r"(?:<!-- file: (?P<file>\S+) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)


def test_the_blocks_of_the_readme_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    for block in blocks:
        if block["language"] == "yaml" and block["file"]:
            Path(block["file"]).write_text(block["code"], encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "readme"}
    ran = 0
    for block in blocks:
        if block["language"] == "python":
            line = text.count("\n", 0, block.start("code"))
            code = compile("\n" * line + block["code"], str(README), "exec")  # errors name the README's own line
            exec(code, namespace)  # noqa: S102 - our own README
            ran += 1
    assert ran == text.count("```python") >= 5
    (shown,) = (block["code"] for block in blocks if block["language"] == "text")
    assert capsys.readouterr().out == shown
