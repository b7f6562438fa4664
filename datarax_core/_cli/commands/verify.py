"""``drx verify``: all records of a config's source, read once."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datarax_core._cli.guessing.choice import opened
from datarax_core._cli.opening import open_source
from datarax_core._cli.options import ConfigOrData, Debug, Json, Kind
from datarax_core._cli.output import say, say_json
from datarax_core._cli.progress import interrupts, progress

if TYPE_CHECKING:
    from datarax_core.errors import RecordError
    from datarax_core.records.narrowed import NarrowedField
    from datarax_core.sources.verification import Verified


def verify(
    config: ConfigOrData,
    *,
    quarantine: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The list to which bad records are added.", show_default="CONFIG.quarantine.jsonl"
        ),
    ] = None,
    kind: Kind = None,
    as_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Read every record of a config's source once; print and list the unreadable ones, and fail if there are any.

    The list is JSON lines of file, record and cause. A source that takes such a list as 'exclude' never serves those records.
    Of 64-bit fields it says how a device keeps them, and by how much that changes their values.
    """
    if quarantine is not None and quarantine.parent.is_dir():
        from datarax_core.sources.verification import require_quarantine  # noqa: PLC0415 - loads JAX; drx --help does not need it

        require_quarantine(str(quarantine))
    given = opened(config, kind)
    source = open_source(config, given.config)
    if not as_json and given.text:
        say(given.text)
    from datarax_core.sources.blocks import verified_blocks  # noqa: PLC0415 - loads JAX, which an invalid config need not wait for

    found = _Found(
        config.with_suffix(".quarantine.jsonl") if quarantine is None else quarantine,
        print_bad=not as_json,
        excludes=hasattr(source.config, "exclude"),
    )
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
        if as_json:
            say_json({"config": str(config), **given.as_dict(), "finished": finished, **found.as_dict()})
        else:
            say(
                str(found)
                if finished
                else f"stopped early: {found}".replace(": all can be read", ": these can be read")
            )
    if found.errors:
        raise typer.Exit(1)


class _Found:
    """Counts of the records read so far, and the bad ones, which are printed and listed as they come."""

    def __init__(self, listed: Path, *, print_bad: bool, excludes: bool) -> None:
        self.records = self.nbytes = 0
        self.errors: list[RecordError] = []
        self.narrowed: dict[str, NarrowedField] = {}
        self._listed = listed
        self._print_bad = print_bad
        self._excludes = excludes  # whether the source takes such a list
        self._began = time.perf_counter()

    def add(self, part: "Verified") -> None:
        """Count the records of another block.

        Raises:
            OSError: There are bad records, and the list cannot be written.
        """
        self.records += part.records
        self.nbytes += part.nbytes
        self.errors += part.errors
        for name, report in part.narrowed.items():
            self.narrowed[name] = self.narrowed[name].merged(report) if name in self.narrowed else report
        for error in part.errors if self._print_bad else ():
            say(str(error))
        from datarax_core.sources.verification import append_to_quarantine  # noqa: PLC0415 - by now loaded, with JAX

        append_to_quarantine(str(self._listed), part.errors)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, and an entry for each bad record."""
        bad = [{"record": e.record, "file": e.path, "row": e.row, "cause": e.reason} for e in self.errors]
        counted = {"records": self.records, "bytes": self.nbytes, "seconds": self._seconds}
        narrowed = {name: report.as_dict() for name, report in self.narrowed.items()}
        return {**counted, "narrowed": narrowed, "bad": bad, "quarantine": str(self._listed) if bad else None}

    @property
    def speed(self) -> str:
        """Records and megabytes a second."""
        seconds = max(self._seconds, 1e-9)
        return (
            f"{self.records / seconds:,.0f} records/s, {self.nbytes / 1e6 / seconds:,.1f} MB/s, {len(self.errors)} bad"
        )

    def __str__(self) -> str:
        total = f"{self.records:,} records, {self.nbytes / 1e6:,.1f} MB in {self._seconds:.2f} s"
        lines = [f"on a device, {name} is {report}" for name, report in self.narrowed.items()]
        if not self.errors:
            return "\n".join([f"{total}: all can be read", *lines])
        taken = ", which the source's exclude: takes" if self._excludes else ""
        listed = f"they are listed in {self._listed}{taken}"
        return "\n".join([f"{total}: {len(self.errors):,} cannot be read; {listed}", *lines])

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._began
