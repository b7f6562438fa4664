"""Sources as third parties write them: of one fault its own promise fails first, and few others; of the right ones none."""

import os
from collections import defaultdict
from types import ModuleType

import pytest
from kit_sources import third_party, unusual

LEFT_OUT = ("its_schema", "spawned", "worker_processes", "memory_is_flat", "compiled", "scan", "any_order", "import")
"""Parts of the names of slow tests, which run only for faults that they are for."""

UNUSED = ("cacheprovider", "faulthandler", "hypothesispytest", "xdist")


class Recorder:
    """A pytest plugin that records the tests that failed, in their order, and what they said."""

    def __init__(self) -> None:
        self.failed: dict[str, list[str]] = defaultdict(list)
        self.said: dict[str, list[str]] = defaultdict(list)
        self.classes: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [
            item
            for item in items
            if not any(part in item.name for part in LEFT_OUT) or third_party.FIRST.get(item.parent.name) == item.name  # type: ignore[union-attr]
        ]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name, test = report.nodeid.split("::")[1:]
        self.classes.add(name)
        if report.failed:
            self.failed[name].append(test.partition("[")[0])
            self.said[name].append(report.longreprtext)


def recorded(module: ModuleType) -> Recorder:
    """Run pytest on a module, in this process."""
    recorder = Recorder()
    options = ["-q", "--no-header", "--no-summary", "--import-mode=importlib", "-W", "error", "-c", os.devnull]
    pytest.main([str(module.__file__), *options, *(f"-pno:{name}" for name in UNUSED)], plugins=[recorder])
    return recorder


@pytest.fixture(scope="module")
def found() -> Recorder:
    return recorded(third_party)


@pytest.mark.parametrize("name", third_party.FIRST)
def test_the_promise_of_the_fault_fails_first_and_at_most_two_others(found: Recorder, name: str) -> None:
    failed = found.failed[name]
    assert failed[:1] == [third_party.FIRST[name]], "\n\n".join(found.said[name])
    assert len(failed) <= 3
    assert "promises" in found.said[name][0] or "expected_length" in found.said[name][0]


def test_at_least_sixteen_faults_are_tried() -> None:
    assert len(third_party.FIRST) >= 16


def test_right_sources_of_unusual_kinds_fail_nothing() -> None:
    recorder = recorded(unusual)
    assert not recorder.failed, "\n\n".join(text for said in recorder.said.values() for text in said)
    assert len(recorder.classes) == len([name for name in vars(unusual) if name.startswith("Test")])
