"""``drx peek``: the records of a config, summarised and drawn."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datarax_core._cli.guessing.choice import opened
from datarax_core._cli.looking.pictures import IMAGES, draw, require_matplotlib
from datarax_core._cli.looking.summaries import Summary, first_values, summary_for
from datarax_core._cli.opening import open_pipeline, open_source
from datarax_core._cli.options import MOST, ConfigOrData, Debug, Json, Kind
from datarax_core._cli.output import say, say_json
from datarax_core._cli.served import aligned
from datarax_core.errors import NarrowingError

if TYPE_CHECKING:
    from datarax_core.pipeline.pipeline import Pipeline
    from datarax_core.records.narrowed import NarrowedField
    from datarax_core.sources.source import DataSourceModule

FIELDS = 20
"""Number of fields that are shown without ``--all``."""

_DRAWN = 4096  # records drawn of a field that does not hold images


def peek(
    config: ConfigOrData,
    *,
    batches: Annotated[int, typer.Option(min=1, max=MOST, help="Batches to look at, from the first.")] = 1,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw images as a grid, numbers as histograms, text as a table.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write one HTML page with pictures of every field.")
    ] = None,
    all_fields: Annotated[
        bool, typer.Option("--all", help=f"Show every field; if left out, the first {FIELDS} are shown.")
    ] = False,
    kind: Kind = None,
    as_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Show what a config serves: what a record looks like, the first batch, and what each field holds.

    Batches are those that a loop serves, after all stages, in the order that it serves them. Records that only complete a last
    batch are left out. --png needs matplotlib: pip install 'datarax-core[peek]'. --html needs nothing, and the page needs no
    file beside it.
    """
    if png is not None:
        require_matplotlib()
    found = opened(config, kind)
    loaded = found.config
    pipeline, fields = open_pipeline(config, loaded)
    if not as_json and found.text:
        say(found.text)
    seen = _Seen()
    refused = _read_batches(pipeline, batches, seen)
    reread = open_source(config, loaded) if pipeline.source.access == "stream" else pipeline.source
    narrowed = _narrowed(pipeline, reread, pipeline.batch_sizes.at(0) if refused else seen.records)
    if refused is not None:
        if not as_json:
            say("\n\n".join([f"{pipeline!r}", f"a record:\n{_first(fields, FIELDS)}", *_notes(narrowed)]))
        raise refused
    if as_json:
        reports = {name: report.as_dict() for name, report in narrowed.items()}
        views = _views(pipeline)
        shown = {
            **found.as_dict(),
            **seen.as_dict(fields),
            **_by_child(pipeline),
            **({"views": views} if views else {}),
            "narrowed": reports,
            "notes": _notes(narrowed),
        }
        say_json({"config": str(config), **shown})
    else:
        _print(seen, pipeline, fields, narrowed, most=len(fields) if all_fields else FIELDS)
    if png is not None:
        draw(png, seen.columns(), f"{config.name}: {seen.records:,} records")
    if html is not None:
        html.write_text(_page(config, pipeline, fields, seen, _notes(narrowed)), encoding="utf-8")


def _read_batches(pipeline: "Pipeline", batches: int, seen: "_Seen") -> NarrowingError | None:
    """Add the first batches to ``seen``; return the error of a value that does not fit a device, which ends them."""
    try:
        for columns in _columns(pipeline, batches):
            seen.add(columns)
    except NarrowingError as refused:
        return refused
    return None


class _Seen:
    """Summary of each field of the batches added, the first batch, and enough records to draw."""

    def __init__(self) -> None:
        self.batches = self.records = 0
        self.first: dict[str, Any] = {}
        self._summaries: dict[str, Summary] = {}
        self._kept: dict[str, Any] = {}

    def add(self, columns: dict[str, Any]) -> None:
        """Add a batch."""
        from datarax_core.records.joining import joined_columns  # noqa: PLC0415 - the pipeline has loaded JAX by now

        records = len(next(iter(columns.values())))
        self.batches += 1
        self.records += records
        self.first = self.first or columns
        for name, column in columns.items():
            self._summaries.setdefault(name, summary_for(column)).add(column)
            kept, most = self._kept.get(name, column[:0]), _DRAWN if column.ndim < 3 else IMAGES
            self._kept[name] = joined_columns([kept, column[: most - len(kept)]])

    def columns(self) -> dict[str, Any]:
        """Return the first records, for drawing."""
        return self._kept

    def as_dict(self, fields: dict[str, str]) -> dict[str, Any]:
        """Return the summary of each field of ``fields``, which maps names to element specs as text."""
        known = {name: summary.as_dict() for name, summary in self._summaries.items()}
        first = {name: first_values(column) for name, column in self.first.items()}
        held = {name: {"spec": spec, **known.get(name, {}), "first": first.get(name)} for name, spec in fields.items()}
        return {"batches": self.batches, "records": self.records, "fields": held}

    def described(self) -> dict[str, str]:
        """Return the summary of each field as text."""
        return {name: str(summary) for name, summary in self._summaries.items()}


