"""Promises of every host stage about one batch: what it makes, that it makes it again, of each record, on any thread."""

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import jax
import numpy as np

from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, differences, named_fields, spec_of
from datarax_core.registry.stages import Stage
from datarax_core.stages.apply import require_stage, stage_name
from datarax_core.stages.randomness import is_stochastic
from datarax_core.testing.checks import broken, not_claimed, require

from .comparing import first_difference, rows_of_batch
from .host_calls import CalledStage, HostSubject, built_on_host, read_only

_EPOCHS: Final = 8


class HostCallPromises:
    """The stage, called with batches of the records."""

    def test_it_says_that_it_runs_on_the_host(self, subject: HostSubject) -> None:
        """It has ``on_host = True``, takes the arguments that its flags say, and can be looked up as stages are."""
        of_host(subject.called)

    def test_it_makes_a_row_for_each_record(self, subject: HostSubject) -> None:
        """It returns columns of NumPy, of objects or ragged ones, each with a row for each record."""
        row_for_each_record(subject.called)

    def test_a_batch_that_it_returned_is_left_alone(self, subject: HostSubject) -> None:
        """A batch that was returned is served, or still to be placed on a device, while the next one is made."""
        returned_batch_left_alone(subject.called)

    def test_it_leaves_its_input_alone(self, subject: HostSubject) -> None:
        """It changes neither the dict that it is called with nor the objects in its columns; arrays are read-only."""
        input_left_alone(subject.called)

    def test_its_spec_is_true(self, subject: HostSubject) -> None:
        """``element_spec(spec)`` says what comes out; without it, all records have the spec of the first one."""
        spec_is_true(subject.called)

    def test_it_makes_the_same_again(self, subject: HostSubject) -> None:
        """Called again, it makes the same batch, and draws random numbers from the generators of the records alone."""
        same_again(subject.called)

    def test_a_record_does_not_depend_on_its_batch(self, subject: HostSubject) -> None:
        """A record comes out alike by itself, in parts of the batch, in another order, and twice in one batch."""
        if subject.called.is_of_whole_batch:
            not_claimed(f"{subject.title} needs whole batches: it says whole_batch = True")
        record_alike_in_any_batch(subject.called)

    def test_threads_may_call_it_at_once(self, subject: HostSubject) -> None:
        """Several threads call one stage at once, for parts of one batch, unless it says ``thread_safe = False``."""
        if subject.called.is_of_whole_batch or not getattr(subject.built, "thread_safe", True):
            not_claimed(f"{subject.title} is called by one thread: it says thread_safe = False, or whole_batch = True")
        threads_at_once(subject.called)

    def test_copies_make_the_same(self, subject: HostSubject) -> None:
        """A copy by pickle, which worker processes have, makes the same; so does a pickle of its config."""
        pickles(subject.called)
        if isinstance(subject.config, Stage):
            with subject.called.explained(
                "has a config that does not pickle: {error}; leave out what cannot be pickled"
            ):
                twin = pickle.loads(pickle.dumps(subject.config))  # noqa: S301 - of this process
            found = subject.called.call(stage=subject.build(twin))
            subject.called.same(
                subject.called.made, found, "makes something else after a copy of its config by pickle: {difference}"
            )

    def test_its_fingerprint_is_json(self, subject: HostSubject) -> None:
        """``fingerprint()`` is JSON, which saved states must match: that of a copy, and of a stage built again, is equal."""
        if not hasattr(subject.built, "fingerprint"):
            not_claimed(f"{subject.title} works by no file: it has no fingerprint()")
        fingerprint_is_json(subject.called, pickle.loads(pickle.dumps(subject.built)), "its copy by pickle")  # noqa: S301
        fingerprint_is_json(subject.called, subject.build(), "the same stage, built again,")

    def test_another_epoch_draws_anew(self, subject: HostSubject) -> None:
        """A stage with ``stochastic = True`` makes something else of a record in the next epoch."""
        if not is_stochastic(subject.built):
            not_claimed(f"{subject.title} is not stochastic")
        epoch_draws_anew(subject.called)

    def test_joined_stages_make_what_both_make(self, subject: HostSubject) -> None:
        """The stage that ``join`` returns makes what the two make one after the other."""
        if subject.called.following is None:
            not_claimed("make_following() returns no stage that it joins")
        joined_stages_are_both(subject.called)


# -- each promise, for `check_host_stage` too -------------------------------------------------------------------------------


def of_host(called: CalledStage) -> None:
    """Fail unless the stage says that it runs on the host, and can be called and looked up as stages are."""
    require(
        getattr(called.stage, "on_host", False) in (True, "either"),
        f"{called.name} does not say that it runs on the host; give its class on_host = True"
        + ("" if not isinstance(called.stage, Stage) else ", as a ClassVar"),
    )
    try:
        require_stage(called.stage, called.name)
    except TypeError as refused:
        broken(str(refused))


def row_for_each_record(called: CalledStage) -> None:
    """Fail unless the stage returns columns on the host with a row for each record."""
    made = called.made
    require(made is not None, f"{called.name} returned None; it returns the batch it made")
    for name, column in named_fields(made).items():
        kind = type(column).__name__
        require(
            not isinstance(column, jax.Array),
            f"{called.name} returned a device array in field {name!r}; a host stage computes with NumPy alone",
        )
        require(
            isinstance(column, np.ndarray | Ragged) and column.ndim,
            f"{called.name} returned a {kind} in field {name!r}; a column is a NumPy array or a Ragged",
        )
        require(
            len(column) == called.num_records,
            f"{called.name} returned {len(column)} rows in field {name!r} for {called.num_records} records; it returns a row "
            "for each, in their order",
        )


