"""Promises about the routes: whichever way a source is read, it is the same records in the same order."""

from itertools import islice
from typing import Any, NoReturn

import jax
from flax import nnx

from datarax_core.errors import SpecError
from datarax_core.pipeline.pipeline import Pipeline

from ._compare import joined, stacked
from ._subject import BATCH, Subject, batches
from ._verdict import broken, not_claimed, require

_ODD = 5


class RoutePromises:
    """A loop over the source, its batches, and a pipeline's loop, step and scan."""

    def test_a_loop_over_it_serves_its_order(self, subject: Subject) -> None:
        """``for record in source``."""
        found = stacked(islice(subject.build(), subject.stretch))
        subject.require_served(0, found, "a loop over the source", "leave __iter__ and __next__ to the base class")

    def test_get_batch_serves_its_order(self, subject: Subject) -> None:
        """``source.get_batch(size)``, batch after batch."""
        found = joined(batches(subject.build(), subject.stretch))
        subject.require_served(0, found, "get_batch()", "leave it to the base class, or go on at the end of an epoch")

    def test_get_batch_at_serves_its_order(self, subject: Subject) -> None:
        """``source.get_batch_at(start, size, key)``, at odd places."""
        subject.require_indexed()
        for start in range(_ODD, subject.stretch - BATCH, BATCH + 2):
            found = subject.source.get_batch_at(start, BATCH, subject.source.order_key_data())
            subject.require_served(start, found, "get_batch_at()", "let it be get_records(record_indices_at(...))")

    def test_a_pipeline_s_loop_serves_its_order(self, subject: Subject) -> None:
        """``for batch in pipeline``."""
        pipeline = _pipeline(subject, num_epochs=1)
        wanted, found = min(subject.stretch, subject.length or subject.stretch), []
        for batch in pipeline:
            found.append(batch)
            if len(found) * BATCH >= wanted:
                break
        subject.require_served(0, joined(found), "a loop over a pipeline", _REMEDY)

    def test_a_pipeline_s_steps_serve_its_order(self, subject: Subject) -> None:
        """``pipeline.step()``."""
        pipeline = _pipeline(subject)
        found = joined(pipeline.step() for _ in range(_full_batches(subject)))
        subject.require_served(0, found, "pipeline.step()", _REMEDY)

    def test_compiled_steps_serve_its_order(self, subject: Subject) -> None:
        """``pipeline.step()`` under ``nnx.jit``."""
        pipeline = _compiled(subject)
        step = nnx.jit(lambda pipeline: pipeline.step())
        found = joined(step(pipeline) for _ in range(_full_batches(subject)))
        subject.require_served(0, found, "pipeline.step() under nnx.jit", _TRACED)

    def test_get_batch_at_can_be_compiled(self, subject: Subject) -> None:
        """``get_batch_at`` under ``jax.jit``, traced in ``start`` and ``key``."""
        source = _compiled(subject).source
        jitted = jax.jit(lambda start, key: source.get_batch_at(start, _ODD, key))
        for start in range(1, subject.stretch - _ODD, BATCH + 2):
            found = jitted(start, source.order_key_data())
            subject.require_served(start, found, "get_batch_at() under jax.jit", _TRACED)

    def test_a_scan_serves_its_order(self, subject: Subject) -> None:
        """``pipeline.scan(...)``."""
        pipeline = _compiled(subject)
        steps = _full_batches(subject)
        found = pipeline.scan(_batch, length=steps)
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)
        subject.require_served(0, flat, "pipeline.scan()", _TRACED)


_REMEDY = "Override none of what the pipeline calls (order_window, fetch, read_batch) but with the same records"
_TRACED = (
    "A source whose traceable is True takes traced indices in get_records() and record_indices_at(); others are reached by "
    "fetch_on_host(), with concrete ones"
)


def _batch(batch: Any) -> Any:
    return batch


def _pipeline(subject: Subject, **options: Any) -> Pipeline:
    return Pipeline(source=subject.build(), batch_size=BATCH, rngs=nnx.Rngs(0), **{"num_epochs": None, **options})


def _full_batches(subject: Subject) -> int:
    return max(1, subject.stretch // BATCH)


def _compiled(subject: Subject) -> Pipeline:
    """A pipeline for compiled code; of a stream, or of text, there is none."""
    subject.require_indexed()
    if subject.beside:
        _see_refused(subject)
    return _pipeline(subject)


def _see_refused(subject: Subject) -> NoReturn:
    try:
        _pipeline(subject).scan(_batch, length=1)
    except SpecError as refusal:
        require(
            all(name in str(refusal) for name in subject.beside),
            f"{subject.title} has the fields {', '.join(subject.beside)}, which no device has, but compiled code refuses them "
            f"without their names: {refusal}. Leave fetch_traced() to the base class",
        )
        not_claimed(f"{subject.title} has fields that no device has, and compiled code refuses them by name")
    broken(
        f"{subject.title} has the fields {', '.join(subject.beside)}, which no device has, but compiled code takes them; leave "
        "fetch_traced() to the base class"
    )
