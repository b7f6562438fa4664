"""Promises about each hook by itself: it can be registered, an ordinary run goes on, and it does what its author declares."""

from typing import Any

import pytest

from datarax_core.testing.checks import attempt, broken, require

from .serving import hooks_alone, only_these_hooks
from .subject import HookSubject


class UsagePromises:
    """Marks, names and arguments of the hooks, an ordinary run, and their effects."""

    def test_it_can_be_registered(self, subject: HookSubject) -> None:
        """It is a module or an object with functions that are marked, named as hooks are, and take arguments of theirs."""
        with only_these_hooks() as (hooks, _):
            plugin = subject.plugin()
            _, error = attempt(lambda: hooks.register(plugin))
        require(
            error is None,
            f"{subject.title} promises to be called, but registering it raises {type(error).__name__}: {error}. Mark each "
            "function @hookimpl, name it as the hook, and take arguments of the hook by name",
        )
        require(
            subject.hooks,
            f"{subject.title} promises to implement a hook, but implements none; mark a function with @hookimpl",
        )

    def test_an_ordinary_run_goes_on(self, subject: HookSubject) -> None:
        """Loops, steps, a scan, a state that is restored, and a bad record end as they do without the plugin."""
        require(subject.run is not None, "")

    def test_each_hook_has_the_declared_effect(self, subject: HookSubject) -> None:
        """Each hook does what ``check_<hook>`` of the test class asserts, which fails if the hook is not called."""
        subject.changes("")
        checks = {}
        for hook in subject.hooks:
            check = getattr(subject.author, f"check_{hook}", None)
            require(
                check is not None or hook in subject.author.shown_elsewhere,
                f"{subject.title} implements {hook}, and {type(subject.author).__name__} does not declare its effect; define "
                f"check_{hook}(self, plugin, run), which asserts what the hook did, or name a test of yours in shown_elsewhere",
            )
            if check is not None:
                checks[hook] = check
        if surplus := _checks_without_hook(subject):
            broken(
                f"{type(subject.author).__name__} defines {surplus[0]}, and {subject.title} implements no such hook; remove "
                "it, or correct its name"
            )
        for hook, check in checks.items():
            with hooks_alone(subject.records) as run:
                run.serve()
                if _passes(check, subject.plugin(), run):
                    broken(
                        f"check_{hook} of {type(subject.author).__name__} passes although the plugin was not registered, so "
                        "that it shows nothing; assert what only the hook can have done"
                    )
        for check in checks.values():
            plugin = subject.plugin()
            with hooks_alone(subject.records, plugin) as run:
                run.serve()
                check(plugin, run)


def _checks_without_hook(subject: HookSubject) -> list[str]:
    names = [name for name in dir(subject.author) if name.startswith("check_")]
    return [name for name in names if name.removeprefix("check_") not in subject.hooks]


def _passes(check: Any, plugin: object, run: Any) -> bool:
    """Return whether a check of an author passes."""
    try:
        check(plugin, run)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - a check may fail in any way
        return False
    return True
