"""Promises about routes: every way to read a source gives the same records in the same order."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, NoReturn

import jax
from flax import nnx

from datarax_core.errors import SpecError
from datarax_core.order.permutation import DEVICE_LIMIT
from datarax_core.pipeline.pipeline import Pipeline
from datarax_core.testing.checks import (
    BATCH,
    batches,
    broken,
    difference,
    joined,
    not_claimed,
    part,
    require,
    rows_of,
)

from .subject import Subject

_ODD = 5  # a size and a first position that are no multiples of others
_SIZES = (1, 3, 32, 7)
_REMEDY = "An override of a method that pipelines call (order_reader, fetch, read_batch) returns the same records"
_OWN_CONNECTION = (
    "Open connections and files that belong to a thread where they are used: in threading.local(), or for each read"
)
_TRACED = (
    "If traceable is True, get_records() and record_indices_at() take traced indices; otherwise compiled code reads records "
    "through fetch_on_host(), with concrete indices"
)


class RoutePromises:
    """A loop over the source, its batches, and the loop, steps and scan of a pipeline."""

    def test_a_loop_over_it_serves_its_order(self, subject: Subject) -> None:
        """``for record in source`` serves the records in the order of the source."""
        if not subject.has_loops:
            not_claimed(f"{subject.title} is a stream that does not define __iter__()")
        found = subject.batch_of(islice(subject.build(), subject.num_compared))
        subject.require_served(0, found, "a loop over the source", "Leave __iter__ and __next__ to the base class")

    def test_get_batch_serves_its_order(self, subject: Subject) -> None:
        """``source.get_batch(size)``, called repeatedly, serves the order of the source."""
        found = joined(batches(subject.build(), subject.num_compared))
        subject.require_served(
            0, found, "get_batch()", "Leave get_batch() to the base class, or continue with the next epoch"
        )

    def test_get_batch_at_serves_its_order(self, subject: Subject) -> None:
        """``source.get_batch_at(start, size, key)`` serves the order of the source, from any position."""
        subject.require_indexed()
        for start in range(_ODD, subject.num_compared - BATCH, BATCH + 2):
            found = subject.source.get_batch_at(start, BATCH, subject.source.order_key_data())
            subject.require_served(start, found, "get_batch_at()", "Return get_records(record_indices_at(...))")

    def test_get_batch_at_is_stateless(self, subject: Subject) -> None:
        """``get_batch_at`` does not move the source: neither its position nor its next batch changes."""
        subject.require_indexed()
        source, order_key = subject.build(), subject.source.order_key_data()
        before = source.cursor.position
        first, again = (source.get_batch_at(3, BATCH, order_key) for _ in range(2))
        position = source.cursor.position
        text = difference(first, again) or subject.deviation(0, source.get_batch(BATCH))
        require(
            not text and position == before,
            f"{subject.title} promises that get_batch_at() is stateless, but after two calls the position of the source is "
            f"{position}, where it was {before}{text and f', and it serves other records: {text}'}. Compute the batch from "
            "start, size and key alone",
        )

    def test_another_thread_reads_it(self, subject: Subject) -> None:
        """A thread other than the one that built the source can read it, as a thread that reads ahead does."""
        source = subject.build()
        with ThreadPoolExecutor(1) as pool:
            try:
                found = pool.submit(lambda: joined(batches(source, BATCH))).result()
            except Exception as cause:  # noqa: BLE001 - the source may raise anything on the other thread
                broken(
                    f"{subject.title} promises to be read by a background thread, but reading fails there: "
                    f"{type(cause).__name__}: {str(cause).rstrip('.')}. {_OWN_CONNECTION}"
                )
        subject.require_served(0, found, "another thread", _OWN_CONNECTION)

    def test_a_pipeline_s_loop_serves_its_order(self, subject: Subject) -> None:
        """``for batch in pipeline`` serves the order of the source."""
        pipeline = _pipeline(subject, num_epochs=1)
        wanted, found = min(subject.num_compared, subject.length or subject.num_compared), []
        for batch in pipeline:
            found.append(batch)
            if sum(map(rows_of, found)) >= wanted:
                break
        served = joined(found)
        if subject.num_compared == subject.wanted:  # else the stream has ended, and more records are too many
            served = part(served, slice(wanted))
        subject.require_served(0, served, "a loop over a pipeline", _remedy(subject))

    def test_a_pipeline_s_steps_serve_its_order(self, subject: Subject) -> None:
        """``pipeline.step()`` serves the order of the source."""
        pipeline = _pipeline(subject)
        found = joined(pipeline.step() for _ in range(_full_batches(subject)))
        subject.require_served(0, found, "pipeline.step()", _remedy(subject))

    def test_compiled_steps_serve_its_order(self, subject: Subject) -> None:
        """``pipeline.step()`` under ``nnx.jit`` serves the order of the source."""
        pipeline = _compiled(subject)
        step = nnx.jit(lambda pipeline: pipeline.step())
        with _may_refuse_by_name(subject):
            found = joined(step(pipeline) for _ in range(_full_batches(subject)))
        subject.require_served(0, found, "pipeline.step() under nnx.jit", _TRACED)

    def test_get_batch_at_can_be_compiled(self, subject: Subject) -> None:
        """``get_batch_at`` under ``jax.jit``, with ``start`` and ``key`` traced, serves the order of the source."""
        source = _compiled(subject).source
        jitted = jax.jit(lambda start, key: source.get_batch_at(start, _ODD, key))
        for start in range(1, subject.num_compared - _ODD, BATCH + 2):
            with _may_refuse_by_name(subject):
                found = jitted(start, source.order_key_data())
            subject.require_served(start, found, "get_batch_at() under jax.jit", _TRACED)

    def test_a_scan_serves_its_order(self, subject: Subject) -> None:
        """``pipeline.scan(...)`` serves the order of the source."""
        pipeline = _compiled(subject)
        steps = _full_batches(subject)
        with _may_refuse_by_name(subject):
            found = pipeline.scan(_batch, length=steps)
        flat = jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), found)
        subject.require_served(0, flat, "pipeline.scan()", _TRACED)


class StreamPromises:
    """Forward-only sources: batches of any size, skipping, and the end."""

    def test_batches_of_any_size_are_the_same_records(self, subject: Subject) -> None:
        """``get_batch(size)`` serves the same records in batches of any size."""
        subject.require_stream()
        for size in _SIZES:
            found = joined(batches(subject.build(), subject.num_compared, size))
            by = f"repeated get_batch({size})"
            subject.require_served(
                0, found, by, "Yield each record in arrays of its own, and keep those that were read and not served"
            )
            require(
                rows_of(found) == subject.num_compared,
                f"{subject.title} promises the same records in batches of any size, but has {rows_of(found)} records in "
                f"batches of {size}, and {subject.num_compared} in a single batch; end only after the last record",
            )

    def test_skipping_is_reading(self, subject: Subject) -> None:
        """The record after ``skip(count)`` is the one after a batch of ``count`` records."""
        subject.require_stream()
        source, few = subject.build(), subject.few
        skipped = [_SIZES[1], BATCH] if subject.num_compared > 2 * BATCH else [few]
        for count in skipped:
            source.skip(count)
        at = sum(skipped)
        subject.require_served(
            at,
            source.get_batch(min(_SIZES[1], few)),
            f"the stream, after skip() of {at} records,",
            "Skip exactly ``count`` records",
        )

    def test_the_end_is_the_end(self, subject: Subject) -> None:
        """A stream with a length continues with the next epoch; one without may end, and has then ended until ``reset()``."""
        subject.require_stream()
        has_ended = subject.num_compared < subject.wanted
        if subject.length is not None:
            require(
                not has_ended,
                f"{subject.title} has {subject.length} records in an epoch by len(), and promises to continue with the next "
                f"epoch, but ended after {subject.num_compared} records; continue, or define no __len__",
            )
        if not has_ended:
            return
        source = subject.build()
        for _ in batches(source, subject.wanted):
            pass
        try:
            more = source.get_batch(1)
        except StopIteration:
            return
        broken(
            f"{subject.title} ended after {subject.num_compared} records, and promises no more until reset(), but then served "
            f"{rows_of(more)} more; raise StopIteration again"
        )

    def test_a_shuffled_stream_has_another_order_in_each_epoch(self, subject: Subject) -> None:
        """The second epoch of a shuffled stream with a length begins with other records than the first."""
        subject.require_stream()
        subject.require_shuffled()
        length = subject.length or subject.wanted
        head = min(length, subject.num_compared - length)
        if length < 8 or head < 8:
            not_claimed(f"{subject.title} has too few records, or too many, to compare two epochs")
        text = subject.difference(part(subject.served, slice(head)), part(subject.served, slice(length, length + head)))
        require(
            text,
            f"{subject.title} promises a new order in each epoch, but its second epoch begins with the same {head} records as "
            "the first; draw the order of an epoch from order_key_data() and the number of the epoch, as `Order` does",
        )

    def test_epochs_of_a_stream_without_a_length_go_on(self, subject: Subject) -> None:
        """A pipeline over a stream without a length serves epoch after epoch, as loops over the stream do."""
        subject.require_stream()
        if subject.length is not None or subject.num_compared == subject.wanted:
            not_claimed(f"{subject.title} has a length, or no end")
        if not subject.has_loops or not subject.can_restart:
            not_claimed(f"{subject.title} is a stream without loops, or one that cannot start over")
        source = subject.build()
        epochs = [list(source) for _ in range(2)]
        if not epochs[1]:
            not_claimed(f"{subject.title} has a single epoch")
        expected = subject.batch_of([record for epoch in epochs for record in epoch])
        text = difference(expected, joined(_pipeline(subject, num_epochs=2)))
        require(
            not text,
            f"{subject.title} promises a pipeline with num_epochs=2 the records of two loops, but: {text}. Let reset() and the "
            "end of an epoch leave the stream at the start of the next, as StreamingSourceBase does",
        )


def _remedy(subject: Subject) -> str:
    if subject.source.access == "device":
        return "get_records() is compiled there, as traceable = True says: return for traced indices what it returns for others"
    return _REMEDY


def _batch(batch: Any) -> Any:
    return batch


def _pipeline(subject: Subject, **options: Any) -> Pipeline:
    options = {"num_epochs": None, **options}
    return Pipeline(source=subject.build(), batch_size=subject.batch_size, rngs=nnx.Rngs(0), **options)


def _full_batches(subject: Subject) -> int:
    """Return a number of full batches whose records are known; skip the test if a stream ends before the first is full."""
    sizes = subject.source.batch_sizes
    if subject.num_compared < BATCH:
        not_claimed(f"{subject.title} ends before a batch of {BATCH} is full")
    if sizes is None:
        return max(1, subject.num_compared // BATCH)
    return max(1, sizes.batches_before(subject.num_compared) - 1)


def _compiled(subject: Subject) -> Pipeline:
    """Return a pipeline for compiled code; skip the test if the source is a stream or has host fields."""
    subject.require_indexed()
    if subject.records > DEVICE_LIMIT:
        not_claimed(f"{subject.title} has more records than the {DEVICE_LIMIT} that compiled code can address")
    if subject.host_fields:
        _require_refusal(subject)
    return _pipeline(subject)


@contextmanager
def _may_refuse_by_name(subject: Subject) -> Iterator[None]:
    """Skip the test if the source decides its batches, which may differ, and compiled code refuses it by name."""
    try:
        yield
    except (SpecError, NotImplementedError) as refusal:
        if subject.source.batch_sizes is None:
            raise
        require(
            subject.title in str(refusal),
            f"{subject.title} decides its batches, and compiled code refuses it without its name: {refusal}. Name the source",
        )
        not_claimed(f"{subject.title} decides its batches, and compiled code refuses it by name")


def _require_refusal(subject: Subject) -> NoReturn:
    """Fail unless compiled code refuses the host fields by name; else skip the test."""
    try:
        _pipeline(subject).scan(_batch, length=1)
    except SpecError as refusal:
        require(
            all(name in str(refusal) for name in subject.host_fields),
            f"{subject.title} has the host fields {', '.join(subject.host_fields)}, which no device has, but the error of "
            f"compiled code does not name them: {refusal}. Leave fetch_traced() to the base class",
        )
        not_claimed(f"{subject.title} has host fields, which no device has, and compiled code refuses them by name")
    broken(
        f"{subject.title} has the host fields {', '.join(subject.host_fields)}, which no device has, but compiled code takes "
        "them; leave fetch_traced() to the base class"
    )
