"""``drx`` as users run it: the installed command and ``python -m datarax_core``, each in a process of its own."""

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
    """A command that has ended, with what it printed."""
    return subprocess.run(  # noqa: S603 - our own command
        [*command, *args], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


def invoke(*args: str) -> Result:
    """``drx`` in this process, which has loaded what it needs: for what has no need of one of its own."""
    return CliRunner().invoke(app, args, prog_name="drx")


def fails(command: Sequence[str], *args: str, cwd: Path | None = None) -> str:
    """What a command that fails by a user's mistake prints on stderr."""
    done = run(command, *args, cwd=cwd)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def run_on_terminal(command: Sequence[str], *args: str) -> tuple[str, str]:
    """(stdout, stderr) of a command that succeeds, where stderr is a terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.run(  # noqa: S603 - our own command
        [*command, *args], stdout=subprocess.PIPE, stderr=theirs, check=True, text=True, timeout=120
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    return done.stdout, shown
