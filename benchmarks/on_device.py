"""What an accelerator gets: loop, scan, step, transfer, decoding beside training, a mesh, memory; ratios against its own rates.

Run there: ``python benchmarks/on_device.py > benchmarks/results/DATE-KIND.md``. It ends within eight minutes, and begins no
part that would not. ``--small`` takes sizes for a CPU. The references are the device's own: ``jnp.take`` in a compiled
function, whose indices it is given, and ``jax.device_put``; pipelines compute the order besides.
"""

import argparse
import gc
import os
import platform
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _measure import LEAST, Row, against, cost, report, row, seconds
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from datarax_core import DataSourceModule, Pipeline, SourceConfig, aligned_empty
from datarax_memory import MemorySource, MemorySourceConfig

LIMIT = 8 * 60
"""Seconds after which no part begins."""

STEP = 5e-3
"""Seconds of a training step."""


@dataclass(frozen=True)
class Sizes:
    """Records on the device, records and bytes of a batch, batches of a call, bytes of a batch from the host."""

    records: int
    width: int
    batch: int
    batches: int
    transferred: int


LARGE = Sizes(records=500_000, width=3072, batch=256, batches=400, transferred=64 * 2**20)
SMALL = Sizes(records=20_000, width=3072, batch=256, batches=40, transferred=4 * 2**20)


# -- gathers from the device's memory ---------------------------------------------------------------------------------------


