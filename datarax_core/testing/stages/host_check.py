"""Check that a stage on the host keeps the promises of every host stage, whatever batches it is called with."""

import contextlib
import copy
import json
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import jax
import numpy as np
from flax import nnx

from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec, differences, named_fields, spec_of
from datarax_core.registry.stages import Stage
from datarax_core.stages.apply import require_stage, stage_name
from datarax_core.stages.on_host.generators import RecordGenerators
from datarax_core.stages.randomness import is_stochastic, takes_record_indices
from datarax_core.testing.checks import are_equal, broken, require, shown

_EPOCHS: Final = 8
_KEY: Final = np.array([1, 2], np.uint32)


def check_host_stage(stage: Any, batch: Batch, *, spec: ElementSpec | None = None, then: Any = None) -> Batch:
    """Fail the test unless a host stage keeps its promises on this batch; return what the stage makes of it.

    The stage is called some thirty times: a batch of 8 to 100 records is enough. Records that differ, in their lengths too,
    show more than equal ones.

    Args:
        stage: A host stage, or a `Stage` config, which is built for the spec.
        batch: Columns of k records, two at least: NumPy arrays, objects, `Ragged`.
        spec: The element spec of the batch. Default: that of the columns.
        then: A host stage that ``stage`` joins: both together are held against one after the other.
    """
    check = _Check(stage, batch, spec)
    made = check.run()
    if then is not None:
        check.joined_stages_are_both(made, then)
    return made


