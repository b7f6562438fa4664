"""``drx verify``."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datarax_core._cli.opening import open_source
from datarax_core._cli.options import Config, Debug
from datarax_core._cli.output import say
from datarax_core._cli.progress import interrupts, progress
from datarax_core.config import load_config
from datarax_core.quarantine import append_to_quarantine

if TYPE_CHECKING:
    from datarax_core.verification import Verified


def verify(
    config: Config,
    *,
    quarantine: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The list that bad records are added to.", show_default="CONFIG.quarantine.jsonl"
        ),
    ] = None,
    _debug: Debug = False,
) -> None:
    """Read every record of a config's source once; print and list those that cannot be read, and fail if there are any.

    The list is JSON lines of file, record and cause. A source that takes such a list as 'exclude' never serves those records.
    """
    if not _verify(config, config.with_suffix(".quarantine.jsonl") if quarantine is None else quarantine):
        raise typer.Exit(1)


def _verify(path: Path, quarantine: Path) -> bool:
    """Read all records; print those that cannot be read, list them in a file, and tell whether all can be read."""
    source = open_source(path, load_config(path))
    from datarax_core.blocks import verified_blocks  # noqa: PLC0415 - loads JAX, which an invalid config need not wait for

    found = _Found(quarantine)
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
        say(f"{'' if finished else 'stopped early: '}{found}")
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
            say(str(error))
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
