"""A pipeline held against its source alone: the same records by both, in turns, in one process."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datarax_core.pipeline.pipeline import Pipeline
    from datarax_core.sources.source import DataSourceModule

_PILOT_SECONDS: Final = 0.2
_FEWEST: Final = 5  # batches in a repeat


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing. The median is what counts, and what lies between the ends is noise."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Of one measurement or more."""
        return cls(statistics.median(values), min(values), max(values))

    @property
    def noise(self) -> float:
        """How far apart the ends are, as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Repeat:
    """One stretch of batches, served by the pipeline, and read by the source alone."""

    records: int
    pipeline_seconds: float
    source_seconds: float
    where: dict[str, float]
    """Seconds by place, as `Pipeline.stats` counts them."""


@dataclass(slots=True)
class Timed:
    """What came of it."""

    first_batch: float = 0.0
    """Seconds until the first batch was there, compiling included."""

    batches: int = 0
    """In a repeat."""

    record_bytes: float = 0.0
    repeats: list[Repeat] = field(default_factory=list)

    @property
    def pipeline(self) -> Spread:
        """Records a second."""
        return Spread.of([repeat.records / repeat.pipeline_seconds for repeat in self.repeats])

    @property
    def source(self) -> Spread:
        """Records a second of the source alone."""
        return Spread.of([repeat.records / repeat.source_seconds for repeat in self.repeats])

    @property
    def ratio(self) -> Spread:
        """How fast the pipeline is for each repeat, where the source alone is 1."""
        return Spread.of([repeat.source_seconds / repeat.pipeline_seconds for repeat in self.repeats])

    @property
    def where(self) -> dict[str, float]:
        """Which share of the pipeline's seconds passed where; in several places at once, if batches are read ahead."""
        total = sum(repeat.pipeline_seconds for repeat in self.repeats)
        names = self.repeats[0].where
        return {name: sum(repeat.where[name] for repeat in self.repeats) / total for name in names}


def timed(
    pipeline: "Pipeline", alone: "DataSourceModule", *, seconds: float, repeats: int, note: Callable[[int], None]
) -> Timed:
    """Serve batches for about ``seconds`` in ``repeats`` parts, and read the same records by the source ``alone`` after each.

    What comes first is left out: the batch that compiles, and before each part those that were read ahead meanwhile. If the
    pipeline ends before, there are fewer repeats.

    Args:
        pipeline: At its start, and best without an end.
        alone: A source like the pipeline's.
        seconds: For the pipeline; the source alone takes its own time.
        repeats: At least one.
        note: Is told how many repeats are done.
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
    reading = _Reading(alone, pipeline.rule.batch_size)
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
    """A loop over a pipeline, of which stretches are timed."""

    def __init__(self, pipeline: "Pipeline") -> None:
        self._batches = iter(pipeline)

    def serve(self, batches: int) -> tuple[int, float]:
        """(how many there were, seconds until the last of them was there)."""
        import jax  # noqa: PLC0415 - the pipeline has loaded it by now

        served, last, began = 0, None, time.perf_counter()
        for batch in islice(self._batches, batches):
            served, last = served + 1, batch
        jax.block_until_ready(last)  # batches are computed asynchronously, in order
        return served, time.perf_counter() - began

    def close(self) -> None:
        """End the loop, and what reads ahead for it."""
        self._batches.close()


class _Reading:
    """A source that is read as a pipeline would, batch by batch on the host, and nothing is done with the records."""

    def __init__(self, source: "DataSourceModule", batch_size: int) -> None:
        self._source = source
        self._batch_size = batch_size
        self._is_stream = source.access == "stream"
        self._at = 0
        if not self._is_stream:
            self._window = source.order_reader(batch_size)
            self._read(0, batch_size)  # files are opened, and the first stretch of the order is computed

    def seconds(self, start: int, records: int) -> float:
        """How long it takes to read the records at positions ``start .. start + records``."""
        if self._is_stream and start > self._at:
            self._source.skip(start - self._at)
        began = time.perf_counter()
        for at in range(start, start + records, self._batch_size):
            self._read(at, min(self._batch_size, start + records - at))
        self._at = start + records
        return time.perf_counter() - began

    def _read(self, at: int, size: int) -> Any:
        if self._is_stream:
            return self._source.read_batch(size)
        return self._source.fetch_on_host(self._window.take(at, size))


def _read_ahead(pipeline: "Pipeline") -> int:
    """How many batches may be waiting that were read before anybody asked."""
    return 1 + pipeline.prefetch + 2 * pipeline.workers
