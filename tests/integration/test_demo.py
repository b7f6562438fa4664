"""The demo works as README.md describes it, and so does the example of text."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def _printed(name: str, folder: Path) -> str:
    """Return what the training of an example prints, run in a copy of it."""
    example = folder / name
    shutil.copytree(EXAMPLES / name, example, ignore=shutil.ignore_patterns("out", "__pycache__"))
    ran = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, example / "train.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_demo_resumes_exactly_and_reaches_97_percent(tmp_path: Path) -> None:
    printed = _printed("digits", tmp_path)
    assert "its 289 batches are those that the uninterrupted run had, and so are its weights" in printed
    assert float(printed.split("classified right: ")[1].split("%")[0]) >= 97


def test_the_example_of_text_tells_languages_apart_in_batches_of_several_lengths(tmp_path: Path) -> None:
    printed = _printed("text", tmp_path)
    assert float(printed.split("classified right: ")[1].split("%")[0]) >= 97
    assert "in batches of length [32, 64]" in printed
