"""The proof: the stream of global batches is the same for the same config and seed, however it is served and stopped.

Hypothesis draws a config, and processes that follow one another, each restored from the state that the one before left
between two batches, each with another source on the same records, another prefetch depth, other threads and other routes.
What they serve together is held against `reference`. ``make proof EXAMPLES=5000`` draws that many cases, other ones every
time.
"""

import functools
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datarax_core import Order, Pipeline, columns_of
from datarax_core.pipeline import loop
from datarax_core.testing.sources.places import Place

EXAMPLES = int(os.environ.get("DATARAX_PROOF_EXAMPLES", "0"))
LENGTHS, EPOCHS = [10, 300], [1, 2, None]  # few: cases share programs; 300 is past the sorted orders
SIZES = [1, 4, 32, ((0, 4), (7, 1)), ((0, 32), (100, 4), (350, 32)), ((0, 1), (12, 4))]
MASK = "valid"

Batch = Any
MakeSource = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """The config and the seed: they decide the stream."""

    family: str
    length: int
    size: int | tuple[tuple[int, int], ...]  # or a schedule: pairs of position and size
    epochs: int | None = 1
    last: str = "short"  # or "drop", "pad"
    shuffle: bool = True
    seed: int = 0
    shard: tuple[int, int] = (0, 1)

    @property
    def epoch_length(self) -> int:
        return len(range(self.shard[0], self.length, self.shard[1]))

    @property
    def largest(self) -> int:
        return self.size if isinstance(self.size, int) else max(size for _, size in self.size)

    def size_at(self, position: int) -> int:
        if isinstance(self.size, int):
            return self.size
        return [size for begins, size in self.size if begins <= position][-1]


@dataclass(frozen=True)
class Host:
    """One process of a run, up to the batch at which it is stopped: nothing in it may change the stream."""

    routes: tuple[str, ...]
    access: str = "host"
    prefetch: int | Literal["auto"] = 2
    threads: int | Literal["auto"] = "auto"
    workers: int = 0
    is_slow: bool = True  # reading, so that it is worth a thread


# -- the reference ------------------------------------------------------------------------------------------------------


def reference(case: Case, ends_with_run: list[bool]) -> Iterator[tuple[int, int]]:
    """Yield (position, records) of each batch: epochs one after another, cut; loops end with their run, other routes go on."""
    run, place = None if case.epochs is None else case.epochs * case.epoch_length, Place()
    for is_loop in ends_with_run:
        left = place.left(run) if is_loop else None
        if left is not None and left < (case.size_at(place.position) if case.last == "drop" else 1):
            place = place.in_next_loop(case.epoch_length, is_over=True)
            left = run
        size = case.size_at(place.position)
        records = size if left is None else min(size, left)
        yield place.position, records
        place = place.after(records)


class Expected:
    """The expected values at a position: the record after the stages, with a key folded by hand."""

    def __init__(self, case: Case, key_data: Any) -> None:
        self._case, self._key_data = case, key_data
        self._stage_key_data = jax.random.bits(nnx.Rngs(case.seed).stages(), (2,), np.uint32)
        self.epoch = functools.cache(self._epoch)

    def _epoch(self, epoch: int) -> list[int]:
        whole = Order(self._case.length).record_indices(epoch * self._case.length, self._case.length, self._key_data)
        assert sorted(whole.tolist()) == list(range(self._case.length))
        shard, num_shards = self._case.shard
        return whole.tolist()[shard::num_shards]

    def batch(self, position: int, records: int) -> dict[str, list[Any]]:
        places = [divmod(at, self._case.epoch_length) for at in range(position, position + records)]
        rows = [(epoch, self.epoch(epoch)[row]) for epoch, row in places]
        found = {
            "id": [record for _, record in rows],
            "x": [[record * 1.0, record * 2.0 + 2.0] for _, record in rows],
            "bits": [int(bits_by_hand(self._stage_key_data, epoch, record)) for epoch, record in rows],
        }
        if self._case.last != "pad":
            return found
        return {**found, MASK: [row < records for row in range(self._case.size_at(position))]}


