"""Views against what they are made of: filters of 10^7 records, and served against the source without a filter."""

import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from _measure import Row, against, limited
from flax import nnx

from datarax_core import DataSourceModule, Pipeline
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_views import (
    ConcatView,
    ConcatViewConfig,
    RepeatView,
    RepeatViewConfig,
    SampleView,
    SampleViewConfig,
)

MANY = 10_000_000
RECORDS, BATCH = 50_000, 256


def images() -> dict[str, np.ndarray]:
    """Return images with labels, half of which are even."""
    rng = np.random.default_rng(0)
    return {"image": rng.integers(0, 255, (RECORDS, 32, 32, 3), np.uint8), "label": rng.integers(0, 10, RECORDS)}


def memory(columns: dict[str, np.ndarray], placement: str = "auto") -> MemorySource:
    """Return a shuffled source over columns in memory."""
    return MemorySource(MemorySourceConfig(shuffle=True, placement=placement), columns, rngs=nnx.Rngs(0))


def mapped(columns: dict[str, np.ndarray], folder: Path) -> MemorySource:
    """Return a shuffled source over columns in a folder of ``.npy`` files, which it maps."""
    folder.mkdir()
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column)
    return MemorySource(MemorySourceConfig(path=str(folder), shuffle=True, placement="host"), rngs=nnx.Rngs(0))


def served(source: DataSourceModule) -> Callable[[], None]:
    """Return a function that serves as many full batches of a source as RECORDS / 2 records make."""
    pipeline = Pipeline(source=source, stages=[], batch_size=BATCH, num_epochs=None, rngs=nnx.Rngs(0))

    def run() -> None:
        batches = iter(pipeline)
        jax.block_until_ready(deque((next(batches) for _ in range(RECORDS // 2 // BATCH)), maxlen=1))

    return run


def filters(folder: Path) -> list[Row]:
    """Return the rows for filters: their one pass, and what they serve against the source that they are of."""
    rng = np.random.default_rng(0)
    columns = {"label": rng.integers(0, 1000, MANY), "score": rng.random(MANY, np.float32)}
    held, in_files = memory(columns), mapped(columns, folder / "many")
    rows = [
        limited(lambda: held.where(label=[3, 5, 7]), 2.0, what="where(label=[3, 5, 7]) of 10^7 records in memory"),
        limited(
            lambda: in_files.where(score=(0.5, None)), 2.0, what="where(score=(0.5, None)) of 10^7 records, mapped"
        ),
        limited(
            lambda: in_files.filter(lambda batch: batch["label"] % 2 == 0, fields=["label"]),
            2.0,
            what="filter(a function of a field) of 10^7 records, mapped",
        ),
    ]
    for what, source in (
        ("on the device", memory(images())),
        ("in host memory", memory(images(), "host")),
        ("mapped", mapped(images(), folder / "images")),
    ):
        kept = source.where(label=range(0, 10, 2))
        rows.append(
            against(
                served(source),
                served(kept),
                records=RECORDS // 2,
                what=f"a filtered source {what}, against all its records",
                target=0.95,
            )
        )
    return rows


def scanned(source: DataSourceModule) -> Callable[[], None]:
    """Return a function that reduces as many full batches of a source as RECORDS / 2 records make, in one scan."""
    pipeline = Pipeline(source=source, stages=[], batch_size=BATCH, num_epochs=None, rngs=nnx.Rngs(0))

    def total(batch: dict[str, jax.Array]) -> jax.Array:
        return batch["image"].astype(np.int32).sum()

    return lambda: jax.block_until_ready(pipeline.scan(total, length=RECORDS // 2 // BATCH))


def samples() -> list[Row]:
    """Return the rows for draws with replacement, and for sources that are joined or repeated, against a plain shuffle."""
    columns = images()
    weights = np.random.default_rng(1).pareto(1.5, RECORDS)
    found = []
    for what, placement, work in (
        ("on the device, loop", "auto", served),
        ("on the device, scan", "auto", scanned),
        ("in host memory, loop", "host", served),
    ):
        source = memory(columns, placement)
        halves = [memory({name: column[half::2] for name, column in columns.items()}, placement) for half in range(2)]
        views = {
            "draws by weight": SampleView(SampleViewConfig(), source, weights, rngs=nnx.Rngs(0)),
            "repeat, adjacent": RepeatView(RepeatViewConfig(times=2, order="adjacent"), source),
            "concat of two, shuffled": ConcatView(ConcatViewConfig(shuffle=True), *halves, rngs=nnx.Rngs(0)),
        }
        for name, view in views.items():
            is_copied = placement == "host" and isinstance(
                view, ConcatView
            )  # into one batch, from those of the sources
            title, target = f"{name}, {what}, against a shuffle", 0.5 if is_copied else 0.9
            found.append(against(work(source), work(view), records=RECORDS // 2, what=title, target=target))
    return found


def rows() -> list[Row]:
    """Measure all views of this file."""
    with tempfile.TemporaryDirectory() as folder:
        return [*filters(Path(folder)), *samples()]
