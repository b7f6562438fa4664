"""The proof for host stages: one stream, whatever reads, batches, threads, prefetches, routes and stops there are.

Hypothesis draws stages and a config, and processes that follow one another, each restored from the state that the one before
left. What they serve is held against values that are computed record by record. ``DATARAX_PROOF_EXAMPLES=1000`` draws that
many cases, other ones every time.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datarax_core import Pipeline
from datarax_core.pipeline import loop
from datarax_core.stages import Cache
from datarax_memory import MemorySource, MemorySourceConfig

EXAMPLES = int(os.environ.get("DATARAX_PROOF_EXAMPLES", "0"))
LENGTH, EPOCHS = 11, 3
STAGES = ("tokens", "draws", "record", "dense")
"""The host stages of a case, in this order; ``tokens`` and ``dense`` come together."""


@dataclass(frozen=True)
class Case:
    """What decides the stream."""

    stages: tuple[str, ...] = STAGES
    size: int = 4
    seed: int = 0
    shuffle: bool = True
    source: str = "memory"  # or "stream"


@dataclass(frozen=True)
class Host:
    """One process: nothing in it may change the stream."""

    routes: tuple[str, ...] = ("loop",)
    placement: str = "host"
    threads: int = 1
    prefetch: int = 2
    cached: bool = False
    ahead: bool = True
    workers: int = 0


@pytest.fixture(scope="module")
def stages() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "importable")
        yield import_module("host_stages")
        sys.modules.pop("host_stages")


class Bits:
    """A compiled stage behind the host stages, with a key for each record."""

    stochastic = True

    def __call__(self, batch: Any, keys: Any) -> Any:
        return {**batch, "bits": jax.vmap(lambda key: jax.random.bits(key, (), np.uint32))(keys)}


BITS = Bits()


def served_by(case: Case, host: Host, given: Any, streams: Any) -> Pipeline:
    if case.source == "stream":
        source = streams.Sized(LENGTH)
    else:
        config = MemorySourceConfig(shuffle=case.shuffle, placement=host.placement)
        source = MemorySource(config, {"id": np.arange(LENGTH, dtype=np.int32)}, rngs=nnx.Rngs(case.seed))
    makes = {"tokens": given.Tokens, "draws": given.Draws, "record": lambda: given.MARKED, "dense": given.Dense}
    if case.source == "stream":
        makes["draws"] = lambda: given.STREAM_DRAWS
    made = [makes[name]() for name in case.stages]
    if host.cached and case.source == "memory" and case.stages[:1] == ("tokens",):
        made[0] = Cache(made[0], LENGTH)
    return Pipeline(
        source=source,
        stages=[*made, BITS],
        batch_size=case.size,
        rngs=nnx.Rngs(case.seed),
        num_epochs=EPOCHS,
        threads=1 if case.source == "stream" else host.threads,
        prefetch=host.prefetch,
        workers=0 if case.source == "stream" else host.workers,
    )


def reference(case: Case, given: Any, streams: Any) -> dict[str, list[Any]]:
    """Return the values of all records of a run, one after another."""
    one = served_by(case, Host(), given, streams)
    order = [divmod(at, LENGTH) for at in range(LENGTH * EPOCHS)]
    if case.source == "memory":
        served = np.asarray(one.source.record_indices_at(0, LENGTH * EPOCHS, one.source.order_key_data()))
        order = [(at // LENGTH, int(index)) for at, index in enumerate(served)]
    ids = [100 * epoch + index if case.source == "stream" else index for epoch, index in order]
    found: dict[str, list[Any]] = {"id": ids}
    for number, name in enumerate(case.stages):
        if name == "dense":
            found["tokens"] = [given.tokens_by_hand(each) for each in ids]
        elif name in ("draws", "record"):
            draws = [np.float32(given.draw_by_hand(one, number, *place)).item() for place in order]
            if name == "draws":
                found["draws"] = [[draw, 0.0] for draw in draws]
            else:
                found["mark"] = draws
    key_data = np.asarray(one._stage_keys.raw_key_data)
    found["bits"] = [int(bits_by_hand(key_data, len(case.stages), epoch, index)) for epoch, index in order]
    return found


@jax.jit
def bits_by_hand(key_data: Any, stage: Any, epoch: Any, record: Any) -> Any:
    key = jax.random.wrap_key_data(key_data)
    for number in (stage, epoch, record):
        key = jax.random.fold_in(key, number)
    return jax.random.bits(key, (), np.uint32)


traced_step = nnx.jit(lambda pipeline: pipeline.step())


def taken(one: Pipeline, route: str, loops: list[Any]) -> Any:
    """Return the next batch by a route; the loop stays open in ``loops``, as the next one would be another run."""
    if route == "loop":
        loops[:] = loops or [iter(one)]
        return next(loops[0])
    if route == "step":
        return one.step()
    if route == "traced":
        return traced_step(one)
    stacked = one.scan(whole, length=1)
    return jax.tree.map(lambda leaf: leaf[0], stacked)


def whole(batch: Any) -> Any:
    return batch


def hold(batch: Any, expected: dict[str, list[Any]], at: int) -> int:
    count = len(batch["id"])
    for name, values in expected.items():
        column = np.asarray(batch[name])
        found = column[:, :1].tolist() if name == "draws" else column.tolist()
        wanted = values[at : at + count]
        assert found == ([value[:1] for value in wanted] if name == "draws" else wanted), name
    return count


@st.composite
def cases(draw: st.DrawFn) -> Case:
    source = draw(st.sampled_from(["memory", "memory", "stream"]))
    chosen = draw(st.sets(st.sampled_from(["draws", "record", "tokens"]), min_size=1))
    chosen |= {"dense"} if "tokens" in chosen else set()
    return Case(
        stages=tuple(name for name in STAGES if name in chosen),
        size=draw(st.sampled_from([1, 4, 7])),
        seed=draw(st.integers(0, 3)),
        shuffle=draw(st.booleans()),
        source=source,
    )


@st.composite
def hosts(draw: st.DrawFn, source: str) -> list[Host]:
    may_compile = source != "stream" and draw(st.integers(0, 7)) == 5  # a second for each pipeline
    may_start_workers = source != "stream" and draw(st.integers(0, 7)) == 5  # two seconds for each pipeline
    routes = ["loop", "step", *(["traced", "scan"] if may_compile else [])]
    return draw(
        st.lists(
            st.builds(
                Host,
                routes=st.lists(st.sampled_from(routes), min_size=1, max_size=3).map(tuple),
                placement=st.sampled_from(["host", "device"]),
                threads=st.sampled_from([1, 3]),
                prefetch=st.sampled_from([0, 1, 3]),
                cached=st.booleans(),
                ahead=st.booleans(),
                workers=st.sampled_from([0, 1, 2] if may_start_workers else [0]),
            ),
            min_size=1,
            max_size=3,
        )
    )


ALL = Host(("step", "traced", "scan", "loop"), "device", threads=3)
DRAWN = cases().flatmap(lambda case: st.tuples(st.just(case), hosts(case.source)))


@settings(max_examples=EXAMPLES or 15, deadline=None, derandomize=not EXAMPLES, print_blob=True)
@given(drawn=DRAWN)
@example(drawn=(Case(), [ALL, Host(("loop",), cached=True)]))
@example(
    drawn=(Case(), [Host(("loop",), workers=2), Host(("step", "loop"), "device", threads=3, workers=1, cached=True)])
)
@example(drawn=(Case(source="stream"), [Host(("loop", "step")), Host(("loop",), prefetch=0)]))
def test_one_stream(stages: Any, streams: Any, drawn: tuple[Case, list[Host]]) -> None:
    case, following = drawn
    expected = reference(case, stages, streams)
    at, state = 0, None
    for host in following:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "WORTH_A_THREAD", -1.0 if host.ahead else 1.0)
            one = served_by(case, host, stages, streams)
            if state is not None:
                one.set_state(json.loads(state))
            loops: list[Any] = []
            for route in host.routes:
                if at + case.size > LENGTH * EPOCHS:
                    break
                at += hold(taken(one, route, loops), expected, at)
            state = json.dumps(one.get_state())
            one.close()