@jax.jit
def bits_by_hand(key_data: jax.Array, epoch: int, record: int) -> jax.Array:
    stage = 1
    key = jax.random.wrap_key_data(key_data)
    for number in (stage, epoch, record):
        key = jax.random.fold_in(key, number)
    return jax.random.bits(key, (), np.uint32)


# -- the pipelines under test -------------------------------------------------------------------------------------------


def doubled(batch: Batch) -> Batch:
    return {**batch, "x": batch["x"] * 2}


class Bits(nnx.Module):
    """A stage with a key for each record."""

    stochastic = True

    def __call__(self, batch: Batch, keys: jax.Array) -> Batch:
        return {**batch, "bits": jax.vmap(lambda key: jax.random.bits(key, (), np.uint32))(keys)}


STAGES = doubled, Bits()


@dataclass
class Serving:
    """A pipeline, and the loop over it that is open, if there is one."""

    pipeline: Pipeline
    loop: Any = field(default=None)


@dataclass(frozen=True)
class Route:
    """A way to take batches. Only a loop ends with its run."""

    take: Callable[[Serving], list[Batch]]
    batches: int = 1
    is_loop: bool = False
    compiles_anew: tuple[str, ...] = ()  # for each new pipeline over a source with one of these accesses


def from_loop(serving: Serving) -> list[Batch]:
    """Return the next batch of the open loop, or of a new loop after it."""
    for _ in range(2):
        serving.loop = serving.loop or iter(serving.pipeline)
        for batch in serving.loop:
            return [batch]
        serving.loop = None
    raise AssertionError("a run without a batch")


def everything(batch: Batch) -> Batch:
    return batch


def from_scan(serving: Serving, length: int = 2) -> list[Batch]:
    stacked = jax.tree.map(np.asarray, serving.pipeline.scan(everything, length=length))
    return [jax.tree.map(lambda leaf, step=step: leaf[step], stacked) for step in range(length)]


step_under_jit = nnx.jit(lambda pipeline: pipeline.step())

ROUTES = {
    "loop": Route(from_loop, is_loop=True),
    "step": Route(lambda serving: [serving.pipeline.step()]),
    "scan": Route(from_scan, batches=2),
    "scan of one": Route(lambda serving: from_scan(serving, 1)),
    "step under jit": Route(lambda serving: [step_under_jit(serving.pipeline)], compiles_anew=("host", "device")),
}

COLUMNS = {
    length: columns_of(
        {"id": (ids := np.arange(length, dtype=np.int32)), "x": np.stack([ids * 0.5, ids + 1.0], 1).astype(np.float32)},
        "the proof's data",
    )
    for length in LENGTHS
}
FAMILIES = {"eager": ("device", "host"), "third party's host": ("host",), "third party's device": ("device",)}
"""Sources of each way of access, and the routes by which each serves one stream."""


def make_served(case: Case, host: Host, make: dict[str, MakeSource]) -> Serving:
    options: dict[str, Any] = {"shuffle": case.shuffle, "seed": case.seed}
    if case.family == "eager":
        source = make["eager"](COLUMNS[case.length], placement=host.access, shard=case.shard, **options)
    else:
        source = make[case.family](case.length, **options)
    return Serving(
        Pipeline(
            source=source,
            stages=STAGES,
            batch_size=case.size,
            rngs=nnx.Rngs(case.seed),
            num_epochs=case.epochs,
            drop_last=case.last == "drop",
            pad_last=MASK if case.last == "pad" else None,
            prefetch=host.prefetch,
            threads=host.threads,
            workers=host.workers,
        )
    )


# -- the proof ----------------------------------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> Case:
    family = draw(st.sampled_from(list(FAMILIES)))
    shards = [(0, 1), (0, 3), (2, 3)] if family == "eager" else [(0, 1)]
    case = Case(
        family=family,
        length=draw(st.sampled_from(LENGTHS)),
        size=draw(st.sampled_from(SIZES)),
        epochs=draw(st.sampled_from(EPOCHS)),
        last=draw(st.sampled_from(["short", "drop", "pad"])),
        shuffle=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
        shard=draw(st.sampled_from(shards)),
    )
    has_no_batch = case.last == "drop" and case.epochs is not None and case.epochs * case.epoch_length < case.largest
    return replace(case, last="short") if has_no_batch else case