def gathers(sizes: Sizes) -> Iterator[Row]:
    """Yield loop, step, a mesh of one device, and scan, against the device's own gather of the same rows."""
    data = np.random.default_rng(0).integers(0, 255, (sizes.records, sizes.width), np.uint8)
    held = jax.device_put(data)
    order = jax.device_put(np.random.default_rng(1).permutation(sizes.records).astype(np.int32))
    take = jax.jit(
        lambda held, order, start: jnp.take(held, jax.lax.dynamic_slice(order, (start,), (sizes.batch,)), axis=0)
    )
    starts = [number * sizes.batch % (sizes.records - sizes.batch) for number in range(sizes.batches)]
    served = sizes.batch * sizes.batches

    def own_gather() -> None:
        jax.block_until_ready(deque((take(held, order, start) for start in starts), maxlen=1))

    source = _memory(data)
    loop = _served(source, sizes)
    yield against(own_gather, loop, records=served, what="loop, shuffled: jit(take)", target=0.9)
    pipeline = Pipeline(source=source, batch_size=sizes.batch)

    def steps() -> None:
        jax.block_until_ready(deque((pipeline.step() for _ in range(sizes.batches)), maxlen=1))

    yield against(own_gather, steps, records=served, what="step(), shuffled: jit(take)", target=0.9)
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    sharded = _served(source, sizes, sharding=NamedSharding(mesh, PartitionSpec("data")))
    yield against(loop, sharded, records=served, what="loop over a mesh of one device: without it", target=0.95)
    whole = jnp.asarray(starts, jnp.int32)

    @jax.jit
    def own_scan(held: jax.Array, order: jax.Array) -> jax.Array:
        def one(total: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
            rows = jax.lax.dynamic_slice(order, (start,), (sizes.batch,))
            return total + held[rows].astype(jnp.int32).sum(), None

        return jax.lax.scan(one, jnp.zeros((), jnp.int32), whole)[0]

    def scan() -> None:
        jax.block_until_ready(pipeline.scan(_total, length=sizes.batches))

    what = "scan, each batch reduced: lax.scan over a held permutation"
    yield against(lambda: jax.block_until_ready(own_scan(held, order)), scan, records=served, what=what, target=0.9)


def _total(batch: dict[str, jax.Array]) -> jax.Array:
    return batch["x"].astype(jnp.int32).sum()


def _memory(data: np.ndarray) -> MemorySource:
    return MemorySource(MemorySourceConfig(shuffle=True, placement="device"), {"x": data}, rngs=nnx.Rngs(0))


def _served(source: DataSourceModule, sizes: Sizes, **options: Any) -> Callable[[], None]:
    batches = iter(Pipeline(source=source, batch_size=sizes.batch, num_epochs=None, **options))

    def run() -> None:
        jax.block_until_ready(deque((next(batches) for _ in range(sizes.batches)), maxlen=1))

    return run


# -- batches from the host --------------------------------------------------------------------------------------------------


class Made(DataSourceModule):
    """Source of one batch on the host, which it has already, and for which it takes ``work`` seconds of a core."""

    def __init__(self, batch: int, width: int, work: float = 0.0) -> None:
        super().__init__(SourceConfig(type="made"))
        self.batch, self.width, self.work = batch, width, work
        held = _filled(batch, width)
        self.held = lambda: held  # no variable of the module

    def __len__(self) -> int:
        return self.batch * 1000

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the spec of a record."""
        return {"x": jax.ShapeDtypeStruct((self.width,), np.dtype(np.uint8))}

    def get_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the batch, after some work that holds no lock."""
        until = time.perf_counter() + self.work
        while time.perf_counter() < until:
            np.sort(self.held()[0])
        return {"x": self.held()[: len(indices)]}


def _filled(batch: int, width: int) -> np.ndarray:
    records = aligned_empty((batch, width), np.uint8)
    records[:] = np.arange(width) & 255
    return records


def transfers(sizes: Sizes) -> Iterator[Row]:
    """Yield the rates of ``device_put``, and what of a transfer, and of decoding, a training step hides."""
    width = max(sizes.transferred // 64, 1)
    batch = _filled(64, width)
    calls, put = 10, lambda: jax.block_until_ready(jax.device_put(batch))
    if (pinned := _pinned(batch)) is not None:
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0], memory_kind="device")
        copied = lambda: jax.block_until_ready(jax.device_put(pinned, place))  # noqa: E731 - it is timed
        yield against(
            _often(put, calls), _often(copied, calls), records=64 * calls, what="pinned memory: device_put", target=1
        )
    source = Made(64, width)
    each = _often(lambda: jax.block_until_ready(jax.device_put(source.get_records(np.arange(64)))), calls)
    loop = _loop(Pipeline(source=source, batch_size=64, num_epochs=None), calls)
    yield against(each, loop, records=64 * calls, what="loop over host batches: device_put of each", target=1)
    train = _training(STEP)
    batch_on_device = jax.device_put(batch)
    alone = _often(lambda: train(batch_on_device), calls)
    size = f"{sizes.transferred / 1e6:.3g} MB"
    trained = _loop(Pipeline(source=source, batch_size=64, num_epochs=None), calls, train)
    what = f"a step of {STEP * 1e3:g} ms over host batches of {size}: the step alone"
    yield cost(alone, trained, what=what, target=1.1, calls=calls)
    decoded = Made(64, max(width // 16, 1), work=0.8 * STEP)
    trained = _loop(Pipeline(source=decoded, batch_size=64, num_epochs=None), calls, train)
    what = f"a step of {STEP * 1e3:g} ms beside decoding of {0.8 * STEP * 1e3:g} ms: the step alone"
    yield cost(alone, trained, what=what, target=1.15, calls=calls)


def _pinned(batch: np.ndarray) -> jax.Array | None:
    """Return the batch in page-locked memory of the host; None if the device has none."""
    device = jax.devices()[0]
    kinds = {memory.kind for memory in device.addressable_memories()}
    if device.platform == "cpu" or "pinned_host" not in kinds:
        return None
    return jax.device_put(batch, jax.sharding.SingleDeviceSharding(device, memory_kind="pinned_host"))


def _often(work: Callable[[], object], calls: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(calls):
            work()

    return run


def _loop(pipeline: Pipeline, calls: int, train: Callable[[Any], object] | None = None) -> Callable[[], None]:
    """Return a function that takes batches, and trains on each until the device is done."""
    batches = iter(pipeline)

    def run() -> None:
        for _ in range(calls):
            batch = next(batches)["x"]
            jax.block_until_ready(batch) if train is None else train(batch)

    return run


def _training(length: float) -> Callable[[Any], object]:
    """Return a step over a batch that keeps the device busy for so many seconds, and is waited for."""
    weights = jnp.full((256, 256), 1e-3, jnp.float32)

    @jax.jit
    def step(batch: jax.Array, weights: jax.Array, rounds: jax.Array) -> jax.Array:
        start = weights + batch[0, 0].astype(jnp.float32)
        return jax.lax.fori_loop(0, rounds, lambda _, x: jnp.tanh(x @ weights), start).sum()

    probe = jnp.zeros((1, 1), jnp.uint8)

    def taken(rounds: int) -> float:
        run = lambda: jax.block_until_ready(step(probe, weights, rounds))  # noqa: E731 - it is timed
        run()
        return statistics.median(seconds(run) for _ in range(5))

    rounds = 16
    while taken(rounds) < length and rounds < 2**20:
        rounds *= 2
    rounds = max(1, round(rounds * length / taken(rounds)))
    return lambda batch: jax.block_until_ready(step(batch, weights, rounds))


# -- memory -----------------------------------------------------------------------------------------------------------------


def memory(sizes: Sizes) -> Iterator[Row]:
    """Yield the memory of the device: the data once, and nothing more after loops, steps, scans and a second pipeline."""
    data = np.zeros((sizes.records, sizes.width), np.uint8)
    before = _in_use()
    source = _memory(data)
    pipeline = Pipeline(source=source, batch_size=sizes.batch)
    pipeline.step()
    placed = _in_use() - before
    used = [placed]
    for _ in range(3):
        _served(source, sizes)()
        pipeline.scan(_total, length=4)
        deque((pipeline.step() for _ in range(4)), maxlen=0)
        used.append(_in_use() - before)
    text = f"data {data.nbytes / 2**20:.4g} MiB"
    yield Row("device memory: the data once", text, f"{placed / 2**20:.4g} MiB", placed / data.nbytes, 1.05, "at most")
    growth = [after / placed for after in used[1:]]
    yield row(
        "device memory after loops, scans, steps: before",
        growth,
        1.05,
        "at most",
        (text, f"{used[-1] / 2**20:.4g} MiB"),
    )


def _in_use() -> float:
    """Return the bytes in use on the device, or those of all arrays where it does not tell: once, if several share memory."""
    gc.collect()  # of what was measured before
    statistics_of = jax.devices()[0].memory_stats()
    if statistics_of and "bytes_in_use" in statistics_of:
        return float(statistics_of["bytes_in_use"])
    return float(sum({array.unsafe_buffer_pointer(): array.nbytes for array in jax.live_arrays()}.values()))


def rates(sizes: Sizes) -> list[str]:
    """Return sentences about the device's own rates, of which the ratios are."""
    batch = aligned_empty((max(sizes.transferred, 1),), np.uint8)
    batch[:] = 1
    put = lambda: jax.block_until_ready(jax.device_put(batch))  # noqa: E731 - it is timed
    held = jax.device_put(np.zeros((sizes.records, sizes.width), np.uint8))
    rows = jax.device_put(
        np.random.default_rng(0).permutation(sizes.records)[: min(65_536, sizes.records)].astype(np.int32)
    )
    take = jax.jit(lambda held, rows: jnp.take(held, rows, axis=0))
    gather = lambda: jax.block_until_ready(take(held, rows))  # noqa: E731 - it is timed
    put(), gather()
    copied, gathered = (statistics.median(seconds(work) for _ in range(LEAST)) for work in (put, gather))
    return [
        f"`device_put` of {batch.nbytes / 1e6:.3g} MB: {batch.nbytes / copied / 1e9:.3g} GB/s",
        f"`jnp.take` of {len(rows):,} rows of {sizes.width:,} bytes: {len(rows) * sizes.width / gathered / 1e9:.3g} GB/s",
    ]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Print machine, rates and rows as Markdown, and return the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    sizes = SMALL if parser.parse_args(arguments).small else LARGE
    began = time.monotonic()
    device = jax.devices()[0]
    print(f"# {datetime.now(UTC):%Y-%m-%d}, {device.device_kind}: on the device\n")
    versions = f"Python {platform.python_version()}, jax {jax.__version__} on {device.platform}, numpy {np.__version__}"
    print(
        f"{versions}, {os.cpu_count()} cores. `python benchmarks/on_device.py{' --small' if sizes is SMALL else ''}`.\n"
    )
    print(*(f"- {rate}" for rate in rates(sizes)), sep="\n", flush=True)
    found: list[Row] = []
    for part in (gathers, transfers, memory):
        if time.monotonic() - began > LIMIT / 2:  # a part takes at most half of the time
            print(f"\n{part.__name__}: left out, the time is over")
            continue
        rows = list(part(sizes))
        report(part.__name__, rows, markdown=True)
        found += rows
    print(f"\n{time.monotonic() - began:.0f} seconds.")
    return found


if __name__ == "__main__":
    main()
