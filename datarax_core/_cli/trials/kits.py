"""Quick runs of the conformance kits on installed plugins, each in a process of its own with a limit of time."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final
from unittest.mock import patch

from datarax_core._cli.findings import Finding
from datarax_core.errors import DataraxError

from .process import TrialProcess

_SCRIPT: Final = "datarax_core.testing.trials.kit"
"""Module that is run; it needs what the kits need, and so is not imported here."""

_NEEDED: Final = ("pytest", "jsonschema", "hypothesis")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """Result of a quick run: the tests that passed, those that were left out, with reasons, and the broken promises.

    ``problem`` says why the plugin could not be tried, or did not come to the end.
    """

    plugin: Finding
    kept: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    def problems(self) -> list[str]:
        """Return a sentence for each broken promise, and for a run that failed."""
        found = [f"{self.plugin.title} breaks a promise ({test}): {text}" for test, text in self.broken.items()]
        return [*found, *([f"{self.plugin.title}: {self.problem}"] if self.problem else [])]

    def as_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        counted = {"kept": self.kept, "left_out": self.left_out, "broken": self.broken, "problem": self.problem}
        return {"kind": self.plugin.kind, "name": self.plugin.name, **counted}

    def __str__(self) -> str:
        broken = f"{len(self.broken)} broken, " if self.broken else ""
        counted = f"{len(self.kept)} promises kept, {broken}{len(self.left_out)} do not apply"
        return f"{self.plugin.kind} {self.plugin.name!r}: {counted}"


def require_kits() -> None:
    """Raise unless everything is installed that the conformance kits need.

    Raises:
        DataraxError: Something is not; says what to install.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise DataraxError(
            f"--run tests plugins by the conformance kits, which need {', '.join(missing)}; pip install 'datarax-core[testing]'"
        )


def tried(plugin: Finding, given: str | dict[str, Any] | None, *, timeout: float) -> Tried:
    """Run the quick tests of the kit for a plugin's kind.

    Args:
        plugin: An installed plugin that can be imported.
        given: Path of a config that uses it, or a config as a mapping; None takes its defaults.
        timeout: Seconds that a test may take.
    """
    result, testing = Tried(plugin=plugin), ""
    arguments = [plugin.kind, plugin.name, json.dumps(given)]
    problem = ""
    with _undisturbed(), TrialProcess(_SCRIPT, arguments, prefix="drx-kit-") as process:
        for line in process.results(timeout):
            if "testing" in line:
                testing = line["testing"]
            elif "error" in line:
                problem = line["error"]
            else:
                _add(result, line["test"], line["outcome"], line["text"])
                testing = ""
        if process.exit_code != 0 and not problem:
            during = f" in {testing}" if testing else ""
            ending = (
                f"did not end within {timeout:g} s"
                if process.exit_code is None
                else f"ended the process ({process.exit_code})"
            )
            problem = f"the quick run of its kit {ending}{during}{process.last_words()}"
    return Tried(plugin=plugin, kept=result.kept, left_out=result.left_out, broken=result.broken, problem=problem)


def _add(result: Tried, test: str, outcome: str, text: str) -> None:
    if outcome == "passed":
        result.kept.append(test)
    elif outcome == "skipped":
        result.left_out[test] = text.removeprefix("Skipped: ")
    else:
        result.broken[test] = text


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep options and plugins of the user's own pytest away from the run."""
    with patch.dict(os.environ, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}):
        for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
            os.environ.pop(name, None)
        yield
