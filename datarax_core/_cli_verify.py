"""``drx verify``: reads every record of a config's source once, and lists those that cannot be read."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ._cli_progress import interrupts, progress
from ._cli_source import open_source
from .config import load_config
from .quarantine import append_to_quarantine

if TYPE_CHECKING:
    from .verification import Verified


def verify(path: Path, *, quarantine: Path | None = None) -> bool:
    """Read all records of the config ``path`` once; print those that cannot be read, and list them in a file.

    Args:
        path: A pipeline's config, of which the source counts.
        quarantine: The list, to which bad records are added; ``train.quarantine.jsonl`` beside ``train.yaml`` if None.

    Returns:
        Whether all can be read.

    Raises:
        DataraxError, OSError: The config or the data it names cannot be used, or a whole file is damaged.
        KeyboardInterrupt: By the user.
    """
    source = open_source(path, load_config(path))
    from .blocks import verified_blocks  # noqa: PLC0415 - loads JAX, which an invalid config need not wait for

    found = _Found(path.with_suffix(".quarantine.jsonl") if quarantine is None else quarantine)
    total = source.epoch_length if source.access == "stream" else source.num_records
    finished = False
    try:
        with interrupts() as raise_lost, progress(total, "records") as show:
            for part in verified_blocks(source):
                found.add(part)
                show(found.records, found.speed)
                raise_lost()
        finished = True
    finally:
        typer.echo(f"{'' if finished else 'stopped early: '}{found}")
    return not found.bad


class _Found:
    """What was read so far, held against the clock; bad records are printed and listed as they come."""

    def __init__(self, listed: Path) -> None:
        self.records = self.nbytes = self.bad = 0
        self._listed = listed
        self._began = time.perf_counter()

    def add(self, part: "Verified") -> None:
        """Count another block."""
        self.records += part.records
        self.nbytes += part.nbytes
        self.bad += len(part.errors)
        for error in part.errors:
            typer.echo(str(error))
        append_to_quarantine(str(self._listed), part.errors)

    @property
    def speed(self) -> str:
        """Records and megabytes a second."""
        seconds = max(self._seconds, 1e-9)
        return f"{self.records / seconds:,.0f} records/s, {self.nbytes / 1e6 / seconds:,.1f} MB/s, {self.bad} bad"

    def __str__(self) -> str:
        total = f"{self.records:,} records, {self.nbytes / 1e6:,.1f} MB in {self._seconds:.2f} s"
        if not self.bad:
            return f"{total}: all can be read"
        return (
            f"{total}: {self.bad:,} cannot be read; they are listed in {self._listed}, which a source's exclude: takes"
        )

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._began
