"""Windows over 10^9 tokens in a mapped file against NumPy's own gathers of the same windows: 32 windows of 1,024, shuffled."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _measure import RUNS, Row, against, limited
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, Ragged
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_views import WindowView, WindowViewConfig

TOKENS, LENGTH, BATCH, BATCHES = 1_000_000_000, 1024, 32, 100


def write_tokens(folder: Path) -> None:
    """Write 10^9 tokens, 2 GB."""
    tokens = np.lib.format.open_memmap(folder / "tokens.npy", mode="w+", dtype=np.uint16, shape=(TOKENS,))
    part = np.random.default_rng(0).integers(0, 50_000, TOKENS // 100, np.uint16)
    for start in range(0, TOKENS, len(part)):
        tokens[start : start + len(part)] = part
    tokens.flush()


def windows(folder: Path, **options: int) -> WindowView:
    """Return a shuffled view of windows over the tokens, built from nothing."""
    config = MemorySourceConfig(path=str(folder), shuffle=True, placement="host")
    return WindowView(WindowViewConfig(length=LENGTH, **options), MemorySource(config, rngs=nnx.Rngs(0)))


def first_batch(source: DataSourceModule, **options: int) -> Pipeline:
    """Return a pipeline that has served one batch."""
    pipeline = Pipeline(source=source, stages=[], batch_size=BATCH, num_epochs=None, rngs=nnx.Rngs(0), **options)
    next(iter(pipeline))
    return pipeline


def served(source: DataSourceModule) -> Callable[[], None]:
    """Return a function that serves batches of a pipeline, each read when it is asked for."""
    batches = iter(first_batch(source, prefetch=0))

    def run() -> None:
        for _ in range(BATCHES):
            next(batches)

    return run


def gathers(folder: Path) -> list[Row]:
    """Return the rows for batches read from the view, against slices put together, and against a matrix of indices."""
    view = windows(folder)
    tokens = np.asarray(np.load(folder / "tokens.npy", mmap_mode="r"))
    order = np.asarray(view.record_indices_at(0, 4 * (RUNS + 1) * BATCHES * BATCH, view.order_key_data()))
    turns = iter(order.reshape(-1, BATCHES, BATCH))  # each call reads other windows

    def by(read: Callable[[np.ndarray], object]) -> Callable[[], None]:
        def run() -> None:
            for indices in next(turns):
                read(indices)

        return run

    references: dict[str, Callable[[np.ndarray], object]] = {
        "np.stack of slices": lambda indices: np.stack([tokens[i : i + LENGTH] for i in indices * LENGTH]),
        "tokens[starts[:, None] + arange]": lambda indices: tokens[indices[:, None] * LENGTH + np.arange(LENGTH)],
    }
    return [
        against(
            by(reference),
            by(view.fetch),
            records=BATCHES * BATCH,
            what=f"10^9 tokens mapped, against {what}",
            target=1.0,
        )
        for what, reference in references.items()
    ]


def loops(folder: Path) -> list[Row]:
    """Return the rows for loops: against rows of the same size, the first batch, and the state."""
    tokens = np.asarray(np.load(folder / "tokens.npy", mmap_mode="r"))
    matrix = {"tokens": tokens[: TOKENS // LENGTH * LENGTH].reshape(-1, LENGTH)}
    plain = MemorySource(MemorySourceConfig(shuffle=True, placement="host"), matrix, rngs=nnx.Rngs(0))
    state = len(json.dumps(first_batch(windows(folder)).get_state()))
    return [
        against(
            served(plain),
            served(windows(folder)),
            records=BATCHES * BATCH,
            what="a loop over windows, against one over rows of 1,024",
            target=0.9,
        ),
        limited(lambda: first_batch(windows(folder)), 0.1, what="first batch over 10^9 tokens, of its limit"),
        Row("state of the pipeline: KiB", "", f"{state} bytes", ratio=state / 1024, target=1.0, bound="at most"),
    ]


def inside() -> list[Row]:
    """Return the row for windows inside records of varying length, in memory."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], rng.integers(LENGTH, 4 * LENGTH, 10_000).cumsum()])
    episodes = Ragged(rng.integers(0, 50_000, offsets[-1], np.uint16), offsets)
    view = WindowView(
        WindowViewConfig(length=LENGTH, stride=LENGTH // 2), MemorySource(MemorySourceConfig(), {"x": episodes})
    )
    counts = (np.diff(offsets) - LENGTH) // (LENGTH // 2) + 1
    places = [(n, start * LENGTH // 2) for n, count in enumerate(counts.tolist()) for start in range(count)]
    batches = [rng.integers(0, len(view), BATCH) for _ in range(BATCHES)]

    def by_records() -> None:
        for indices in batches:
            found = [places[index] for index in indices]
            np.stack([episodes[n][start : start + LENGTH] for n, start in found])

    def by_view() -> None:
        for indices in batches:
            view.fetch(indices)

    what = "10,000 episodes in memory, against np.stack of slices of each"
    return [against(by_records, by_view, records=BATCHES * BATCH, what=what, target=1.0)]


def rows() -> list[Row]:
    """Measure all views of this file."""
    with tempfile.TemporaryDirectory() as folder:
        write_tokens(Path(folder))
        return [*gathers(Path(folder)), *loops(Path(folder)), *inside()]
