"""Measurement of a pipeline's run for ``drx run``: records a second, and where the time goes."""

import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datarax_core.pipeline.pipeline import Pipeline

_REFRESH_SECONDS: Final = 0.1
_SECONDS: Final = "seconds_"  # prefix of the names of durations in `Pipeline.stats`


class RunMeasurement:
    """Counts and durations of one run of a pipeline; the first batch, which includes compiling, is counted separately."""

    def __init__(self, pipeline: "Pipeline") -> None:
        self._pipeline = pipeline
        self._began = self._first_at = self._ended = time.perf_counter()
        self._first = self._stats = pipeline.stats()

    @property
    def batches(self) -> int:
        """Number of batches served so far."""
        return int(self._stats["batches"])

    def run(self, limit: int | None, refresh: Callable[[], None], each: Callable[[], None]) -> None:
        """Serve the batches of one run, at most ``limit``; call ``each`` after each batch, ``refresh`` every now and then."""
        import jax  # noqa: PLC0415 - slow to import; commands that serve nothing do without

        self._began = shown = time.perf_counter()
        last: Any = None
        for number, batch in enumerate(itertools.islice(self._pipeline, limit)):
            each()
            last, now = batch, time.perf_counter()
            if not number:
                self._first_at, self._first = now, self._pipeline.stats()
            elif now - shown >= _REFRESH_SECONDS:
                shown = now
                self.stop()
                refresh()
        jax.block_until_ready(last)  # batches are computed asynchronously, in order: the last one is ready when all are

    def stop(self) -> None:
        """Read the pipeline's counts and the clock."""
        self._stats, self._ended = self._pipeline.stats(), time.perf_counter()

    @property
    def speed(self) -> str:
        """Records and megabytes a second since the first batch, as text."""
        since = self._since_first()
        return f"{since['records'] / self._seconds:,.0f} records/s, {since['bytes'] / 1e6 / self._seconds:,.1f} MB/s"

    def as_dict(self) -> dict[str, Any]:
        """Return counts, seconds and speeds by name; speeds leave out the first batch."""
        measured = {**self._stats, "seconds": self._ended - self._began}
        if not self.batches:
            return measured
        measured["seconds_first_batch"] = self._first_at - self._began
        if self.batches > 1:
            since = self._since_first()
            measured["records_per_second"] = since["records"] / self._seconds
            measured["megabytes_per_second"] = since["bytes"] / 1e6 / self._seconds
        return measured

    def __str__(self) -> str:
        stats = self._stats
        total = (
            f"{stats['batches']:,} batch{'' if stats['batches'] == 1 else 'es'}, {stats['records']:,} records, "
            f"{stats['bytes'] / 1e6:,.1f} MB in {self._ended - self._began:.2f} s"
        )
        rows = {}
        if stats["batches"]:
            rows["first batch"] = f"{self._first_at - self._began:.2f} s, compiling included"
        if stats["batches"] > 1:
            rows["after it"] = self.speed
            for name, seconds in self._since_first().items():
                if name.startswith(_SECONDS):
                    label = name.removeprefix(_SECONDS).replace("_", " ").replace("waiting", "waiting for data")
                    rows[label] = f"{f'{seconds:.2f} s':<9}{seconds / self._seconds:4.0%}"
        if "threads" in stats:
            threads = f"{stats['threads']} thread{'' if stats['threads'] == 1 else 's'}"
            rows["reading"] = f"the reader waits {stats['waited_of_reading']:.0%} of the time: {threads}"
        rows["records substituted"] = f"{stats['records_substituted']:,}"
        rows |= {f"records of {name}": f"{count:,}" for name, count in stats.get("records_by_child", {}).items()}
        return f"{total}\n{aligned(rows)}"

    @property
    def _seconds(self) -> float:
        return max(self._ended - self._first_at, 1e-9)

    def _since_first(self) -> dict[str, Any]:
        numbers = {name: count for name, count in self._stats.items() if not isinstance(count, dict)}
        return {name: count - self._first.get(name, 0) for name, count in numbers.items()}


def aligned(rows: dict[str, str]) -> str:
    """Return lines of names and texts, the texts aligned in one column."""
    width = max(map(len, rows), default=0)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())
