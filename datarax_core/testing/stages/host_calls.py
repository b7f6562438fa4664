"""A host stage that is called with batches, as each promise of a host stage is shown; in the kit, and by `check_host_stage`."""

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import jax
import numpy as np
from flax import nnx

from datarax_core.records.spec import Batch, ElementSpec, named_fields, spec_of
from datarax_core.registry.stages import Stage
from datarax_core.stages.apply import stage_name
from datarax_core.stages.on_host.generators import RecordGenerators
from datarax_core.stages.on_host.side import EITHER, is_of_whole_batch
from datarax_core.stages.randomness import StageKeys, is_stochastic, takes_record_indices
from datarax_core.testing.checks import broken

from .comparing import first_difference, rows_of_batch
from .declarations import HostDeclarations
from .subject import StageSubject

_KEY: Final = np.array([1, 2], np.uint32)


class CalledStage:
    """A host stage, built, and the batch that it is called with.

    Args:
        stage: The stage, built.
        batch: Columns of two records or more.
        spec: Their element spec.
        title: The name of the stage in messages.
        key_data: uint32 (2,): the key that generators are derived from.
    """

    broken: set[str]

    def __init__(self, stage: Any, batch: Batch, spec: ElementSpec, title: str, key_data: np.ndarray = _KEY) -> None:
        self.stage, self.batch, self.spec, self.name, self.key_data = stage, batch, spec, title, key_data
        self.following: Any = None

    @property
    def num_records(self) -> int:
        """The number of records of the batch."""
        return len(jax.tree.leaves(self.batch)[0])

    @property
    def is_of_whole_batch(self) -> bool:
        """Whether the stage needs all rows of a batch, so that a record may depend on others."""
        return is_of_whole_batch(self.stage)

    @functools.cached_property
    def made(self) -> Batch:
        """What the stage makes of the batch."""
        with self.explained(
            "raised {error}", read_only="; its columns are read-only, and it makes new ones of what it changes"
        ):
            return self.call()

    def call(self, rows: Sequence[int] | np.ndarray | None = None, *, epoch: Any = 0, stage: Any = None) -> Batch:
        """Return what the stage makes of these rows of the batch, all by default; ``epoch`` is one for all, or one for each."""
        indices = np.arange(self.num_records) if rows is None else np.asarray(rows)
        given = self.batch if rows is None else rows_of_batch(self.batch, rows)
        return self.call_with(read_only(given), indices, epoch, self.stage if stage is None else stage)

    def call_with(self, batch: Batch, indices: np.ndarray, epoch: Any, stage: Any, number: int = 0) -> Batch:
        """Return what a stage makes of a batch that is its own to hold; ``number`` is its place in a pipeline."""
        arguments: list[Any] = []
        if is_stochastic(stage):
            arguments.append(RecordGenerators(self.key_data, number, np.broadcast_to(epoch, indices.shape), indices))
        if takes_record_indices(stage):
            arguments.append(indices.astype(np.int64))
        return stage(batch, *arguments)

    def same(self, expected: Batch, found: Batch, sentence: str) -> None:
        """Fail with a sentence, in which ``{difference}`` stands for the first difference, unless two batches are equal."""
        if difference := first_difference(expected, found):
            broken(f"{self.name} {sentence.replace('{difference}', difference)}")

    @contextlib.contextmanager
    def explained(self, sentence: str, *, read_only: str = "") -> Iterator[None]:
        """Fail with a sentence if the body raises; ``{error}`` stands for what it raised.

        ``read_only`` is added if it wrote to an array that it may not write to.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the stage's own, which the sentence tells
            more = read_only if "read-only" in str(error) else ""
            broken(f"{self.name} {sentence.replace('{error}', f'{type(error).__name__}: {error}')}{more}")


class Behind:
    """Host stage that returns its batch: one that works on both sides runs on the host before it."""

    on_host = True

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the spec as it is."""
        return spec

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch as it is, in a new dict."""
        return dict(batch)


class HostSubject(StageSubject):
    """A stage that runs on the host."""

    author: HostDeclarations

    def stages(self, config: Any = None) -> list[Any]:
        """Return the stages of a new pipeline; a stage of either side runs on the host if a host stage stands behind it."""
        stage = self.fresh(config)
        return [stage, Behind()] if getattr(stage, "on_host", False) == EITHER else [stage]

    @functools.cached_property
    def called(self) -> CalledStage:
        """The stage that a pipeline builds, called with the records."""
        key = StageKeys((self.built,), nnx.Rngs(0), 1).raw_key_data
        called = CalledStage(
            self.built, self.records, spec_of(self.records), self.title, _KEY if key is None else np.asarray(key)
        )
        following = self.author.make_following(self.folder)
        called.following = self.validated(following) if isinstance(following, dict) else following
        return called

    def looks(self, built: Any) -> list[Any]:
        """Return what a built stage makes of the records, what it says of that, and how a pipeline calls it."""
        names = ("stochastic", "takes_record_indices", "whole_batch", "thread_safe")
        flags = [getattr(built, name, None) for name in names]
        said = built.element_spec(spec_of(self.records)) if hasattr(built, "element_spec") else None
        fingerprint = json.dumps(built.fingerprint()) if hasattr(built, "fingerprint") else ""
        made = CalledStage(built, self.records, None, self.title, self.called.key_data).call()
        return [flags, repr(said), fingerprint, list(named_fields(made)), made]

    def difference(self, expected: Batch, found: Batch) -> str:
        """Return the first difference of two batches; "" if they are equal."""
        return first_difference(expected, found)


def built_on_host(stage: Any, spec: ElementSpec) -> Any:
    """Return what a config builds for the host; one that works on both sides has a method for each. Others are as they are."""
    if not isinstance(stage, Stage):
        return stage
    build = getattr(stage, "build_on_host", stage.build)
    return build(spec, nnx.Rngs(0))


def title_of(stage: Any) -> str:
    """Return the name of a stage in messages."""
    return f"the stage {stage_name(stage)}"


def read_only(batch: Batch) -> Batch:
    """Return a batch in new dicts and read-only views of its columns."""
    return jax.tree.map(_read_only, batch)


def _read_only(column: Any) -> Any:
    if not isinstance(column, np.ndarray):
        return column
    view = column.view()
    view.flags.writeable = False
    return view
