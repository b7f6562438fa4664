"""Promises about what is served: batches and pipelines are left alone, nothing is kept, and a batch costs little."""

import gc
import statistics
import time
import weakref
from typing import Any, Final

import jax
import jax.numpy as jnp

from datarax_core.records.spec import Batch
from datarax_core.testing.checks import not_claimed, require
from datarax_core.testing.exact import exact_difference

from .serving import Call, KitRun, goes_to_device_whole, hooks_alone, objects_frozen, settled
from .subject import HookSubject

_READY: Final = "datarax_batch_ready"
_ROUNDS: Final = 3
_CALLS: Final = 200
_PENDING_SECONDS: Final = 0.1


class BatchPromises:
    """Batches, positions, memory and time."""

    def test_batches_are_left_alone(self, subject: HookSubject) -> None:
        """Loops, steps and scans serve the batches that they serve without the plugin, unless ``changes`` says otherwise."""
        if subject.changes(_READY) or subject.changes("datarax_create_source"):
            not_claimed(f"{subject.title} says that it changes batches")
        for name, wanted in subject.plain.batches.items():
            found = subject.run.batches.get(name)
            if found is None or (name == "failing" and subject.run.error is not None):
                continue
            require(
                len(found) == len(wanted),
                f"{subject.title} promises to leave batches alone, but of the {name} {len(found)} batches were served, where "
                f"without it {len(wanted)} are; do not use up the pipeline in a hook",
            )
            for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
                text = exact_difference(one, other)
                require(
                    not text,
                    f"{subject.title} promises to leave batches alone, but in batch {number} of the {name} {text}. Change a "
                    "copy, or declare changes = ('datarax_batch_ready',)",
                )
        text = "" if subject.plain.scanned is None else exact_difference(_flat(subject.plain), _flat(subject.run))
        require(not text, f"{subject.title} promises to leave batches alone, but in a scan {text}")

    def test_the_pipeline_is_left_alone(self, subject: HookSubject) -> None:
        """Positions, states and events are those of a run without the plugin: it moves and closes no pipeline."""
        for number, (wanted, found) in enumerate(zip(subject.plain.states, subject.run.states, strict=True)):
            require(
                wanted == found or subject.changes("datarax_create_source"),
                f"{subject.title} promises to leave the pipeline alone, but state {number} of the run is another; call neither "
                "step() nor set_state() of the pipeline in a hook",
            )
        plain, run = subject.plain, subject.run
        wanted, found = _told(plain.compared_calls(run)[0]), _told(run.compared_calls(plain)[0])
        odd = next((at for at, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), None)
        if odd is None and len(wanted) != len(found):
            odd = min(len(wanted), len(found))
        require(
            odd is None,
            f"{subject.title} promises to leave the pipeline alone, but call {odd} of the hooks is "
            f"{_at(found, odd)} where it is {_at(wanted, odd)} without it; move and close no pipeline in a hook",
        )

    def test_no_batch_is_kept(self, subject: HookSubject) -> None:
        """When the next batch is asked for, the plugin holds no more than ``keeps_batches`` of those that were served."""
        with hooks_alone(subject.records, subject.plugin(), noted=False) as run:
            kept = _batches_kept(run, subject.author.keeps_batches)
        require(
            kept <= subject.author.keeps_batches,
            f"{subject.title} promises to hold no batch that was served, but holds {kept} at the end of a loop; keep numbers "
            "that are computed of it, or declare keeps_batches",
        )

    def test_no_pipeline_is_kept(self, subject: HookSubject) -> None:
        """A pipeline that was closed and dropped is not held by the plugin, nor is its source."""
        with hooks_alone(subject.records, subject.plugin(), noted=False) as run, objects_frozen():
            left = _left_of_a_pipeline(run)
        require(
            not left,
            f"{subject.title} promises to hold no pipeline that is closed, but holds {' and '.join(left)}; drop it in "
            "datarax_pipeline_closed, or hold a weakref",
        )

    def test_it_does_not_wait_for_batches(self, subject: HookSubject) -> None:
        """``datarax_batch_ready`` does not wait until the device has computed the batch, unless ``waits`` says that it does."""
        subject.require_hook(_READY)
        if subject.author.waits:
            not_claimed(f"{subject.title} says that it waits for batches")
        if not any(map(goes_to_device_whole, subject.records.values())):
            not_claimed("the records hold nothing that a device computes")
        with hooks_alone(subject.records, subject.plugin(), noted=False) as run:
            waited = _waits(run)
        require(
            not all(waited),
            f"{subject.title} promises not to wait for the values of a batch, but datarax_batch_ready returned only after they "
            "were computed, so that the device waits for Python; look at shapes and dtypes alone, look at values of a batch "
            "later, or declare waits = True",
        )

    def test_a_batch_costs_little(self, subject: HookSubject) -> None:
        """``datarax_batch_ready`` costs a batch no more than ``microseconds``, by the median of many calls."""
        subject.require_hook(_READY)
        with hooks_alone(subject.records, subject.plugin(), noted=False) as run:
            medians = [_median_cost(run)]
            while medians[-1] > subject.author.microseconds and len(medians) < _ROUNDS:
                medians.append(_median_cost(run))  # the machine may be busy
        require(
            min(medians) <= subject.author.microseconds,
            f"{subject.title} promises that a batch costs {subject.author.microseconds:g} us at most, but datarax_batch_ready "
            f"takes {min(medians):.0f} us (median of {_CALLS} calls); do the work every so many batches or on a thread, or "
            "declare microseconds",
        )


