"""Order of promises: the tests of a kit run the most basic one first, and skip those that build on a broken one."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import pytest

from .checks import not_claimed

NOT_QUICK: Final = frozenset(
    {
        "test_every_option_is_refused_or_has_an_effect",  # `effective`
        "test_a_record_does_not_depend_on_its_batch",  # `mixes_records`
        "test_padded_rows_change_no_others",
        "test_batches_are_left_alone",  # `changes`
        "test_the_pipeline_is_left_alone",
        "test_others_are_called_too",
        "test_a_wrapper_returns_what_it_got",
        "test_no_batch_is_kept",  # `keeps_batches`
        "test_it_does_not_wait_for_batches",  # `waits`
        "test_a_batch_costs_little",  # `microseconds`
        "test_every_dtype_it_claims",  # `dtypes`
        "test_its_sources_go_to_worker_processes",
        "test_it_is_read_by_a_spawned_process",
        "test_it_decodes_in_a_spawned_process",
    }
)
"""Tests of groups that are quick else: those that need what only an author can declare, and those that take long."""

MOST_FAILURES: Final = 3
"""How many tests of a class may fail before the rest is left out: they would mostly be further effects of the same fault."""


class Examined(Protocol):
    """Subject of a kit: what the tests of one class examine, with the names of the tests that failed."""

    broken: set[str]


SubjectT = TypeVar("SubjectT", bound=Examined)

_SUBJECT = pytest.StashKey[Examined]()


def subject_of(
    author: object,
    kind: Callable[[Any, Path], SubjectT],
    request: pytest.FixtureRequest,
    folders: pytest.TempPathFactory,
) -> SubjectT:
    """Return the subject of a test class, made once for the class.

    Args:
        author: The first instance of the class, with its declarations.
        kind: Makes the subject from the author, and a folder for files.
        request: Of a fixture of the class.
        folders: Makes the folder.
    """
    stash = request.node.parent.stash
    if _SUBJECT not in stash:
        stash[_SUBJECT] = kind(author, folders.mktemp(type(author).__name__, numbered=True))
    made: SubjectT = stash[_SUBJECT]
    return made


def ordered(
    needs: Mapping[type, Sequence[str]], more: Mapping[str, Sequence[str]] | None = None
) -> Iterator[tuple[str, Callable[..., None]]]:
    """Yield the tests of groups of promises by name, in their order; pytest runs the tests of a class in that of definition.

    Each test takes the fixture ``subject``. It is skipped if a test on which it builds has failed, if it has itself failed for
    another parameter, or if `MOST_FAILURES` tests have failed, so that one fault shows as few failures.
    Tests of a group with ``is_quick = False``, and those of `NOT_QUICK`, are left out by ``drx check --run``.

    Args:
        needs: The groups, classes with test methods, in the order in which they are tested, and for each the names of the tests
            on which it builds.
        more: Names of further tests on which single tests build.
    """
    for group, names in needs.items():
        for name, test in vars(group).items():
            if name.startswith("test_"):
                run = _skipping(test, (*names, *(more or {}).get(name, ())))
                run.is_quick = getattr(group, "is_quick", True) and name not in NOT_QUICK  # type: ignore[attr-defined]
                yield name, run


def _skipping(test: Callable[..., None], needs: Sequence[str]) -> Callable[..., None]:
    """Return a test that is skipped if a promise on which it builds was found broken, and that notes its own failure."""

    @functools.wraps(test)
    def run(self: Any, subject: Examined, *arguments: Any, **named: Any) -> None:
        if test.__name__ in subject.broken:
            not_claimed("it is broken for another parameter already")
        if missing := next((need for need in needs if need in subject.broken), None):
            not_claimed(f"it builds on {missing}, which is broken")
        if len(subject.broken) >= MOST_FAILURES:
            not_claimed(f"{MOST_FAILURES} promises are broken already; mend them first, from the first one on")
        try:
            test(self, subject, *arguments, **named)
        except pytest.skip.Exception:
            raise
        except BaseException as error:
            subject.broken.add(test.__name__)
            if isinstance(error, Exception):  # of the plugin; failures of the kit are sentences
                error.add_note(f"broken promise: {(test.__doc__ or '').strip()}")
            raise

    return run
