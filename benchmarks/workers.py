"""Gain of worker processes for a source that decodes in Python, cost of the transport, and other libraries' workers."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from itertools import cycle, islice
from typing import Any, Self

import jax
import numpy as np
from _measure import LEAST, Row, Work, against, cost_of, paired, seconds

from datarax_core import DataSourceModule, SourceConfig
from datarax_core.workers import Workers

WORKERS, BATCH, BATCHES, AHEAD, RUNS = 2, 256, 40, 4, 9
PAUSE = 0.2  # seconds in which all batches that Grain reads ahead are read
KB_3, KB_40 = 3072, 40_960


def rows() -> list[Row]:
    """Measure two workers against none, a standard-library pool and Grain; then large batches, where transport dominates."""
    found = []
    for bytes_, rounds, what in (
        (KB_3, 350, "15 us of Python a record of 3 KB"),
        (KB_40, 0, "nothing but the way, 10 MB"),
    ):
        found += _rows(_Bound(bytes_, rounds), what, is_bound=rounds > 0)
    return found


class _Bound(DataSourceModule):
    """Source of records of some bytes, each of which takes some rounds of a Python loop."""

    def __init__(self, bytes_: int, rounds: int) -> None:
        super().__init__(SourceConfig(type="bound"))
        self.bytes, self.rounds = bytes_, rounds

    def __len__(self) -> int:
        return BATCH * BATCHES

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"x": jax.ShapeDtypeStruct((self.bytes,), np.dtype(np.uint8))}

    def get_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        records = np.empty((len(indices), self.bytes), np.uint8)
        for row, value in enumerate(indices.tolist()):
            for _ in range(self.rounds):
                value = (value * 31 + 7) & 0xFFFF  # noqa: PLW2901 - work of no meaning
            records[row] = value & 255
        return {"x": records}


def _rows(source: _Bound, what: str, *, is_bound: bool) -> Iterator[Row]:
    wanted = [np.arange(start, start + BATCH) for start in range(0, BATCH * BATCHES, BATCH)]
    workers = Workers(source, WORKERS, batch_size=BATCH, ahead=AHEAD)
    workers.fetch(wanted[0])

    def row(reference: Callable[[], object], against_what: str, target: float, ours: Work | None = None) -> Row:
        return against(
            reference,
            ours or (lambda: _drain(_ahead(wanted, workers.begin, workers.result))),
            records=BATCH * BATCHES,
            what=f"{what}: {WORKERS} workers, against {against_what}",
            target=target,
            runs=RUNS,
            pause=0.0 if ours is None else PAUSE,
        )

    # two workers share two cores with the process that they serve, so a factor of 2 is out of reach
    yield row(lambda: _drain(map(source.fetch, wanted)), "none", 1.7 if is_bound else 0.3)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, context, _keep, (source,)) as pool:
        for future in [pool.submit(_read, wanted[0]) for _ in range(WORKERS * 2)]:
            future.result()
        yield row(
            lambda: _drain(_ahead(wanted, lambda w: pool.submit(_read, w), lambda f: f.result())),
            "ProcessPoolExecutor",
            1.2,
        )
    if find_spec("grain") is not None:
        with _Grain(source, wanted) as grain:
            endless = _ahead(cycle(wanted), workers.begin, workers.result)
            yield row(grain.serve, "Grain's mp_prefetch", 1.2, lambda: _drain(islice(endless, BATCHES)))
            endless.close()
    workers.close()
    if find_spec("grain") is not None:
        pairs = paired(lambda: _first_of_grain(source, wanted), lambda: _first_of_workers(source, wanted), LEAST)
        yield cost_of(pairs, what=f"{what}: first batch, against Grain's", target=1.1)


def _first_of_grain(source: _Bound, wanted: list[np.ndarray]) -> float:
    with _Grain(source, wanted) as grain:
        return grain.first


def _first_of_workers(source: _Bound, wanted: list[np.ndarray]) -> float:
    opened: list[Workers] = []

    def first() -> None:
        opened.append(Workers(source, WORKERS, batch_size=BATCH, ahead=AHEAD))
        opened[0].fetch(wanted[0])

    taken = seconds(first)
    opened[0].close()
    return taken


def _drain(batches: Iterable[object]) -> None:
    deque(batches, maxlen=0)


def _ahead(
    wanted: Iterable[np.ndarray], begin: Callable[[np.ndarray], Any], result: Callable[[Any], object]
) -> Generator[object, None, None]:
    begun: deque[Any] = deque()
    for indices in wanted:
        begun.append(begin(indices))
        if len(begun) > AHEAD:
            yield result(begun.popleft())
    yield from map(result, begun)


# functions that run in the processes of the pool

_kept: list[_Bound] = []


def _keep(source: _Bound) -> None:
    _kept.append(source)


def _read(indices: np.ndarray) -> dict[str, np.ndarray]:
    return _kept[0].get_records(indices)


class _Grain:
    """Yield the same batches through Grain, one an element, endlessly, since its processes begin with a loop.

    So each round starts with batches that were read ahead in the pause before it; those that are held against it do the same.
    """

    def __init__(self, source: _Bound, wanted: list[np.ndarray]) -> None:
        import grain
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        batches = grain.MapDataset.source(_Batches(source, wanted)).repeat()
        options = grain.MultiprocessingOptions(num_workers=WORKERS, per_worker_buffer_size=AHEAD // WORKERS)
        self._batches = iter(batches.to_iter_dataset(grain.ReadOptions(0, 0)).mp_prefetch(options))
        self.first = seconds(lambda: next(self._batches))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._batches.close()

    def serve(self) -> None:
        for _ in range(BATCHES):
            next(self._batches)


class _Batches:
    def __init__(self, source: _Bound, wanted: list[np.ndarray]) -> None:
        self._source, self._wanted = source, wanted

    def __len__(self) -> int:
        return len(self._wanted)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        return self._source.get_records(self._wanted[number])