def _flat(run: KitRun) -> Batch:
    return jax.tree.map(lambda column: column.reshape(-1, *column.shape[2:]), run.scanned)


def _told(calls: list[Call]) -> list[tuple[str, dict[str, Any]]]:
    """Return calls as plain values, without batches."""
    return [
        (call.hook, {name: value for name, value in call.given.items() if name != "batch"})
        for call in calls
        if call.hook != "datarax_create_source"
    ]


def _at(calls: list[tuple[str, dict[str, Any]]], place: int | None) -> str:
    if place is None or place >= len(calls):
        return "missing"
    hook, given = calls[place]
    return f"{hook}({', '.join(f'{name}={value}' for name, value in given.items())})"


def _batches_kept(run: KitRun, most: int) -> int:
    """Return of how many batches of a loop some column lives on when the pipeline is gone."""
    with objects_frozen():
        pipeline = run.pipeline(num_epochs=2)
        served: list[list[weakref.ref[Any]]] = []
        for batch in pipeline:
            served.append([weakref.ref(column) for column in jax.tree.leaves(batch)])
            del batch
        pipeline.close()
        del pipeline
        gc.collect()
        return settled(lambda: sum(any(column() is not None for column in columns) for columns in served), most)


def _left_of_a_pipeline(run: KitRun) -> list[str]:
    pipeline = run.pipeline()
    refs: dict[str, weakref.ref[Any]] = {
        "the pipeline": weakref.ref(pipeline),
        "its source": weakref.ref(pipeline.source),
    }
    for batch in pipeline:
        del batch
    pipeline.close()
    del pipeline
    gc.collect()
    settled(lambda: sum(ref() is not None for ref in refs.values()))
    return [name for name, ref in refs.items() if ref() is not None]


def _round(_: int, value: jax.Array) -> jax.Array:
    return jnp.tanh(value @ value)


@jax.jit
def _pending(columns: Batch, work: jax.Array, rounds: int) -> Batch:
    """Return the columns, some time after the call returned."""
    done = jax.lax.fori_loop(0, rounds, _round, work)
    return jax.tree.map(lambda column: jnp.where(jnp.sum(done) > 1e30, jnp.zeros_like(column), column), columns)


def _waits(run: KitRun) -> list[bool]:
    """Return for some batches whether one that was being computed before the hook was called is computed when it returns."""
    pipeline = run.pipeline()
    columns = {name: jax.tree.map(lambda leaf: leaf[:4], each) for name, each in run.records.items()}
    on_device = {name: jax.tree.map(jnp.asarray, each) for name, each in columns.items() if goes_to_device_whole(each)}
    work, rounds, waited = jnp.full((64, 64), 0.01), _rounds_of_work(on_device), []
    for step in range(_ROUNDS):
        batch = {**columns, **_pending(on_device, work, rounds)}
        leaf = jax.tree.leaves({name: batch[name] for name in on_device})[0]
        was_ready = leaf.is_ready()
        run.hooks.call.datarax_batch_ready(pipeline=pipeline, step=step, batch=batch)
        waited.append(leaf.is_ready() and not was_ready)
        jax.block_until_ready(leaf)
    return waited


def _rounds_of_work(columns: Batch) -> int:
    """Return the number of rounds by which columns are computed for `_PENDING_SECONDS`."""
    work, rounds = jnp.full((64, 64), 0.01), 200
    jax.block_until_ready(_pending(columns, work, rounds))
    while True:
        began = time.perf_counter()
        jax.block_until_ready(_pending(columns, work, rounds))
        if time.perf_counter() - began > _PENDING_SECONDS:
            return rounds
        rounds *= 3


def _median_cost(run: KitRun) -> float:
    """Return the median time of a call of ``datarax_batch_ready`` in microseconds."""
    pipeline = run.pipeline()
    batch = next(iter(run.pipeline()))
    jax.block_until_ready(jax.tree.leaves(batch))
    seconds = []
    for step in range(_CALLS):
        began = time.perf_counter()
        run.hooks.call.datarax_batch_ready(pipeline=pipeline, step=step, batch=batch)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1e6
