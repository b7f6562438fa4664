"""``drx run``: serves a config's batches, and says by which route they come, how fast, and where the time goes."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from ._cli_progress import interrupts, progress
from ._cli_source import mistakes
from .config import PipelineConfig, load_config

if TYPE_CHECKING:
    from .pipeline import Pipeline

_REFRESH_SECONDS: Final = 0.1
_SECONDS: Final = "seconds_"  # how the names of times begin in `Pipeline.stats`


def serve(path: Path, *, epochs: int | None = None, limit: int | None = None) -> bool:
    """Print what the pipeline of a config is and what its records look like, serve its batches, and print a summary.

    Returns:
        False if the user interrupted it, which stops it early but prints the summary all the same.

    Raises:
        DataraxError, OSError: The config or the data it names cannot be used.
    """
    config = load_config(path)
    if epochs is not None:
        config = config.model_copy(update={"num_epochs": epochs})
    pipeline, fields = opened(path, config)
    served = Served(pipeline)
    finished = True
    try:
        with interrupts() as raise_lost, progress(_num_batches(pipeline, limit), "batches") as show:
            typer.echo(f"{pipeline.explain()}\n\n{_aligned(fields)}\n")
            served.run(limit, lambda: show(served.batches, served.speed), raise_lost)
    except KeyboardInterrupt:
        finished = False
    served.stop()
    typer.echo(f"{'' if finished else 'interrupted: '}{served}")
    return finished


class Served:
    """What a pipeline counted while it was looped over, held against the clock; the first batch, which compiles, apart."""

    def __init__(self, pipeline: "Pipeline") -> None:
        self._pipeline = pipeline
        self._began = self._first_at = self._ended = time.perf_counter()
        self._first = self._stats = pipeline.stats()

    @property
    def batches(self) -> int:
        """Batches served so far."""
        return int(self._stats["batches"])

    def run(self, limit: int | None, refresh: Callable[[], None], each: Callable[[], None]) -> None:
        """Serve the batches of one run, ``limit`` at most; call ``refresh`` every now and then, ``each`` after each."""
        import jax  # noqa: PLC0415

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
        """Look at the counts, and at the clock."""
        self._stats, self._ended = self._pipeline.stats(), time.perf_counter()

    @property
    def speed(self) -> str:
        """Records and megabytes a second since the first batch."""
        since = self._since_first()
        return f"{since['records'] / self._seconds:,.0f} records/s, {since['bytes'] / 1e6 / self._seconds:,.1f} MB/s"

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
        rows["records substituted"] = f"{stats['records_substituted']:,}"
        rows |= {f"records of {name}": f"{count:,}" for name, count in stats.get("records_by_child", {}).items()}
        return f"{total}\n{_aligned(rows)}"

    @property
    def _seconds(self) -> float:
        return max(self._ended - self._first_at, 1e-9)

    def _since_first(self) -> dict[str, Any]:
        numbers = {name: count for name, count in self._stats.items() if not isinstance(count, dict)}
        return {name: count - self._first[name] for name, count in numbers.items()}


def opened(path: Path, config: PipelineConfig) -> "tuple[Pipeline, dict[str, str]]":
    """The pipeline, and its element spec as text; what it refuses about its data is a mistake of the user."""
    from .pipeline import Pipeline  # noqa: PLC0415 - loads JAX, which an invalid config need not wait for
    from .spec import describe  # noqa: PLC0415

    with mistakes(path):
        pipeline = Pipeline.from_config(config)
        return pipeline, describe(pipeline.element_spec())


def _aligned(rows: dict[str, str]) -> str:
    width = max(map(len, rows), default=0)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())


def _num_batches(pipeline: "Pipeline", limit: int | None) -> int | None:
    """How many batches will be served; None if nobody can say."""
    try:
        length = len(pipeline)
    except TypeError:
        return limit
    return length if limit is None else min(length, limit)