@st.composite
def runs(draw: st.DrawFn, case: Case) -> list[Host]:
    """Draw the processes of a run. Routes that compile, and workers, take seconds: they are drawn rarely."""
    may_compile, may_start_workers, hosts = draw(st.integers(0, 7)) == 5, draw(st.integers(0, 15)) == 5, []
    for _ in range(draw(st.integers(1, 4))):
        access = draw(st.sampled_from(FAMILIES[case.family]))
        served = (
            ROUTES if isinstance(case.size, int) else ("loop", "step", "scan of one")
        )  # compiled code has one shape
        routes = [name for name in served if may_compile or access not in ROUTES[name].compiles_anew]
        hosts.append(
            Host(
                routes=tuple(draw(st.lists(st.sampled_from(routes), min_size=1, max_size=6))),
                access=access,
                prefetch=draw(st.sampled_from([0, 1, 2, 5, "auto"])),
                threads=draw(st.sampled_from(["auto", 1, 3] if access == "host" else ["auto", 1])),
                workers=draw(st.sampled_from([0, 1, 2] if access == "host" and may_start_workers else [0])),
                is_slow=draw(st.booleans()),
            )
        )
    return hosts


ALL = ("loop", "step", "scan", "step under jit", "loop", "step under jit", "scan", "step", "loop")
DRAWN = cases().flatmap(lambda case: st.tuples(st.just(case), runs(case)))


@settings(max_examples=EXAMPLES or 60, deadline=None, derandomize=not EXAMPLES, print_blob=True)
@given(drawn=DRAWN)
@example(drawn=(Case("eager", 10, 4, epochs=3, last="pad", shard=(2, 3)), [Host(ALL, "device")]))
@example(drawn=(Case("third party's host", 300, 32, epochs=None), [Host(ALL)]))
@example(
    drawn=(Case("eager", 300, 32, epochs=2, last="pad"), [Host(("loop", "step"), workers=2), Host(("loop",), "device")])
)
@example(drawn=(Case("third party's device", 10, 4, epochs=2, last="drop"), [Host(ALL, "device")]))
@example(drawn=(Case("eager", 300, SIZES[4], epochs=2, last="pad"), [Host(("loop", "step", "scan of one") * 4)] * 2))
def test_the_stream_is_a_pure_function_of_config_seed_and_position(
    make_source: MakeSource,
    make_host_source: MakeSource,
    make_device_source: MakeSource,
    drawn: tuple[Case, list[Host]],
) -> None:
    make = {"eager": make_source, "third party's host": make_host_source, "third party's device": make_device_source}
    case, hosts = drawn
    routes = [ROUTES[name] for host in hosts for name in host.routes]
    batches = reference(case, [route.is_loop for route in routes for _ in range(route.batches)])
    expected, state = None, None
    for host in hosts:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "WORTH_A_THREAD", -1.0 if host.is_slow else math.inf)
            serving = make_served(case, host, make)
            expected = expected or Expected(case, serving.pipeline.source.order_key_data())
            if state is not None:
                serving.pipeline.set_state(json.loads(state))
            for name in host.routes:
                for batch in ROUTES[name].take(serving):
                    position, records = next(batches)
                    hold(batch, expected.batch(position, records), records)
                state = json.dumps(serving.pipeline.get_state())
                assert serving.pipeline.cursor.position == position + records


def hold(batch: Batch, expected: dict[str, list[Any]], records: int) -> None:
    """Compare a batch with the expected values of its ``records`` real records."""
    assert batch.keys() == expected.keys()
    for name, values in expected.items():
        found = np.asarray(batch[name])
        assert len(found) == len(expected.get(MASK, expected["id"])), name
        assert found[: len(values)].tolist() == values, name
    padding = np.asarray(batch["id"])[records:]
    assert padding.tolist() == [expected["id"][-1]] * len(padding)
