"""The proof for views: one stream of the right records, however views are nested, read, stopped and resumed.

Hypothesis draws views nested up to three deep, and processes that follow one another, each restored from the state that the
one before left. ``DATARAX_PROOF_EXAMPLES=1000`` draws that many cases, other ones every time. `test_views_on_processes.py`
holds several processes at once against one another.
"""

import json
import os
from itertools import islice
from typing import Any

import jax
import numpy as np
from flax import nnx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nested_views import BOUNDS, Nested, nested_views

from datarax_core import Pipeline

EXAMPLES = int(os.environ.get("DATARAX_PROOF_EXAMPLES", "0"))
SIZE, EPOCHS = 5, 3


class Bits:
    """A compiled stage with a key for each record."""

    stochastic = True

    def __call__(self, batch: Any, keys: Any) -> Any:
        return {**batch, "bits": jax.vmap(lambda key: jax.random.bits(key, (), np.uint32))(keys)}


BITS = Bits()
CASES = st.tuples(st.integers(0, 2**31), st.integers(1, 3), st.booleans())
STOPS = st.lists(
    st.tuples(st.sampled_from(["loop", "step", "scan", "seek"]), st.integers(1, 3)), min_size=1, max_size=4
)


def pipeline(nested: Nested) -> Pipeline:
    size = None if "bucket" in nested.made else SIZE
    return Pipeline(source=nested.source, stages=[BITS], batch_size=size, num_epochs=EPOCHS, rngs=nnx.Rngs(0))


def hold_records(nested: Nested, indices: np.ndarray, batch: Any) -> None:
    """Compare a batch with the records that plain Python made."""
    records = [nested.records[index] for index in indices]
    for name in nested.source.element_spec():
        column = batch[name]
        if name == "mask":
            assert np.asarray(column).sum(axis=1).tolist() == [len(record["tokens"]) for record in records]
            continue
        for row, record in enumerate(records):
            found, wanted = np.asarray(column[row]), np.asarray(record[name])
            if "bucket" in nested.made and name == "tokens":
                assert found.shape[0] in BOUNDS
                assert not found[len(wanted) :].any()
                found = found[: len(wanted)]
            np.testing.assert_array_equal(found, wanted, err_msg=f"{name} of {nested.made}")


def served(source: Any, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    indices = np.asarray(source.record_indices_at(start, count, source.order_key_data()))
    return indices, np.asarray(source.epochs_at(start, count))


@settings(max_examples=EXAMPLES or 25, deadline=None, derandomize=not EXAMPLES, print_blob=True)
@given(case=CASES, stops=STOPS)
@example(case=(1, 3, True), stops=[("loop", 2), ("step", 1), ("loop", 3)])
@example(case=(2, 3, False), stops=[("scan", 2), ("loop", 2), ("seek", 1), ("step", 1)])
def test_one_stream(case: tuple[int, int, bool], stops: list[tuple[str, int]]) -> None:
    seed, depth, bucketed = case
    nested = nested_views(seed, depth, bucketed=bucketed)
    hold_order(nested, seed)
    whole, position = list(pipeline(nested)), 0
    for batch in whole:
        indices, _ = served(nested.source, position, len(batch["bits"]))
        hold_records(nested, indices, batch)
        position += len(indices)
    assert position == nested.source.epoch_length * EPOCHS
    position = at = 0
    state = None
    for route, count in stops:
        if at + count >= len(whole):
            break
        one = pipeline(nested_views(seed, depth, bucketed=bucketed))
        if state is not None:
            one.set_state(json.loads(state))
        for batch in taken(one, route, count, position):
            hold_equal(batch, whole[at], nested.made)
            position += len(batch["bits"])
            at += 1
        assert one.cursor.position == position
        state = json.dumps(one.get_state())


def hold_order(nested: Nested, seed: int) -> None:
    """Hold records by index against plain Python's, and the order against the promises of every order."""
    source, length = nested.source, nested.source.epoch_length
    indices = np.arange(source.num_records)
    assert len(indices) == len(nested.records), nested.made
    rows = np.random.default_rng(seed).permutation(indices)[:7]
    hold_records(nested, rows, source.fetch(rows))
    order, epochs = served(source, 0, length * EPOCHS)
    assert len(set(zip(order.tolist(), epochs.tolist(), strict=True))) == length * EPOCHS, nested.made
    if source.serves_each_once or "bucket" in nested.made:
        for epoch in range(EPOCHS):
            assert sorted(order[epoch * length : (epoch + 1) * length]) == indices.tolist(), nested.made
    np.testing.assert_array_equal(served(source, length // 2, length)[0], order[length // 2 :][:length])


def taken(one: Pipeline, route: str, count: int, position: int) -> list[Any]:
    """Return the next batches by a route: scan where it can read the source, else a loop."""
    has_one_shape = "bucket" not in repr(one.source).lower()
    if route == "scan" and has_one_shape and not any(None in leaf.shape for leaf in one.source.element_spec().values()):
        stacked = one.scan(lambda batch: batch, length=count)
        return [jax.tree.map(lambda leaf, row=row: leaf[row], stacked) for row in range(count)]
    if route == "seek":
        one.seek(position=position)
    if route in ("seek", "step"):
        return [one.step() for _ in range(count)]
    return list(islice(one, count))


def hold_equal(batch: Any, wanted: Any, made: str) -> None:
    for name, column in wanted.items():
        for mine, theirs in zip(batch[name], column, strict=True):
            np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs), err_msg=f"{name} {made}")
