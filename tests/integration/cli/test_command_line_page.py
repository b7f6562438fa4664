"""docs/command-line.md holds the help of each command, and examples that run."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import typer

from datarax_core._cli.app import COMMANDS, app

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "command-line.md").read_text()
EXAMPLES = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Import docs/command_line.py."""
    spec = importlib.util.spec_from_file_location("command_line", DOCS / "command_line.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_holds_the_help_of_today_s_commands(script: ModuleType) -> None:
    assert script.written(PAGE) == PAGE, "run python docs/command_line.py"


def test_every_command_has_its_help_and_an_example() -> None:
    assert re.findall(r"<!-- help: ?([\w-]*) -->", PAGE).count("") == 1
    assert set(re.findall(r"<!-- help: ([\w-]+) -->", PAGE)) == set(COMMANDS)
    assert set(re.findall(r"^### drx ([\w-]+)$", PAGE, re.MULTILINE)) == set(COMMANDS)
    assert {shlex.split(example)[1] for example in EXAMPLES} == set(COMMANDS)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_understood(example: str) -> None:
    program, name, *args = shlex.split(example)
    assert program == "drx"
    group = typer.main.get_command(app)
    group.get_command(None, name).make_context(name, args)  # type: ignore[attr-defined, union-attr]  # a group
