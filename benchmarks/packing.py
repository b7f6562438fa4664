"""Packed rows against Grain's best fit: documents of 20 to 4,000 tokens, rows of 2,048, batches of 32; planning of 10^6."""

import statistics
from collections.abc import Iterator
from typing import Any

import grain
import jax
import numpy as np
from _measure import LEAST, Row, limited, medians, paired, row, timed
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, Ragged, StructuralConfig
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_views import PackView, PackViewConfig

LENGTH, BATCH, BINS = 2048, 32, 64
SERVED, PLANNED = 2_000, 1_000_000


def documents(count: int) -> Ragged:
    """Return documents of 20 to 4,000 tokens."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], rng.integers(20, 4001, count).cumsum()])
    return Ragged(rng.integers(1, 50_000, offsets[-1], np.int32), offsets)


def packed(column: Ragged, **options: Any) -> PackView:
    """Return a view of rows of these documents, which has no plan yet."""
    source = MemorySource(MemorySourceConfig(shuffle=True), {"tokens": column}, rngs=nnx.Rngs(0))
    return PackView(PackViewConfig(length=LENGTH, field="tokens", too_long="split", **options), source)


def by_grain(column: Ragged) -> Iterator[dict[str, Any]]:
    """Yield batches of Grain's packing, on the device; documents that are longer than a row are cut before, as ours are."""
    pieces = [record[at : at + LENGTH] for record in column for at in range(0, len(record), LENGTH)]
    read = grain.MapDataset.source([{"tokens": piece} for piece in pieces]).shuffle(seed=0)
    stream = read.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    rows = grain.experimental.BestFitPackIterDataset(stream, length_struct={"tokens": LENGTH}, num_packing_bins=BINS)
    yield from map(jax.device_put, rows.batch(BATCH))


def by_pipeline(view: PackView) -> Iterator[dict[str, Any]]:
    """Yield batches of a pipeline, on the device."""
    yield from Pipeline(source=view, stages=[], batch_size=BATCH, rngs=nnx.Rngs(0))


def served(batches: Iterator[dict[str, Any]], ids: str) -> float:
    """Serve all batches, and return which part of their rows is tokens."""
    filled = [np.count_nonzero(np.asarray(batch[ids])) / batch[ids].size for batch in batches]
    return statistics.fmean(filled[:-1])


def speed(what: str, column: Ragged, target: float, **options: Any) -> Row:
    """Return the row for tokens a second, planning included, as a multiple of Grain's."""
    full: dict[str, float] = {}

    def grain_serves() -> None:
        full["grain"] = served(by_grain(column), "tokens_segment_ids")

    def we_serve() -> None:
        full["ours"] = served(by_pipeline(packed(column, **options)), "segment_ids")

    we_serve()
    pairs = paired(timed(grain_serves), timed(we_serve), LEAST)
    rates = [len(column.values) / 1e6 / taken for taken in medians(pairs)]
    texts = [
        f"{rate:.2f} M tokens/s, {full[name]:.3f} full" for name, rate in zip(("grain", "ours"), rates, strict=True)
    ]
    return row(what, [theirs / ours for theirs, ours in pairs], target, "at least", tuple(texts))


class Lengths(DataSourceModule):
    """Documents of 20 to 4,000 tokens whose lengths are known, and which are never read."""

    def __len__(self) -> int:
        return PLANNED

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the spec of a document."""
        return {"tokens": jax.ShapeDtypeStruct((None,), np.int32)}  # type: ignore[arg-type]  # of varying length

    def get_records(self, indices: np.ndarray) -> dict[str, Ragged]:
        """Return tokens that are all 0."""
        return {"tokens": Ragged.from_list([np.zeros(n, np.int32) for n in self.record_lengths("tokens")[indices]])}

    def record_lengths(self, field: str) -> np.ndarray:  # noqa: ARG002 - there is one
        """Return the lengths."""
        return np.random.default_rng(0).integers(20, 4001, PLANNED)


def planning(what: str, **options: Any) -> list[Row]:
    """Return the rows for the seconds of a plan, and for how full its rows are."""
    config = PackViewConfig(length=LENGTH, field="tokens", too_long="split", **options)
    views = [PackView(config, Lengths(StructuralConfig())) for _ in range(LEAST)]
    waiting = iter(views)  # a view plans once
    seconds = limited(lambda: len(next(waiting)), 3.0, what=f"{what}, of its limit")
    plan = views[0].planned.plan
    full = plan.num_tokens / (plan.num_rows * LENGTH)
    return [
        seconds,
        Row(f"{what}: part of rows that is tokens", "", f"{full:.4f}", ratio=full, target=0.99, bound="at least"),
    ]


def rows() -> list[Row]:
    """Return speed, planning and fullness."""
    column = documents(SERVED)
    return [
        speed(f"{SERVED:,} documents, planned and served", column, 5),
        speed(f"{SERVED:,} documents, packed anew each epoch", column, 3, repack=True),
        *planning(f"plan of {PLANNED:,} documents"),
        *planning(f"plan of {PLANNED:,} documents, packed anew each epoch", repack=True),
    ]
