"""The code blocks of all READMEs and guides run as they stand."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tfds_data
from remote_servers import Bucket

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = {
    "README.md": 3,
    "docs/configs.md": 13,
    "docs/conformance.md": 9,
    "docs/guides/moving.md": 1,
    "docs/guides/training.md": 9,
    "docs/host-stages.md": 7,
    "docs/pipeline.md": 15,
    "docs/plugins.md": 12,
    "docs/ragged.md": 6,
    "docs/remote.md": 3,
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
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # a page may import a module that it writes
    if page == "plugins/tfds/README.md":  # what its reader has on disk
        (tmp_path / "data").symlink_to(request.getfixturevalue("made_once")("tfds", tfds_data.write_all) / "tfrecord")
    if page == "docs/remote.md":  # what its reader has at an address
        fill_bucket(request.getfixturevalue("s3_server"))
    namespace: dict[str, Any] = {"__name__": "page"}
    ran = 0
    try:
        for block in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
            if block["file"]:
                text = block["text"].replace("/tmp/", f"{tmp_path}/")  # noqa: S108 - the folder of the test instead
                (tmp_path / block["file"]).write_text(text, encoding="utf-8")
            elif block["language"] == "python":
                exec(compile(block["text"], f"{page} block {ran}", "exec"), namespace)  # noqa: S102 - our own text
                ran += 1
    finally:
        namespace.clear()  # compiled functions outlive the page: they would hold its loops, and these their threads
    assert ran == blocks


def fill_bucket(server: Any) -> None:
    content = io.BytesIO()
    np.savez(content, image=np.zeros((1000, 8, 8), np.uint8), label=np.arange(1000) % 10)
    Bucket(server, "my-bucket").put("digits.npz", content.getvalue())


def test_the_readme_begins_with_the_two_commands() -> None:
    first = BLOCK.search(README.read_text(encoding="utf-8"))
    assert first is not None
    assert [line.split("#")[0].strip() for line in first["text"].splitlines()] == ["make demo", "make test"]
