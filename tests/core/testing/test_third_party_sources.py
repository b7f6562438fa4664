"""Sources as third parties write them: of one fault its own promise fails first, and few others; of the right ones none."""

from types import ModuleType

import pytest
from kit_runs import Verdicts, verdicts_of
from kit_sources import third_party, unusual

LEFT_OUT = ("its_schema", "spawned", "worker_processes", "memory_is_flat", "compiled", "scan", "any_order", "import")
"""Parts of the names of slow tests, which run only for faults that they are for."""


def recorded(module: ModuleType) -> Verdicts:
    def is_wanted(cls: str, test: str) -> bool:
        return not any(part in test for part in LEFT_OUT) or third_party.FIRST.get(cls) == test

    return verdicts_of(module, (), is_wanted)


@pytest.fixture(scope="module")
def found() -> Verdicts:
    return recorded(third_party)


@pytest.mark.parametrize("name", third_party.FIRST)
def test_the_promise_of_the_fault_fails_first_and_at_most_two_others(found: Verdicts, name: str) -> None:
    failed = found.failed[name]
    assert failed[:1] == [third_party.FIRST[name]], found.all_messages
    assert len(failed) <= 3
    said = found.messages[name, failed[0]]
    assert "promises" in said or "expected_length" in said


def test_at_least_sixteen_faults_are_tried() -> None:
    assert len(third_party.FIRST) >= 16


def test_right_sources_of_unusual_kinds_fail_nothing() -> None:
    verdicts = recorded(unusual)
    assert not verdicts.failed, verdicts.all_messages
    assert len(verdicts.classes) == len([name for name in vars(unusual) if name.startswith("Test")])
