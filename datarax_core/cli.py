"""``drx``: what is installed, and how fast a config serves its batches.

A mistake of the user is one message on stderr and exit code 1; ``--debug`` adds the traceback. Anything else that fails
is a bug, and shows its traceback always. What a command needs is imported when it runs: listing loads no JAX.
"""

import json
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from .errors import DataraxError

if TYPE_CHECKING:
    from .registry import PluginInfo, PluginRegistry

_DEBUG: Final = "datarax.debug"
_INTERRUPTED: Final = 130


class _Commands(TyperGroup):
    """Turns a user's mistake, in whichever command, into one message."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output went away, as head does; typer ends quietly
            raise
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None
        except (DataraxError, OSError) as mistake:
            if ctx.meta.get(_DEBUG):
                raise
            typer.echo(_text(mistake), err=True)
            raise typer.Exit(1) from None


def _text(mistake: Exception) -> str:
    if isinstance(mistake, OSError) and mistake.filename is not None:
        return f"{mistake.filename}: {mistake.strerror}"
    return str(mistake) or repr(mistake)


def _remember_debug(ctx: typer.Context, value: bool) -> None:  # noqa: FBT001 - typer's signature
    if value:
        ctx.meta[_DEBUG] = True


def _print_version(value: bool) -> None:  # noqa: FBT001 - typer's signature
    if value:
        typer.echo(f"datarax-core {metadata.version('datarax-core')}")
        raise typer.Exit


_Debug = Annotated[
    bool, typer.Option("--debug", callback=_remember_debug, is_eager=True, help="Show the traceback of a mistake.")
]
_Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
]

app = typer.Typer(
    cls=_Commands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
)


@app.callback()
def _options(*, _version: _Version = False, _debug: _Debug = False) -> None:
    """Data for JAX training code: look at the installed sources, run a pipeline's config."""


_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
_Config = Annotated[Path, typer.Argument(help="The pipeline's config: YAML, TOML or JSON.", metavar="CONFIG")]


@app.command()
def sources(*, as_json: _Json = False, _debug: _Debug = False) -> None:
    """List the installed sources. Imports none of them."""
    from .registry import SourceRegistry  # noqa: PLC0415

    _list(SourceRegistry.from_environment(), as_json=as_json, install="datarax-memory")


@app.command()
def decoders(*, as_json: _Json = False, _debug: _Debug = False) -> None:
    """List the installed decoders, which make arrays of the bytes of records. Imports none of them."""
    from .decoders import DecoderRegistry  # noqa: PLC0415

    _list(DecoderRegistry.from_environment(), as_json=as_json, install="datarax-arrayrecord")


@app.command()
def stages(*, as_json: _Json = False, _debug: _Debug = False) -> None:
    """List the installed stages, which a config applies to each batch. Imports none of them."""
    from .stages import StageRegistry  # noqa: PLC0415

    _list(StageRegistry.from_environment(), as_json=as_json, install="datarax-core")


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="The name of a source, a stage or a decoder.", metavar="NAME")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    _debug: _Debug = False,
) -> None:
    """Say what can be set on a source, stage or decoder: fields, types, defaults, and an example."""
    from ._cli_describe import describe  # noqa: PLC0415

    describe(name, as_json=as_json)


@app.command()
def validate(
    configs: Annotated[list[Path], typer.Argument(help="Pipelines' configs: YAML, TOML or JSON.", metavar="CONFIG...")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    _debug: _Debug = False,
) -> None:
    """Say everything that is wrong with configs, with file and line; looks at no data, and fails if anything is."""
    from ._cli_validate import validate  # noqa: PLC0415

    if not validate(configs, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def schema(
    *,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write it; else it is printed.")] = None,
    _debug: _Debug = False,
) -> None:
    """Write the JSON Schema of configs, with all that is installed, for completion in editors."""
    from ._cli_schema import write_schema  # noqa: PLC0415

    write_schema(out)


@app.command()
def run(
    config: _Config,
    *,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs to serve, instead of the config's.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many batches.")] = None,
    _debug: _Debug = False,
) -> None:
    """Serve the batches of a config, and say how fast they come and what waits for them."""
    from ._cli_run import serve  # noqa: PLC0415

    if not serve(config, epochs=epochs, limit=limit):
        raise typer.Exit(_INTERRUPTED)


@app.command()
def plan(
    config: _Config,
    *,
    _debug: _Debug = False,
) -> None:
    """Say what a config will serve, and of a mixture how much of each child; reads no record."""
    from ._cli_plan import plan as planned  # noqa: PLC0415

    typer.echo(planned(config))


@app.command()
def convert(
    config: _Config,
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
    _debug: _Debug = False,
) -> None:
    """Write the records of a config's source to files for a source of another type, and say how to read them.

    Every record is written once, in the order of the record indices; a stream's in the order that it serves. Stages, and what
    else the config says about batches, are not applied.
    """
    from ._cli_convert import convert  # noqa: PLC0415

    convert(config, out, to=to, shards=shards, decoder=decoder, compression=compression, overwrite=overwrite)


@app.command()
def verify(
    config: _Config,
    *,
    quarantine: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The list that bad records are added to.", show_default="CONFIG.quarantine.jsonl"
        ),
    ] = None,
    _debug: _Debug = False,
) -> None:
    """Read every record of a config's source once; print and list those that cannot be read, and fail if there are any.

    The list is JSON lines of file, record and cause. A source that takes such a list as 'exclude' never serves those records.
    """
    from ._cli_verify import verify  # noqa: PLC0415

    if not verify(config, quarantine=quarantine):
        raise typer.Exit(1)


def _list(registry: "PluginRegistry[Any]", *, as_json: bool, install: str) -> None:
    infos = registry.describe()
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in infos], indent=2))
    elif infos:
        _print_table(infos)
    else:
        typer.echo(f"no {registry.kind.word}s are installed; pip install {install}, or another plugin")


def _print_table(infos: "list[PluginInfo]") -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [(info.name, info.status, info.distribution, info.version, info.detail) for info in infos]
    columns = ["name", "status", "distribution", "version"] + ["detail"] * any(info.detail for info in infos)
    for column in columns:
        table.add_column(column, no_wrap=column != "detail", overflow="fold")
    for row in rows:
        table.add_row(*row[: len(columns)])
    width = None if sys.stdout.isatty() else max(sum(map(len, row)) for row in rows) + 80  # a file is never wrapped
    console = Console(markup=False, highlight=False, emoji=False, width=width)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())  # rich pads the last column as well
