"""``drx convert``: the records of a config's source, written to files of another type."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datarax_core._cli.completion import decoder_names, source_names
from datarax_core._cli.guessing.choice import opened
from datarax_core._cli.opening import mistakes, open_source
from datarax_core._cli.options import ConfigOrData, Debug, Json, Kind
from datarax_core._cli.output import say, say_json
from datarax_core._cli.progress import interrupts, progress
from datarax_core.config.addresses import without_file_scheme
from datarax_core.registry.sources import SourceRegistry

if TYPE_CHECKING:
    from datarax_core.sources.blocks import Written
    from datarax_core.sources.source import DataSourceModule


def convert(
    config: ConfigOrData,
    out: Annotated[Path, typer.Argument(help="Where to write, such as out/train.array_record.", metavar="OUT")],
    *,
    to: Annotated[
        str,
        typer.Option(metavar="TYPE", help="The type of the source that reads the files.", autocompletion=source_names),
    ] = "arrayrecord",
    shards: Annotated[int, typer.Option(min=1, help="Number of files, of about as many records each.")] = 1,
    decoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The format of a record, see drx decoders; a suitable one if left out.",
            autocompletion=decoder_names,
        ),
    ] = None,
    compression: Annotated[str | None, typer.Option(help="Such as zstd, zstd:9 or uncompressed.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    kind: Kind = None,
    as_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Write the records of a config's source to files for a source of another type, and print the config that reads them.

    Every record is written once, in the order of the record indices; records of a stream in the stream's order. Stages and
    the config's settings of batches are not applied.
    """
    out = Path(without_file_scheme(str(out)))
    options = {"shards": shards, "decoder": decoder, "compression": compression, "overwrite": overwrite}
    given, target = opened(config, kind), SourceRegistry.from_environment().get(to)
    source = open_source(config, given.config)
    if not as_json and given.text:
        say(given.text)
    began = time.perf_counter()
    written = _written(target, source, config, str(out), options)
    changes = written.changes or _changes(written, source, config)
    seconds, substituted = time.perf_counter() - began, source.get_operation_stats()["skipped_count"]
    reading = _source_block(written, out, config.absolute().parent)
    if as_json:
        counted = {"records": written.num_records, "bytes": written.nbytes, "records_substituted": substituted}
        say_json(
            {"paths": written.paths, **counted, "seconds": seconds, "changes": changes, **given.as_dict(), **reading}
        )
        return
    say(f"{_summary(written)} in {seconds:.2f} s")
    if substituted:
        say(f"{substituted:,} of them are substitutes for records that cannot be read")
    for change in changes:
        say(f"note: {change}; the values are equal")
    import yaml  # noqa: PLC0415 - only text needs it

    text = yaml.safe_dump(reading, sort_keys=False, default_flow_style=None, width=1000).rstrip()
    say(f"\nto read them, in a config next to {config.name}:\n\n{text}")


def _written(
    kind: "type[DataSourceModule]", source: "DataSourceModule", config: Path, out: str, options: dict[str, Any]
) -> "Written":
    from datarax_core.sources.blocks import WritesRecords  # noqa: PLC0415 - by now loaded, with JAX

    began = time.perf_counter()
    with interrupts() as raise_lost, progress(source.epoch_length, "records") as show, mistakes(config):

        def note(records: int) -> None:
            raise_lost()
            show(records, f"{records / (time.perf_counter() - began):,.0f} records/s")

        if not issubclass(kind, WritesRecords):
            raise NotImplementedError(
                f"{kind.__name__} cannot write the records of {source.title} to {out}: it does not define write_records(); "
                "choose a type that does, such as arrayrecord"
            )
        return kind.write_records(out, source, progress=note, **options)


def _changes(written: "Written", source: "DataSourceModule", config: Path) -> tuple[str, ...]:
    """Return how the first and last record that are read back differ in dtype from the source's; of a stream, nothing."""
    if source.access == "stream" or not written.num_records:
        return ()
    import numpy as np  # noqa: PLC0415 - by now loaded, with JAX

    from datarax_core.pipeline.build import build_source  # noqa: PLC0415
    from datarax_core.record_files.read_back import changes_of  # noqa: PLC0415

    ends = np.asarray([0, written.num_records - 1])
    with mistakes(config), build_source(written.config) as opened:
        return changes_of(source.fetch_on_host(ends), opened.fetch_on_host(ends), f"the type {written.config.type!r}")


def _summary(written: "Written") -> str:
    first, last = written.paths[0], written.paths[-1]
    files = first if first == last else f"{first} ... {last}"
    return f"{files}: {written.num_records:,} records, {written.nbytes / 1e6:,.1f} MB"


def _source_block(written: "Written", out: Path, folder: Path) -> dict[str, Any]:
    """Return the ``source:`` block of a config in ``folder``; paths inside the folder are relative to it."""
    place = out.absolute()
    shown = place.relative_to(folder) if place.is_relative_to(folder) else place
    fields = {"type": written.config.type, **written.config.model_dump(mode="json", exclude_defaults=True)}
    return {"source": {name: _moved(value, str(out), str(shown)) for name, value in fields.items()}}


def _moved(value: Any, old: str, new: str) -> Any:
    if isinstance(value, list):
        return [_moved(item, old, new) for item in value]
    return new + value.removeprefix(old) if isinstance(value, str) and value.startswith(old) else value
