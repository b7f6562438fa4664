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
    from .registry import SourceInfo

_DEBUG: Final = "datarax.debug"
_INTERRUPTED: Final = 130
_NO_SOURCES: Final = "no sources are installed; pip install datarax-memory, or another plugin"


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


@app.command()
def sources(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    _debug: _Debug = False,
) -> None:
    """List the installed sources. Imports none of them."""
    from .registry import SourceRegistry  # noqa: PLC0415

    infos = SourceRegistry.from_environment().describe()
    if as_json:
        typer.echo(json.dumps([asdict(info) for info in infos], indent=2))
    elif infos:
        _print_table(infos)
    else:
        typer.echo(_NO_SOURCES)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="The pipeline's config: YAML, TOML or JSON.", metavar="CONFIG")],
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
    config: Annotated[Path, typer.Argument(help="The pipeline's config: YAML, TOML or JSON.", metavar="CONFIG")],
    *,
    _debug: _Debug = False,
) -> None:
    """Say what a config will serve, and of a mixture how much of each child; reads no record."""
    from ._cli_plan import plan as planned  # noqa: PLC0415

    typer.echo(planned(config))


def _print_table(infos: "list[SourceInfo]") -> None:
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
