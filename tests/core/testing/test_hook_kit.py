"""The kit of hook plugins: each of its tests fails for the plugins that break its promise, and for no others."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kit_hooks import broken
from kit_hooks import conformances as made
from kit_hooks.healthy import RatesConformance, Traces, TracesConformance
from kit_runs import docstrings_of, said_on_the_page, verdicts_of

from datarax_core import Pipeline, default_hooks, hookimpl
from datarax_core.testing import HookConformance
from datarax_core.testing.hooks.serving import RECORDS, hooks_alone
from datarax_core.testing.hooks.subject import HookSubject

SLOW = {
    "test_it_does_not_wait_for_batches",
    "test_a_batch_costs_little",
    "test_it_leaves_nothing_behind",
    "test_it_can_be_registered_again",
}
"""Run only for the plugins that break these promises, and for those that keep all."""


def expected_of(cls: str) -> list[str]:
    plugin = getattr(broken, cls.removeprefix("Test"), None)
    return [name for name, plugins in broken.BROKEN.items() if plugin in plugins]


@pytest.fixture
def _threads_end() -> Iterator[None]:
    broken.STOP.clear()
    yield
    broken.STOP.set()


def test_every_promise_has_a_plugin_that_breaks_it() -> None:
    promises = {name for name, _ in inspect.getmembers(HookConformance) if name.startswith("test_")}
    assert promises == broken.BROKEN.keys()


@pytest.mark.usefixtures("_threads_end")
def test_each_broken_plugin_fails_the_test_of_its_promise_and_right_ones_fail_none() -> None:
    expected = {name: expected_of(name) for name in vars(made) if name.startswith("Test")}
    verdicts = verdicts_of(
        made, expected, lambda cls, test: test not in SLOW or not expected[cls] or test in expected[cls]
    )
    assert {name: verdicts.failed[name] for name in expected} == expected, verdicts.messages
    assert verdicts.ran == broken.BROKEN.keys()
    for (cls, _), text in verdicts.messages.items():
        assert cls == "TestIdle" or text.startswith("hook plugin "), text


def test_the_page_of_the_kit_has_the_docstring_of_each_test() -> None:
    assert said_on_the_page("### The promises of a hook plugin") == docstrings_of(HookConformance)


def message_of(test: str, conformance: Any, tmp_path: Path, **declared: Any) -> str:
    author = type("Author", (conformance,), declared)()
    with pytest.raises(pytest.fail.Exception) as caught:
        getattr(author, test)(HookSubject(author, tmp_path))
    return str(caught.value)


EFFECT = "test_each_hook_has_the_declared_effect"


@pytest.mark.parametrize(
    ("test", "declared", "message"),
    [
        ("test_it_can_be_registered", {"make_plugin": HookConformance.make_plugin}, r"does not declare its hook plugin; give"),
        (EFFECT, {"check_datarax_epoch_finished": None}, r"datarax_epoch_finished, and Author does not declare its effect"),
        (EFFECT, {"check_datarax_batch_redy": lambda *_: None}, r"check_datarax_batch_redy, and hook plugin .* no such hook"),
        (EFFECT, {"check_datarax_epoch_finished": lambda *_: None}, r"check_datarax_epoch_finished of Author passes although"),
        (EFFECT, {"changes": ("datarax_batch",)}, r"Author names 'datarax_batch', which is no hook; the hooks are"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_reported(test: str, declared: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert re.search(message, message_of(test, RatesConformance, tmp_path, **declared))


def test_records_of_the_author_are_served(tmp_path: Path) -> None:
    class Author(TracesConformance):
        records = {"y": [1.0, 2.0, 3.0, 4.0, 5.0]}

    assert HookSubject(Author(), tmp_path).run.batches["loop"][1]["y"].tolist() == [5.0, 1.0, 2.0, 3.0]


def test_a_plugin_that_writes_to_records_spoils_no_other_run() -> None:
    for _ in range(2):
        with hooks_alone(RECORDS) as run:
            assert run.records["name"][0] == "record 0"
            run.records["name"][0] = "hidden"


def test_other_plugins_of_the_process_are_left_out_and_come_back() -> None:
    heard: list[str] = []
    other = SimpleNamespace(datarax_pipeline_opened=hookimpl(lambda: heard.append("other")))  # type: ignore[type-var]
    traces = Traces()
    with default_hooks().registered(other):
        with hooks_alone(RECORDS, traces) as run:
            next(iter(run.pipeline()))
            assert (heard, traces.lines[0]) == ([], "opened at 0")
            source = run.pipeline().source
        next(iter(Pipeline(source=source, batch_size=2)))
        assert heard == ["other"]
    assert len([line for line in traces.lines if "opened" in line]) == 1
