"""``drx run``: serves a config's batches, and measures how fast they come."""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from .config import PipelineConfig, load_config
from .errors import ConfigError, DataraxError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from .pipeline import Pipeline

_REFRESH_SECONDS: Final = 0.1


@dataclass
class Tally:
    """What was served so far, and how long that took. The first batch, which compiles, counts by itself."""

    batches: int = 0
    records: int = 0
    waiting: float = 0.0
    elapsed: float = 0.0
    first: float = 0.0
    records_since: int = 0
    bytes_since: int = 0

    def add(self, batch: Any, records: int) -> None:
        """Count a batch, once `waiting` and `elapsed` are up to date."""
        import jax  # noqa: PLC0415

        leaves = jax.tree.leaves(batch)
        if not self.batches:
            self.first = self.elapsed
        else:
            self.records_since += records
            self.bytes_since += sum(leaf.nbytes for leaf in leaves)
        self.batches += 1
        self.records += records

    @property
    def speed(self) -> str:
        """Records and megabytes a second since the first batch, and how long the loop waited for data since."""
        seconds, waited = max(self.elapsed - self.first, 1e-9), max(self.waiting - self.first, 0.0)
        return (
            f"{self.records_since / seconds:,.0f} records/s, {self.bytes_since / 1e6 / seconds:,.1f} MB/s, "
            f"waiting for data {waited:.2f} s ({waited / seconds:.0%})"
        )

    def __str__(self) -> str:
        served = f"{self.batches:,} batch{'' if self.batches == 1 else 'es'}, {self.records:,} records in {self.elapsed:.2f} s"
        if self.batches > 1:
            return f"{served}; first batch after {self.first:.2f} s, then {self.speed}"
        return served


def serve(path: Path, *, epochs: int | None = None, limit: int | None = None) -> bool:
    """Print the element spec of a config's records, serve its batches, and print a summary.

    Returns:
        False if the user interrupted it, which stops it early but prints the summary all the same.

    Raises:
        DataraxError, OSError: The config or the data it names cannot be used.
    """
    config = load_config(path)
    if epochs is not None:
        config = config.model_copy(update={"num_epochs": epochs})
    pipeline, fields = _open(path, config)
    tally = Tally()
    finished = True
    try:
        _print_fields(fields)
        with _display(_num_batches(pipeline, limit), tally) as refresh:
            _measure(pipeline, limit, tally, refresh)
    except KeyboardInterrupt:
        finished = False
    typer.echo(f"{'' if finished else 'interrupted: '}{tally}")
    return finished


def _open(path: Path, config: PipelineConfig) -> "tuple[Pipeline, dict[str, str]]":
    """The pipeline, and its element spec as text; what it refuses about its data is a mistake of the user."""
    from .pipeline import Pipeline  # noqa: PLC0415 - loads JAX, which an invalid config need not wait for
    from .spec import describe  # noqa: PLC0415

    try:
        pipeline = Pipeline.from_config(config)
        return pipeline, describe(pipeline.element_spec())
    except DataraxError:
        raise
    except (ValueError, NotImplementedError) as refused:
        raise ConfigError(f"{path}: {refused}") from refused


def _print_fields(fields: dict[str, str]) -> None:
    width = max(map(len, fields), default=0)
    for name, text in fields.items():
        typer.echo(f"{name:<{width}}  {text}")


def _num_batches(pipeline: "Pipeline", limit: int | None) -> int | None:
    """How many batches will be served; None if nobody can say."""
    try:
        length = len(pipeline)
    except TypeError:
        return limit
    return length if limit is None else min(length, limit)


def _measure(pipeline: "Pipeline", limit: int | None, tally: Tally, refresh: Any) -> None:
    """Count batches and seconds into ``tally``, up to date at every batch, so that an interruption loses nothing."""
    import jax  # noqa: PLC0415

    started = shown = time.perf_counter()
    batches, position = iter(pipeline), pipeline.cursor.position
    last: Any = None
    for _ in itertools.count() if limit is None else range(limit):
        asked = time.perf_counter()
        batch = next(batches, None)
        now = time.perf_counter()
        tally.waiting += now - asked
        tally.elapsed = now - started
        if batch is None:
            break
        last = batch
        tally.add(batch, pipeline.cursor.position - position)  # the last one may be completed by records that count not
        position = pipeline.cursor.position
        if now - shown >= _REFRESH_SECONDS:
            shown = now
            refresh()
    if last is not None:  # batches are computed asynchronously, in order: the last one is ready when all are
        jax.block_until_ready(last)
        tally.elapsed = time.perf_counter() - started


@contextmanager
def _display(total: int | None, tally: Tally) -> Iterator[Any]:
    """A live display on stderr while the block runs, where that is a terminal; yields what brings it up to date."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("batches, {task.fields[speed]}", markup=False)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task("", total=total, speed="")
    with progress:
        yield lambda: _refresh(progress, task, tally)


def _refresh(progress: "Progress", task: "TaskID", tally: Tally) -> None:
    progress.update(task, completed=tally.batches, speed=tally.speed)
