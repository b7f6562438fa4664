"""``drx convert``."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from datarax_core._cli.opening import mistakes, open_source
from datarax_core._cli.options import Config, Debug
from datarax_core._cli.output import say
from datarax_core._cli.progress import interrupts, progress
from datarax_core.config import load_config
from datarax_core.registry import SourceRegistry
from datarax_core.writing import Written


def convert(
    config: Config,
    out: Annotated[Path, typer.Argument(help="Where to write, such as out/train.array_record.", metavar="OUT")],
    *,
    to: Annotated[str, typer.Option(metavar="TYPE", help="The type of the source that reads it.")] = "arrayrecord",
    shards: Annotated[int, typer.Option(min=1, help="Files of about as many records each.")] = 1,
    decoder: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The format of a record, see drx decoders; one that fits if left out."),
    ] = None,
    compression: Annotated[str | None, typer.Option(help="Such as zstd, zstd:9 or uncompressed.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    _debug: Debug = False,
) -> None:
    """Write the records of a config's source to files for a source of another type, and say how to read them.

    Every record is written once, in the order of the record indices; a stream's in the order that it serves. Stages, and what
    else the config says about batches, are not applied.
    """
    options = {"shards": shards, "decoder": decoder, "compression": compression, "overwrite": overwrite}
    _convert(config, out, to=to, **options)


def _convert(path: Path, out: Path, *, to: str, **options: Any) -> None:
    """Write the records, and print what was written and how to read it; ``options`` are those of `write_records`."""
    config = load_config(path)
    kind = SourceRegistry.from_environment().get(to)
    source = open_source(path, config)
    began = time.perf_counter()
    with interrupts() as raise_lost, progress(source.epoch_length, "records") as show, mistakes(path):

        def note(records: int) -> None:
            raise_lost()
            show(records, f"{records / (time.perf_counter() - began):,.0f} records/s")

        written = kind.write_records(str(out), source, progress=note, **options)
    say(f"{_summary(written)} in {time.perf_counter() - began:.2f} s")
    if substituted := source.get_operation_stats()["skipped_count"]:
        say(f"{substituted:,} of them are others in place of records that cannot be read")
    say(f"\nto read them, in a config beside {path.name}:\n\n{_source_block(written, out, path.absolute().parent)}")


def _summary(written: Written) -> str:
    first, last = written.paths[0], written.paths[-1]
    files = first if first == last else f"{first} ... {last}"
    return f"{files}: {written.num_records:,} records, {written.nbytes / 1e6:,.1f} MB"


def _source_block(written: Written, out: Path, folder: Path) -> str:
    """The ``source:`` of a config in a folder, with paths relative to it where they lie in it."""
    place = out.absolute()
    shown = place.relative_to(folder) if place.is_relative_to(folder) else place
    fields = {"type": written.config.type, **written.config.model_dump(mode="json", exclude_defaults=True)}
    moved = {name: _moved(value, str(out), str(shown)) for name, value in fields.items()}
    return yaml.safe_dump({"source": moved}, sort_keys=False, default_flow_style=None, width=1000).rstrip()


def _moved(value: Any, old: str, new: str) -> Any:
    if isinstance(value, list):
        return [_moved(item, old, new) for item in value]
    return new + value.removeprefix(old) if isinstance(value, str) and value.startswith(old) else value
