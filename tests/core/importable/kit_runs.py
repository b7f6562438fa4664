"""Runs of a kit's tests on test classes of a module, in this process, with the failures of each class in their order."""

import inspect
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_UNUSED = ("cacheprovider", "faulthandler", "hypothesispytest", "xdist")


class Verdicts:
    """A pytest plugin that runs the tests that are wanted, and records what failed."""

    def __init__(self, is_wanted: Callable[[str, str], bool]) -> None:
        self.failed: dict[str, list[str]] = defaultdict(list)
        self.messages: dict[tuple[str, str], str] = {}
        self.ran: set[str] = set()
        self.classes: set[str] = set()
        self._is_wanted = is_wanted

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if self._is_wanted(item.cls.__name__, item.originalname)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cls, test = report.nodeid.split("::")[1:]
        test = test.partition("[")[0]
        self.ran.add(test)
        self.classes.add(cls)
        if report.failed:
            self.failed[cls].append(test)
            self.messages[cls, test] = report.longreprtext

    @property
    def all_messages(self) -> str:
        """What all failed tests say, with their names."""
        return "\n\n".join(f"{key}: {text}" for key, text in self.messages.items())


PAGE = Path(__file__).parents[3] / "docs" / "conformance.md"


def said_on_the_page(heading: str) -> dict[str, str]:
    """Return what the page of the kits says about each test, in the section with a heading."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^- `(test_\w+)`: (.*)$", section, re.MULTILINE))


def docstrings_of(kit: type) -> dict[str, str]:
    """Return the first line of the docstring of each test of a kit."""
    tests = inspect.getmembers(kit, lambda value: getattr(value, "__name__", "").startswith("test_"))
    return {name: (inspect.getdoc(test) or "").splitlines()[0] for name, test in tests}


def verdicts_of(module: ModuleType, classes: Iterable[str], is_wanted: Callable[[str, str], bool]) -> Verdicts:
    """Run pytest on test classes of a module, on all if none is named; ``is_wanted`` is asked for each class and test."""
    verdicts = Verdicts(is_wanted)
    options = [
        "-q",
        "--no-header",
        "--no-summary",
        "--tb=short",
        "--import-mode=importlib",
        "-W",
        "error",
        "-c",
        os.devnull,
    ]
    unused = [part for name in _UNUSED for part in ("-p", f"no:{name}")]
    places = [f"{module.__file__}::{name}" for name in classes] or [str(module.__file__)]
    pytest.main([*places, *options, *unused], plugins=[verdicts])
    return verdicts
