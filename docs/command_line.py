"""Puts what ``drx --help`` says into docs/command-line.md: ``python docs/command_line.py``. A test sees that it is there."""

import re
from pathlib import Path

from typer.testing import CliRunner

from datarax_core._cli.app import app

PAGE = Path(__file__).with_name("command-line.md")
BLOCK = re.compile(r"(<!-- help: ?([\w-]*) -->\n)```text\n.*?```\n", re.DOTALL)
WIDTH = 110


def written(page: str) -> str:
    """The page with the help of today's commands in its blocks."""
    return BLOCK.sub(lambda block: f"{block[1]}```text\n{help_of(block[2])}```\n", page)


def help_of(command: str) -> str:
    """What a command says of itself; without a name, what ``drx`` does."""
    shown = CliRunner().invoke(app, [*([command] if command else []), "--help"], prog_name="drx", terminal_width=WIDTH)
    if shown.exit_code:
        raise RuntimeError(shown.output)
    return "".join(f"{line.rstrip()}\n" for line in shown.stdout.strip().splitlines())


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
