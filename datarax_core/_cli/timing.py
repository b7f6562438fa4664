"""Comparison of a pipeline with its source alone for ``drx bench``: both read the same records, alternately, in one process."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datarax_core.order.batch_sizes import BatchSizes
    from datarax_core.pipeline.pipeline import Pipeline
    from datarax_core.sources.source import DataSourceModule

_PILOT_SECONDS: Final = 0.2
_FEWEST: Final = 5  # batches in a repeat


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, lowest and highest of several measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Return the spread of at least one measurement."""
        return cls(statistics.median(values), min(values), max(values))

    @property
    def noise(self) -> float:
        """Distance between the lowest and the highest value, as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Repeat:
    """One repeat: a number of batches, served by the pipeline and then read by the source alone."""

    records: int
    pipeline_seconds: float
    source_seconds: float
    where: dict[str, float]
    """Seconds of the pipeline by activity, as `Pipeline.stats` counts them."""


@dataclass(slots=True)
class Timed:
    """Result of a comparison."""

    first_batch: float = 0.0
    """Seconds until the first batch was ready, compiling included."""

    batches: int = 0
    """Number of batches in a repeat."""

    record_bytes: float = 0.0
    repeats: list[Repeat] = field(default_factory=list)

    @property
    def pipeline(self) -> Spread:
        """Records a second of the pipeline."""
        return Spread.of([repeat.records / repeat.pipeline_seconds for repeat in self.repeats])

    @property
    def source(self) -> Spread:
        """Records a second of the source alone."""
        return Spread.of([repeat.records / repeat.source_seconds for repeat in self.repeats])

    @property
    def ratio(self) -> Spread:
        """Speed of the pipeline as a multiple of the source's, repeat by repeat."""
        return Spread.of([repeat.source_seconds / repeat.pipeline_seconds for repeat in self.repeats])

    @property
    def where(self) -> dict[str, float]:
        """Share of the pipeline's time by activity; the shares overlap if batches are read ahead."""
        total = sum(repeat.pipeline_seconds for repeat in self.repeats)
        names = self.repeats[0].where
        return {name: sum(repeat.where[name] for repeat in self.repeats) / total for name in names}


def timed(
    pipeline: "Pipeline", alone: "DataSourceModule", *, seconds: float, repeats: int, note: Callable[[int], None]
) -> Timed:
    """Serve batches for about ``seconds`` in ``repeats`` parts, and after each part read the same records by the source alone.

    Not counted are the first batch, which compiles, and before each part the batches that were read ahead. If the
    pipeline ends early, the result has fewer repeats.

    Args:
        pipeline: Pipeline at its start, best an endless one.
        alone: Source equal to the pipeline's.
        seconds: Seconds for the pipeline; reading the source alone takes additional time.
        repeats: Number of repeats, at least one.
        note: Called with the number of repeats done.
    """
    found = Timed()
    loop = _Loop(pipeline)
    found.first_batch = loop.serve(1)[1]
    loop.serve(_read_ahead(pipeline))
    batches, pilot = 0, 0.0
    while pilot < _PILOT_SECONDS:
        served, spent = loop.serve(1)
        if not served:
            break
        batches, pilot = batches + served, pilot + spent
    found.batches = max(_FEWEST, round(batches / max(pilot, 1e-9) * seconds / repeats))
    reading = _Reading(alone, pipeline.batch_sizes)
    for number in range(repeats):
        loop.serve(_read_ahead(pipeline))
        start, before = pipeline.cursor.position, pipeline.stats()
        served, spent = loop.serve(found.batches)
        if not served:
            break
        after = pipeline.stats()
        records = after["records"] - before["records"]
        found.record_bytes = (after["bytes"] - before["bytes"]) / records
        where = {name: after[name] - before[name] for name in before if name.startswith("seconds_")}
        found.repeats.append(Repeat(records, spent, reading.seconds(start, records), where))
        note(number + 1)
    loop.close()
    return found


class _Loop:
    """Loop over a pipeline, timed part by part."""

    def __init__(self, pipeline: "Pipeline") -> None:
        self._batches = iter(pipeline)

    def serve(self, batches: int) -> tuple[int, float]:
        """Serve batches, and return their number and the seconds until the last one was ready."""
        import jax  # noqa: PLC0415 - the pipeline has loaded it by now

        served, last, began = 0, None, time.perf_counter()
        for batch in islice(self._batches, batches):
            served, last = served + 1, batch
        jax.block_until_ready(last)  # batches are computed asynchronously, in order
        return served, time.perf_counter() - began

    def close(self) -> None:
        """End the loop and its reading ahead."""
        self._batches.close()


class _Reading:
    """Reader of a source alone: it reads batch by batch on the host, as a pipeline does, and drops the records."""

    def __init__(self, source: "DataSourceModule", sizes: "BatchSizes") -> None:
        self._source = source
        self._sizes = sizes
        self._is_stream = source.access == "stream"
        self._at = 0
        if not self._is_stream:
            self._order = source.order_reader(sizes.largest)
            self._read(0, sizes.at(0))  # opens files, and computes the first chunk of the order

    def seconds(self, start: int, records: int) -> float:
        """Read the records at positions ``start .. start + records``, and return the seconds that it took."""
        if self._is_stream and start > self._at:
            self._source.skip(start - self._at)
        began = time.perf_counter()
        at, end = start, start + records
        while at < end:
            size = min(self._sizes.at(at), end - at)
            self._read(at, size)
            at += size
        self._at = end
        return time.perf_counter() - began

    def _read(self, at: int, size: int) -> Any:
        if self._is_stream:
            try:
                return self._source.read_batch(size)
            except StopIteration:  # a pipeline goes on with the next epoch, too
                self._source.begin_epoch()
                return self._source.read_batch(size)
        return self._source.fetch_on_host(self._order.take(at, size))


def _read_ahead(pipeline: "Pipeline") -> int:
    """Return the number of batches that may have been read ahead."""
    return 1 + (2 if pipeline.prefetch == "auto" else pipeline.prefetch) + 2 * pipeline.workers
