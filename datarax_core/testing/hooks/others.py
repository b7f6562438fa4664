"""Promises about other plugins: they are called too, keep their results, and their errors pass."""

from types import SimpleNamespace
from typing import Any, Final

from datarax_core.extensions.hookspecs import hookimpl
from datarax_core.extensions.implementations import HOOKS
from datarax_core.testing.checks import attempt, broken, not_claimed, require

from .serving import KitRun, TinyConfig, bad_record, hooks_alone
from .subject import HookSubject

_CALLED: Final = [name for name in HOOKS if name != "datarax_register_sources"]


class KitError(Exception):
    """The error of another plugin, of a source, or of the body of a loop."""


class OtherPromises:
    """Order, results and errors of other plugins."""

    def test_others_are_called_too(self, subject: HookSubject) -> None:
        """Plugins before and behind it hear each call, unless ``changes`` says that it answers in their place."""
        plain, run = subject.plain, subject.run
        told = zip(("before", "behind"), run.compared_calls(plain), plain.compared_calls(run), strict=True)
        for where, calls, heard in told:
            for hook in _CALLED:
                if subject.changes(hook):
                    continue
                found, wanted = (sum(call.hook == hook for call in each) for each in (calls, heard))
                require(
                    found >= wanted,
                    f"{subject.title} promises to let others be called, but {hook} of a plugin {where} it is called {found} "
                    f"times where it is {wanted} times without it; return None where the answer is left to others, or declare "
                    f"changes = ({hook!r},)",
                )

    def test_a_wrapper_returns_what_it_got(self, subject: HookSubject) -> None:
        """A hook with ``wrapper=True`` returns the result of the others, unless ``changes`` says otherwise."""
        wrappers = [hook for hook, is_wrapper in subject.hooks.items() if is_wrapper and not subject.changes(hook)]
        if not wrappers:
            not_claimed(f"{subject.title} has no wrapper that is to return what it got")
        for hook in wrappers:
            with hooks_alone(subject.records, subject.plugin()) as run:
                given = _arguments(run)[hook]
                answer = {"datarax_create_source": run.pipeline().source, "datarax_record_failed": "substitute"}.get(
                    hook, "x"
                )
                run.hooks.register(_answering(hook, answer), "another plugin")
                found = getattr(run.hooks.call, hook)(**given)
            got = found if hook in ("datarax_create_source", "datarax_record_failed") else (found or [None])[0]
            require(
                got is answer or got == answer,
                f"{subject.title} promises that the wrapper {hook} returns what it got, but it returned {found!r:.60} where "
                f"the others returned {answer!r:.60}; write `result = yield` and `return result`, or declare changes = "
                f"({hook!r},)",
            )

    def test_errors_of_others_pass(self, subject: HookSubject) -> None:
        """An error of another plugin, of the source or of the body of a loop is raised as it is without the plugin."""
        for hook, is_wrapper in subject.hooks.items():
            if not is_wrapper:
                continue
            with hooks_alone(subject.records, subject.plugin()) as run:
                given = _arguments(run)[hook]
                run.hooks.register(_raising(hook), "another plugin")
                _, error = attempt(lambda: getattr(run.hooks.call, hook)(**given))  # noqa: B023
            require(
                isinstance(error, KitError),
                f"{subject.title} promises to let errors of others pass, but the error of another plugin in {hook} "
                f"{'was swallowed' if error is None else f'became {type(error).__name__}: {error}'}; write no `except` around "
                "`yield` that does not raise again",
            )
        for name, serve in (("of the source", _failing_source), ("of the body of a loop", _failing_body)):
            with hooks_alone(subject.records, subject.plugin()) as run:
                _, error = attempt(lambda: serve(run))  # noqa: B023
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, KitError):
                cause = cause.__cause__
            require(
                cause is not None,
                f"{subject.title} promises to let errors pass, but an error {name} "
                f"{'was swallowed' if error is None else f'became {type(error).__name__}: {error}'}; raise no other error in "
                "datarax_pipeline_closed, which runs then",
            )

    def test_pipelines_may_interleave(self, subject: HookSubject) -> None:
        """Two pipelines may be open at once, and be closed in any order: training reads while evaluation does."""
        with hooks_alone(subject.records, subject.plugin()) as run:
            _, error = attempt(lambda: _interleaved(run))
        if error is not None:
            broken(
                f"{subject.title} promises to work for each pipeline of a process, but with two that are open at once "
                f"{type(error).__name__}: {error}. Keep what belongs to a pipeline by pipeline, in a WeakKeyDictionary"
            )


def _arguments(run: KitRun) -> dict[str, dict[str, Any]]:
    """Return the arguments of a call of each hook, by name."""
    pipeline = run.pipeline()
    batch = {name: column[:2] for name, column in run.records.items()}
    return {
        "datarax_create_source": {"config": TinyConfig(records=run.records), "build": run.build},
        "datarax_pipeline_opened": {"pipeline": pipeline},
        "datarax_batch_ready": {"pipeline": pipeline, "step": 0, "batch": batch},
        "datarax_epoch_finished": {"pipeline": pipeline, "epoch": 0, "stats": pipeline.stats()},
        "datarax_pipeline_closed": {"pipeline": pipeline},
        "datarax_record_failed": {"source": pipeline.source, "index": 3, "error": bad_record()},
    }


def _answering(hook: str, answer: Any) -> object:
    """Return a plugin whose only hook returns ``answer``; inside all wrappers."""

    def implementation() -> Any:
        return answer

    return SimpleNamespace(**{hook: hookimpl(specname=hook)(implementation)})


def _raising(hook: str) -> object:
    """Return a plugin whose only hook raises `KitError`."""

    def implementation() -> None:
        raise KitError("of another plugin")

    return SimpleNamespace(**{hook: hookimpl(specname=hook)(implementation)})


def _failing_source(run: KitRun) -> None:
    pipeline = run.pipeline(prefetch=0)

    def fail(_: Any) -> Any:
        raise KitError("of the source")

    object.__setattr__(pipeline.source, "get_records", fail)
    for _ in pipeline:
        pass


def _failing_body(run: KitRun) -> None:
    for _ in run.pipeline():
        raise KitError("of the body")


def _interleaved(run: KitRun) -> None:
    one, other = run.pipeline(num_epochs=2), run.pipeline()
    for _ in zip(one, other, strict=False):
        pass
    one.step()
    one.close()
    other.step()
    other.close()
