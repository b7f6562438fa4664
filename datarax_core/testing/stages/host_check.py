"""Check that a stage on the host keeps the promises of every host stage, whatever batches it is called with."""

import pickle
from typing import Any

import jax
import numpy as np

from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec, named_fields, spec_of
from datarax_core.stages.randomness import is_stochastic
from datarax_core.testing.checks import require

from . import host_results as promises
from .host_calls import CalledStage, built_on_host, title_of


def check_host_stage(stage: Any, batch: Batch, *, spec: ElementSpec | None = None, then: Any = None) -> Batch:
    """Fail the test unless a host stage keeps its promises on this batch; return what the stage makes of it.

    The stage is called some thirty times: a batch of 8 to 100 records is enough. Records that differ, in their lengths too,
    show more than equal ones. `HostStageConformance` tests more: the config, errors, and pipelines with the stage.

    Args:
        stage: A host stage, or a `Stage` config, which is built for the spec.
        batch: Columns of k records, two at least: NumPy arrays, objects, `Ragged`.
        spec: The element spec of the batch. Default: that of the columns.
        then: A host stage that ``stage`` joins: both together are held against one after the other.
    """
    for name, column in named_fields(batch).items():
        require(
            isinstance(column, np.ndarray | Ragged) and column.ndim,
            f"check_host_stage was given a {type(column).__name__} in field {name!r}; a column is a NumPy array, of "
            "objects for text, or a Ragged",
        )
    require(
        len(jax.tree.leaves(batch)[0]) > 1,
        "check_host_stage compares batches of different sizes; give it a batch of two records at least",
    )
    spec = spec_of(batch) if spec is None else spec
    called = CalledStage(built_on_host(stage, spec), batch, spec, title_of(stage))
    _hold(called)
    if then is not None:
        called.following = then
        promises.joined_stages_are_both(called)
    return called.made


def _hold(called: CalledStage) -> None:
    """Hold a stage to each promise, the most basic first."""
    promises.of_host(called)
    promises.row_for_each_record(called)
    promises.returned_batch_left_alone(called)
    promises.input_left_alone(called)
    promises.spec_is_true(called)
    promises.same_again(called)
    if not called.is_of_whole_batch:
        promises.record_alike_in_any_batch(called)
        if getattr(called.stage, "thread_safe", True):
            promises.threads_at_once(called)
    promises.pickles(called)
    if hasattr(called.stage, "fingerprint"):
        promises.fingerprint_is_json(called, pickle.loads(pickle.dumps(called.stage)), "its copy by pickle")  # noqa: S301
    if is_stochastic(called.stage):
        promises.epoch_draws_anew(called)
