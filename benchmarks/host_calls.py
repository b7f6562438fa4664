"""What it costs to call host stages: one that does nothing, a function of one record, and a cache that is full."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _measure import Row, against, limited, paired
from flax import nnx

from datarax_core import Pipeline
from datarax_core.stages import Cache, per_record
from datarax_memory import MemorySource, MemorySourceConfig

RECORDS, BATCH, RUNS = 4096, 64, 15
LIMIT = 5e-6


def rows() -> list[Row]:
    """Measure readers of records with host stages against the source, a bare loop, and the stage itself."""
    return [_nothing(1), _nothing(3), _function(), _cached()]


class _Nothing:
    on_host = True

    def element_spec(self, spec: Any) -> Any:
        return spec

    def __call__(self, batch: Any) -> Any:
        return {**batch}


class _Decode:
    """Costs a microsecond a value, as decoding does."""

    on_host = True

    def element_spec(self, spec: Any) -> Any:
        return spec

    def __call__(self, batch: Any) -> Any:
        return {
            **batch,
            "x": np.array([[float(repr(value)) for value in row] for row in batch["x"].tolist()], np.float32),
        }


def _source() -> MemorySource:
    data = {"x": np.ones((RECORDS, 16), np.float32), "y": np.arange(RECORDS, dtype=np.int32)}
    return MemorySource(MemorySourceConfig(placement="host"), data)


def _reader(source: MemorySource, stages: list[Any]) -> Callable[[np.ndarray], Any]:
    """Return the function with which a pipeline over these stages reads a batch."""
    reader: Any = Pipeline(source=source, stages=stages, batch_size=BATCH, rngs=nnx.Rngs(0))._definition().reader  # noqa: SLF001
    fetch: Callable[[np.ndarray], Any] = reader.fetch
    return fetch


def _nothing(count: int) -> Row:
    """Return the row for the time that each of several host stages adds to a batch."""
    source, indices = _source(), np.arange(BATCH)
    staged, alone = _reader(source, [_Nothing() for _ in range(count)]), source.fetch

    def cost(fetch: Callable[[np.ndarray], Any], times: int = 2000) -> float:
        began = time.thread_time()
        for _ in range(times):
            fetch(indices)
        return (time.thread_time() - began) / times

    pairs = paired(lambda: cost(alone), lambda: cost(staged), RUNS)
    added = [(with_stages - without) / count for without, with_stages in pairs]
    return limited(added, LIMIT, what=f"{count} host stage(s) of no work, each a batch of {BATCH}, of the limit")


def _function() -> Row:
    """Return the row for `per_record` against a loop that calls the function and stacks the results."""
    source = _source()
    batches = [np.arange(start, start + BATCH) for start in range(0, RECORDS, BATCH)]
    read = _reader(source, [per_record(_halved)])

    def bare() -> None:
        for indices in batches:
            columns = source.fetch(indices)
            made = [_halved({"x": x, "y": y}) for x, y in zip(columns["x"], columns["y"], strict=True)]
            {name: np.stack([each[name] for each in made]) for name in made[0]}

    def ours() -> None:
        for indices in batches:
            read(indices)

    return against(bare, ours, records=RECORDS, what="a function of one record, a loop and np.stack alone", target=0.7)


def _halved(record: Any) -> Any:
    return {**record, "x": np.sqrt(record["x"]) * 0.5}


def _cached() -> Row:
    """Return the row for a full cache against the gather of the same columns."""
    source = _source()
    batches = [
        np.random.default_rng(0).permutation(RECORDS)[start : start + BATCH] for start in range(0, RECORDS, BATCH)
    ]
    read = _reader(source, [Cache(_Decode(), RECORDS)])
    read(np.arange(RECORDS))

    def bare() -> None:
        for indices in batches:
            source.fetch(indices)

    def ours() -> None:
        for indices in batches:
            read(indices)

    return against(bare, ours, records=RECORDS, what="records of a full cache, the source in memory alone", target=0.4)