class _Check:
    """The promises of one stage on one batch."""

    def __init__(self, stage: Any, batch: Batch, spec: ElementSpec | None) -> None:
        for name, column in named_fields(batch).items():
            require(
                isinstance(column, np.ndarray | Ragged) and column.ndim,
                f"check_host_stage was given a {type(column).__name__} in field {name!r}; a column is a NumPy array, of "
                "objects for text, or a Ragged",
            )
        spec = spec_of(batch) if spec is None else spec
        self.size = len(jax.tree.leaves(batch)[0])
        require(
            self.size > 1,
            "check_host_stage compares batches of different sizes; give it a batch of two records at least",
        )
        self.stage = _built(stage, spec) if isinstance(stage, Stage) else stage
        self.batch, self.spec = batch, spec
        self.title = f"the stage {stage_name(stage)}"

    def run(self) -> Batch:
        """Hold the stage to each promise, the most basic first."""
        self.it_is_a_host_stage()
        made = self.it_makes_a_row_for_each_record()
        self.it_writes_to_no_batch_that_it_returned(made)
        self.it_leaves_its_input_alone()
        self.its_spec_is_true(made)
        self.a_batch_is_made_again_alike(made)
        if not getattr(self.stage, "whole_batch", False):
            self.a_record_does_not_depend_on_its_batch(made)
            if getattr(self.stage, "thread_safe", True):
                self.threads_may_call_it_at_once(made)
        self.it_pickles(made)
        if is_stochastic(self.stage):
            self.an_epoch_draws_anew(made)
        return made

    def call(self, rows: Sequence[int] | None = None, *, epoch: int = 0, stage: Any = None) -> Batch:
        """Return what the stage makes of these rows of the batch; of all by default."""
        indices = np.arange(self.size) if rows is None else np.asarray(rows)
        given = self.batch if rows is None else _rows(self.batch, rows)
        return self.made(jax.tree.map(_read_only, given), indices, epoch, self.stage if stage is None else stage)

    def made(self, batch: Batch, indices: np.ndarray, epoch: int, stage: Any, number: int = 0) -> Batch:
        """Return what a stage makes of a batch that is its own to hold; ``number`` is its place in a pipeline."""
        arguments: list[Any] = []
        if is_stochastic(stage):
            arguments.append(RecordGenerators(_KEY, number, np.full(len(indices), epoch), indices))
        if takes_record_indices(stage):
            arguments.append(indices.astype(np.int64))
        return stage(batch, *arguments)

    # -- promises -----------------------------------------------------------------------------------------------------------

    def it_is_a_host_stage(self) -> None:
        """It says that it runs on the host, and can be called and looked up as stages are."""
        require(
            getattr(self.stage, "on_host", False) in (True, "either"),
            f"{self.title} does not say that it runs on the host; give its class on_host = True"
            + ("" if not isinstance(self.stage, Stage) else ", as a ClassVar"),
        )
        try:
            require_stage(self.stage, self.title)
        except TypeError as refused:
            broken(str(refused))

    def it_makes_a_row_for_each_record(self) -> Batch:
        """It returns columns of NumPy, of objects or ragged ones, each with a row for each record."""
        with self.explained(
            "raised {error}", read_only="; its columns are read-only, and it makes new ones of what it changes"
        ):
            made = self.call()
        require(made is not None, f"{self.title} returned None; it returns the batch it made")
        for name, column in named_fields(made).items():
            kind = type(column).__name__
            require(
                not isinstance(column, jax.Array),
                f"{self.title} returned a device array in field {name!r}; a host stage computes with NumPy alone",
            )
            require(
                isinstance(column, np.ndarray | Ragged) and column.ndim,
                f"{self.title} returned a {kind} in field {name!r}; a column is a NumPy array or a Ragged",
            )
            require(
                len(column) == self.size,
                f"{self.title} returned {len(column)} rows in field {name!r} for {self.size} records; it returns a row for "
                "each, in their order",
            )
        return made

    def it_writes_to_no_batch_that_it_returned(self, made: Batch) -> None:
        """A batch that was returned is served, or still to be placed on a device, while the next one is made."""
        as_returned = copy.deepcopy(made)
        self.call(list(range(self.size))[::-1])
        self.same(
            as_returned, made, "wrote to a batch that it had returned: {difference}; it makes new arrays at each call"
        )

    def it_leaves_its_input_alone(self) -> None:
        """It changes neither the dict that it is called with nor the objects in its columns; arrays are read-only."""
        given = jax.tree.map(_read_only, self.batch)
        before = copy.deepcopy(given)
        self.made(given, np.arange(self.size), 0, self.stage)
        self.same(before, given, "changed the batch that it was called with: {difference}; it returns a new dict")

    def its_spec_is_true(self, made: Batch) -> None:
        """``element_spec(spec)`` says what comes out; without it, all records have the spec of the first one."""
        found = spec_of(made)
        if not hasattr(self.stage, "element_spec") or (said := self.stage.element_spec(self.spec)) is None:
            said, told = spec_of(self.call([0])), "has no element_spec, so that all records are as the first one is"
        else:
            told = "says in element_spec what its batches are"
        is_padded = getattr(self.stage, "whole_batch", False)  # its batches have one of several lengths
        if not is_padded and (wrong := differences(said, found)):
            broken(f"{self.title} {told}, and a batch of {self.size} records is not so: {'; '.join(wrong)}")

    def a_batch_is_made_again_alike(self, made: Batch) -> None:
        """Called again, it makes the same batch, and draws random numbers from the generators of the records alone."""
        state = np.random.get_state()  # noqa: NPY002 - of stages that draw from it
        np.random.seed(12_345)  # noqa: NPY002
        try:
            again = self.call()
        finally:
            np.random.set_state(state)  # noqa: NPY002
        self.same(
            made,
            again,
            "made another batch of the same records when it was called again: {difference}; what is random draws from the "
            "generators that a stage with stochastic = True is called with",
        )

    def a_record_does_not_depend_on_its_batch(self, made: Batch) -> None:
        """A record comes out alike by itself, in parts of the batch, in another order, and twice in one batch."""
        half = self.size // 2
        cuts: dict[str, list[list[int]]] = {
            "by itself": [[row] for row in range(min(self.size, 6))],
            "in a part of the batch": [list(range(half)), list(range(half, self.size))],
            "in another order": [list(range(self.size))[::-1]],
            "twice in one batch": [[0, self.size - 1, 0]],
        }
        for how, parts in cuts.items():
            for rows in parts:
                with self.explained(f"raised {{error}} for records {how}, and nothing for all of them"):
                    found = self.call(rows)
                self.same(
                    _rows(made, rows),
                    found,
                    f"makes something else of a record {how}: {{difference}}; a record comes out alike in any batch, or the "
                    "stream would depend on batch size, threads and workers",
                )

    def threads_may_call_it_at_once(self, made: Batch) -> None:
        """Several threads call one stage at once, for parts of one batch."""
        parts = [list(range(start, self.size, 4)) for start in range(min(4, self.size))] * 2
        with ThreadPoolExecutor(4) as pool, self.explained("raised {error} when several threads called it at once"):
            found = list(pool.map(self.call, parts))
        for rows, batch in zip(parts, found, strict=True):
            self.same(
                _rows(made, rows), batch, "makes something else when several threads call it at once: {difference}"
            )

    def it_pickles(self, made: Batch) -> None:
        """A copy by pickle, which worker processes have, makes the same."""
        with self.explained(
            "does not pickle: {error}; worker processes receive a copy, so define its functions in a module"
        ):
            twin = pickle.loads(pickle.dumps(self.stage))  # noqa: S301 - of this process
        self.same(made, self.call(stage=twin), "makes something else after a copy by pickle: {difference}")
        if hasattr(self.stage, "fingerprint"):
            with self.explained("has a fingerprint that is no JSON, in which states are saved: {error}"):
                own, other = (json.dumps(stage.fingerprint(), sort_keys=True) for stage in (self.stage, twin))
            require(own == other, f"{self.title} has the fingerprint {own}, and its copy by pickle has {other}")

    def an_epoch_draws_anew(self, made: Batch) -> None:
        """A stochastic stage makes something else of a record in the next epoch."""
        for epoch in range(1, _EPOCHS):
            if _difference(made, self.call(epoch=epoch)):
                return
        broken(
            f"{self.title} is stochastic, and made the same batch in {_EPOCHS} epochs; draw from the generators that it is "
            "called with, or leave stochastic out"
        )

    def joined_stages_are_both(self, made: Batch, then: Any) -> None:
        """One stage that does the work of two makes what they make one after the other."""
        following = _built(then, spec_of(made)) if isinstance(then, Stage) else then
        joined = self.stage.join(following) if hasattr(self.stage, "join") else None
        require(joined is not None, f"{self.title} joins no {stage_name(then)}; leave `then` out")
        indices = np.arange(self.size)
        expected = self.made(jax.tree.map(_read_only, made), indices, 0, following, 1)
        with self.explained(f"raised {{error}} when it was joined with {stage_name(then)}"):
            found = self.made(jax.tree.map(_read_only, self.batch), indices, 0, joined, 1)
        self.same(expected, found, f"joined with {stage_name(then)} makes something else: {{difference}}")

    # -- inside -------------------------------------------------------------------------------------------------------------

    def same(self, expected: Batch, found: Batch, sentence: str) -> None:
        """Fail with a sentence, in which ``{difference}`` stands for the first difference, unless two batches are equal."""
        if difference := _difference(expected, found):
            broken(f"{self.title} {sentence.format(difference=difference)}")

    @contextlib.contextmanager
    def explained(self, sentence: str, *, read_only: str = "") -> Iterator[None]:
        """Fail with a sentence if the body raises; ``{error}`` stands for what it raised.

        ``read_only`` is added if it wrote to an array that it may not write to.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the stage's own, which the sentence tells
            more = read_only if "read-only" in str(error) else ""
            broken(f"{self.title} {sentence.format(error=f'{type(error).__name__}: {error}')}{more}")


def _built(stage: Stage, spec: ElementSpec) -> Any:
    """Return what a config builds for the host; one that works on both sides has a method for each."""
    build = getattr(stage, "build_on_host", stage.build)
    return build(spec, nnx.Rngs(0))


def _read_only(column: Any) -> Any:
    if not isinstance(column, np.ndarray):
        return column
    view = column.view()
    view.flags.writeable = False
    return view


def _rows(batch: Batch, rows: Sequence[int]) -> Batch:
    return jax.tree.map(lambda column: column[np.asarray(rows)], batch)


def _difference(expected: Batch, found: Batch) -> str:
    """Return the first difference of two batches in words; "" if they are equal."""
    wanted, given = named_fields(expected), named_fields(found)
    if wanted.keys() != given.keys():
        return f"its fields are {', '.join(sorted(given))} where {', '.join(sorted(wanted))} are expected"
    for name, column in wanted.items():
        other = given[name]
        if column.dtype != other.dtype or len(column) != len(other):
            expected_rows, found_rows = f"{column.dtype} of {len(column)} rows", f"{other.dtype} of {len(other)} rows"
            return f"field {name!r} is {found_rows} where {expected_rows} is expected"
        for row in range(len(column)):
            if not are_equal(column[row], other[row]):
                return f"field {name!r} of row {row} is {shown(other[row])} where {shown(column[row])} is expected"
    return ""
