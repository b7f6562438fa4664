"""The demo works as README.md describes it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def test_the_demo_resumes_exactly_and_reaches_97_percent(tmp_path: Path) -> None:
    example = tmp_path / "digits"
    shutil.copytree(DIGITS, example, ignore=shutil.ignore_patterns("out", "__pycache__"))
    ran = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, example / "train.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert ran.returncode == 0, ran.stderr
    assert "its 289 batches are those that the uninterrupted run had, and so are its weights" in ran.stdout
    assert float(ran.stdout.split("classified right: ")[1].split("%")[0]) >= 97
