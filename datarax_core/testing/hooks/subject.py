"""The hook plugin under test, the hooks that it implements, and runs with it and without it."""

import functools
from pathlib import Path
from typing import Any

from datarax_core.extensions.implementations import HOOKS
from datarax_core.records.spec import Batch
from datarax_core.testing.checks import attempt, broken, not_claimed, require
from datarax_core.testing.columns import columns_of

from .declarations import HookDeclarations
from .serving import RECORDS, KitRun, hooks_alone, only_these_hooks


class HookSubject:
    """The hook plugin under test, made as its author declares."""

    def __init__(self, author: HookDeclarations, folder: Path) -> None:
        self.author = author
        self.folder = folder
        self.broken: set[str] = set()
        """The names of the tests that failed."""

    @functools.cached_property
    def records(self) -> Batch:
        """The columns of the source that is served."""
        if self.author.records is None:
            return RECORDS
        return columns_of(self.author.records, type(self.author).__name__)

    def plugin(self) -> Any:
        """Return the plugin, which heard nothing yet."""
        return self.author.make_plugin()

    @functools.cached_property
    def title(self) -> str:
        """The name of the plugin in messages."""
        plugin = self.plugin()
        return f"hook plugin {getattr(plugin, '__name__', type(plugin).__name__)!r}"

    @functools.cached_property
    def hooks(self) -> dict[str, bool]:
        """The hooks that the plugin implements, and whether as a wrapper."""
        with only_these_hooks() as (hooks, _):
            hooks.register(self.plugin(), "the plugin under test")
            return {
                name: any(each.wrapper for each in found)
                for name in HOOKS
                if (
                    found := [
                        each
                        for each in getattr(hooks.call, name).get_hookimpls()
                        if each.plugin_name == "the plugin under test"
                    ]
                )
            }

    def require_hook(self, name: str) -> None:
        """Skip the test if the plugin does not implement a hook."""
        if name not in self.hooks:
            not_claimed(f"{self.title} does not implement {name}")

    def changes(self, hook: str) -> bool:
        """Return whether the author says that the plugin changes on purpose what others get in a hook."""
        if unknown := sorted({*self.author.changes, *self.author.shown_elsewhere} - set(HOOKS)):
            broken(
                f"{type(self.author).__name__} names {unknown[0]!r}, which is no hook; the hooks are {', '.join(HOOKS)}"
            )
        return hook in self.author.changes

    @functools.cached_property
    def plain(self) -> KitRun:
        """A run without the plugin."""
        return _plain_run_of_usual_records() if self.records is RECORDS else _plain_run(self.records)

    @functools.cached_property
    def run(self) -> KitRun:
        """A run with the plugin."""
        with hooks_alone(self.records, self.plugin()) as run:
            _, error = attempt(run.serve)
        require(
            error is None,
            f"{self.title} promises to let an ordinary run go on, but {type(error).__name__}: "
            f"{'; '.join([str(error), *getattr(error, '__notes__', [])])}. Raise only for what the plugin is there to refuse",
        )
        return run


def _plain_run(records: Batch) -> KitRun:
    with hooks_alone(records) as run:
        run.serve()
    return run


@functools.cache  # the same for all classes of a test run
def _plain_run_of_usual_records() -> KitRun:
    return _plain_run(RECORDS)
