"""Script that runs the quick tests of a conformance kit on an installed plugin, which may hang, end or crash the process.

``python -m datarax_core.testing.trials.kit RESULTS KIND NAME GIVEN`` appends lines of JSON to the file RESULTS: one before each
test and one with its outcome, so that the file shows which test was the last. GIVEN is JSON: null, the path of a config that
uses the plugin, or a config as a mapping.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import pytest

from .subjects import CLASSES, class_for

_MODULE: Final = f"from {class_for.__module__} import CLASSES\n\nTestPlugin = CLASSES[0]\n"


class Reporter:
    """Plugin of pytest that selects the quick tests, and writes their outcomes."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._reported: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep the quick tests."""
        items[:] = [item for item in items if getattr(item.function, "is_quick", False)]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write the name of the test that begins."""
        self._write({"testing": _name(nodeid)})

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Write the outcome of a test: of its call, or of a fixture that failed."""
        if report.when != "call" and report.outcome == "passed":
            return
        if report.nodeid in self._reported:
            return
        self._reported.add(report.nodeid)
        text = report.longrepr[2] if report.outcome == "skipped" else _sentence(report.longrepr)
        self._write({"test": _name(report.nodeid), "outcome": report.outcome, "text": text})

    def _write(self, result: dict[str, Any]) -> None:
        self._file.write(json.dumps(result) + "\n")


def main(results: str, kind: str, name: str, given: str) -> None:
    """Run the quick tests on a plugin, and append their outcomes to the file ``results``."""
    with open(results, "a", encoding="utf-8", buffering=1) as file:  # noqa: PTH123 - a line at once
        file.writelines(json.dumps(result) + "\n" for result in _ran(file, kind, name, given))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # without waiting for threads that a plugin started


def _ran(file: IO[str], kind: str, name: str, given: str) -> Iterator[dict[str, Any]]:
    try:
        CLASSES.append(class_for(kind, name, json.loads(given)))
    except Exception as error:  # noqa: BLE001 - the boundary to a plugin's code, which makes records: any error is the result
        yield {
            "error": str(error)
            if type(error).__module__.startswith("datarax_core")
            else f"{type(error).__name__}: {error}"
        }
        return
    with tempfile.TemporaryDirectory(prefix="drx-kit-") as folder:
        module = Path(folder, "test_plugin.py")
        module.write_text(_MODULE, encoding="utf-8")
        options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", folder, "--import-mode", "importlib"]
        code = pytest.main([*options, "--basetemp", str(Path(folder, "tmp")), str(module)], plugins=[Reporter(file)])
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        yield {"error": f"the kit for a {kind} has no quick test"}
    elif code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        yield {"error": f"pytest ended with {code!s}"}


def _sentence(failure: Any) -> str:
    """Return the message of a failure, without the errors behind it."""
    crash = getattr(failure, "reprcrash", None)
    return str(failure if crash is None else crash.message).removeprefix("Failed: ").strip()


def _name(nodeid: str) -> str:
    return nodeid.rpartition("::")[2]


if __name__ == "__main__":
    main(*sys.argv[1:])