def _page(config: Path, pipeline: "Pipeline", fields: dict[str, str], seen: _Seen, notes: list[str]) -> str:
    from datarax_core._cli.looking.page import Looked, page  # noqa: PLC0415 - few commands write a page

    known = seen.as_dict(fields)["fields"]
    return page(
        Looked(
            title=config.name,
            pipeline=repr(pipeline),
            reports={"explain": pipeline.explain(), "plan": pipeline.plan()},
            counted=_counted(seen),
            specs=fields,
            summaries=seen.described(),
            counts={name: held["counts"] for name, held in known.items() if "counts" in held},
            columns=seen.columns(),
            notes=notes,
        )
    )


def _counted(seen: _Seen) -> str:
    return f"{seen.batches:,} batch{'' if seen.batches == 1 else 'es'}, {seen.records:,} records"


def _columns(pipeline: "Pipeline", batches: int) -> Iterator[dict[str, Any]]:
    """Yield the fields of the first batches by name, without the records that pad a last batch."""
    from datarax_core.records.joining import host_column  # noqa: PLC0415 - the pipeline has loaded JAX by now
    from datarax_core.records.spec import named_fields  # noqa: PLC0415

    mask = pipeline.rule.pad_last
    for batch in islice(pipeline, batches):
        columns = {name: host_column(leaf) for name, leaf in named_fields(batch).items()}
        real = columns.pop(mask) if mask is not None else None
        yield columns if real is None else {name: column[real] for name, column in columns.items()}


def _print(
    seen: _Seen, pipeline: "Pipeline", fields: dict[str, str], narrowed: dict[str, "NarrowedField"], *, most: int
) -> None:
    say("\n".join([repr(pipeline), *_views(pipeline), f"\na record:\n{_first(fields, most)}\n"]))
    if not seen.batches:
        say("no batch is served: the source ends before its first record")
        return
    first = {name: first_values(column) for name, column in seen.first.items()}
    say(f"the first of {len(next(iter(seen.first.values()))):,} records of the first batch:\n{_first(first, most)}\n")
    say(f"{_counted(seen)}:\n{_first(seen.described(), most)}")
    for name, count in _by_child(pipeline).get("records_by_child", {}).items():
        say(f"records of {name}: {count:,}")
    for note in _notes(narrowed):
        say(f"\n{note}")


def _first(rows: dict[str, str], most: int) -> str:
    """Return the lines of the first fields, and a line on the others."""
    left = len(rows) - most
    lines = aligned(dict(islice(rows.items(), most)))
    return f"{lines}\n... and {left:,} more field{'' if left == 1 else 's'}; --all shows all" if left > 0 else lines


def _by_child(pipeline: "Pipeline") -> dict[str, dict[str, int]]:
    """Return the number of records of each child of a mixture; empty for other sources."""
    stats = pipeline.stats()
    return {"records_by_child": stats["records_by_child"]} if "records_by_child" in stats else {}


def _views(pipeline: "Pipeline") -> list[str]:
    """Return lines on what each view in the source does; none for other sources."""
    from datarax_core.sources.description import view_lines  # noqa: PLC0415 - the pipeline has loaded JAX by now

    return view_lines(pipeline.source)


def _notes(narrowed: dict[str, "NarrowedField"]) -> list[str]:
    """Return notes on what may surprise: fields that are narrowed to 32 bits."""
    if not narrowed:
        return []
    fields = [f"{name} ({report})" for name, report in narrowed.items()]
    more = f" and {len(fields) - FIELDS:,} more" if len(fields) > FIELDS else ""
    because = "because JAX's x64 mode is off; a value that does not fit is refused, and JAX_ENABLE_X64=1 keeps all 64"
    return [f"64-bit fields are served in 32 bits, {because}: {'; '.join(fields[:FIELDS])}{more}"]


def _narrowed(pipeline: "Pipeline", source: "DataSourceModule", records: int) -> dict[str, "NarrowedField"]:
    """Return the fields of the first records that are narrowed, and by how much; not those that the first stages convert.

    ``source`` is the pipeline's; or, of a stream, which the pipeline has read on, one like it.
    """
    from datarax_core.records.narrowed import narrowed_fields  # noqa: PLC0415 - the pipeline has loaded JAX by now

    if not records:
        return {}
    return narrowed_fields(pipeline.first_records(source, min(records, _DRAWN)))