def returned_batch_left_alone(called: CalledStage) -> None:
    """Fail if the stage writes to a batch that it returned before."""
    as_returned = copy.deepcopy(called.made)
    called.call(list(range(called.num_records))[::-1])
    called.same(
        as_returned,
        called.made,
        "wrote to a batch that it had returned: {difference}; it makes new arrays at each call",
    )


def input_left_alone(called: CalledStage) -> None:
    """Fail if the stage changes the dict that it is called with, or an object in its columns."""
    given = read_only(called.batch)
    before = copy.deepcopy(given)
    called.call_with(given, np.arange(called.num_records), 0, called.stage)
    called.same(before, given, "changed the batch that it was called with: {difference}; it returns a new dict")


def spec_is_true(called: CalledStage) -> None:
    """Fail unless batches are as the stage says, or as the first record is."""
    found = spec_of(called.made)
    if not hasattr(called.stage, "element_spec") or (said := called.stage.element_spec(called.spec)) is None:
        said, told = spec_of(called.call([0])), "has no element_spec, so that all records are as the first one is"
    else:
        told = "says in element_spec what its batches are"
    # batches of a stage of whole batches have one of several lengths
    if not called.is_of_whole_batch and (wrong := differences(said, found)):
        broken(
            f"{called.name} {told}, and a batch of {called.num_records} records is not so: {'; '.join(wrong)}; correct "
            "element_spec, with None for each axis that varies"
        )


def same_again(called: CalledStage) -> None:
    """Fail unless the stage makes the same batch when it is called again, whatever the random state of NumPy."""
    state = np.random.get_state()  # noqa: NPY002 - of stages that draw from it
    np.random.seed(12_345)  # noqa: NPY002
    try:
        again = called.call()
    finally:
        np.random.set_state(state)  # noqa: NPY002
    called.same(
        called.made,
        again,
        "made another batch of the same records when it was called again: {difference}; what is random draws from the "
        "generators that a stage with stochastic = True is called with",
    )


def record_alike_in_any_batch(called: CalledStage) -> None:
    """Fail unless a record comes out alike by itself, in parts of the batch, in another order, and twice in one batch."""
    size = called.num_records
    half = size // 2
    cuts: dict[str, list[list[int]]] = {
        "by itself": [[row] for row in range(min(size, 6))],
        "in a part of the batch": [list(range(half)), list(range(half, size))],
        "in another order": [list(range(size))[::-1]],
        "twice in one batch": [[0, size - 1, 0]],
    }
    for how, parts in cuts.items():
        for rows in parts:
            with called.explained(f"raised {{error}} for records {how}, and nothing for all of them"):
                found = called.call(rows)
            called.same(
                rows_of_batch(called.made, rows),
                found,
                f"makes something else of a record {how}: {{difference}}; a record comes out alike in any batch, or the "
                "stream would depend on batch size, threads and workers",
            )


def threads_at_once(called: CalledStage) -> None:
    """Fail unless several threads may call the stage at once, for parts of one batch."""
    parts = [list(range(start, called.num_records, 4)) for start in range(min(4, called.num_records))] * 2
    with ThreadPoolExecutor(4) as pool, called.explained("raised {error} when several threads called it at once"):
        found = list(pool.map(called.call, parts))
    for rows, batch in zip(parts, found, strict=True):
        called.same(
            rows_of_batch(called.made, rows),
            batch,
            "makes something else when several threads call it at once: {difference}; keep what it computes in local "
            "variables, or say thread_safe = False",
        )


def pickles(called: CalledStage) -> None:
    """Fail unless a copy by pickle makes the same, and has the same fingerprint."""
    with called.explained(
        "does not pickle: {error}; worker processes receive a copy, so define its functions in a module"
    ):
        twin = pickle.loads(pickle.dumps(called.stage))  # noqa: S301 - of this process
    called.same(called.made, called.call(stage=twin), "makes something else after a copy by pickle: {difference}")


def fingerprint_is_json(called: CalledStage, twin: Any, title: str) -> None:
    """Fail unless the fingerprint of the stage is JSON, and a twin has the same."""
    with called.explained("has a fingerprint that is no JSON, in which states are saved: {error}"):
        own, other = (json.dumps(stage.fingerprint(), sort_keys=True) for stage in (called.stage, twin))
    require(
        own == other,
        f"{called.name} has the fingerprint {own}, and {title} has {other}; it tells what "
        "the stage works by alone, such as the checksum of a file",
    )


def epoch_draws_anew(called: CalledStage) -> None:
    """Fail unless a stochastic stage makes something else in one of the next epochs."""
    if not any(first_difference(called.made, called.call(epoch=epoch)) for epoch in range(1, _EPOCHS)):
        broken(
            f"{called.name} is stochastic, and made the same batch in {_EPOCHS} epochs; draw from the generators that it is "
            "called with, or leave stochastic out"
        )


def joined_stages_are_both(called: CalledStage) -> None:
    """Fail unless the joined stage makes what the stage and the following one make one after the other."""
    then = called.following
    following = built_on_host(then, spec_of(called.made))
    joined = called.stage.join(following) if hasattr(called.stage, "join") else None
    require(joined is not None, f"{called.name} joins no {stage_name(then)}; leave `then` out")
    indices = np.arange(called.num_records)
    expected: Batch = called.call_with(read_only(called.made), indices, 0, following, 1)
    with called.explained(f"raised {{error}} when it was joined with {stage_name(then)}"):
        found = called.call_with(read_only(called.batch), indices, 0, joined, 1)
    called.same(
        expected,
        found,
        f"joined with {stage_name(then)} makes something else: {{difference}}; join() returns one "
        "stage that does the work of both, or None",
    )
