"""``drx`` as users run it: the installed command and ``python -m datarax_core``, each in a new process."""

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from typer.testing import CliRunner, Result

from datarax_core._cli.app import app

DRX = [str(Path(sys.executable).with_name("drx"))]
MODULE = [sys.executable, "-W", "error", "-m", "datarax_core"]


def run(command: Sequence[str], *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; the result has its output."""
    return subprocess.run(  # noqa: S603 - drx
        [*command, *args], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


def invoke(*args: str) -> Result:
    """Run ``drx`` in this process, which has loaded its modules already; for tests that need no new process."""
    return CliRunner().invoke(app, args, prog_name="drx")


def fails(command: Sequence[str], *args: str, cwd: Path | None = None) -> str:
    """Run a command that fails by a user's mistake, and return its stderr."""
    done = run(command, *args, cwd=cwd)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def run_on_terminal(command: Sequence[str], *args: str) -> tuple[str, str]:
    """Run a command that succeeds with a terminal as stderr, and return (stdout, stderr)."""
    ours, theirs = pty.openpty()
    done = subprocess.run(  # noqa: S603 - drx
        [*command, *args], stdout=subprocess.PIPE, stderr=theirs, check=True, text=True, timeout=120
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    return done.stdout, shown


def completed(line: str) -> list[str]:
    """Return the completions that bash gets for a line."""
    words = line.split(" ")
    environment = {"_DRX_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return CliRunner().invoke(app, prog_name="drx", env=environment).stdout.split()
