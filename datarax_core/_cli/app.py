"""The command line as a whole: which commands there are, and how they end.

A mistake of the user is one message on stderr and exit code 1; ``--debug`` adds the traceback. Anything else that fails is
a bug, and shows its traceback always.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

from datarax_core.errors import DataraxError

from .options import DEBUG, Debug, Version
from .progress import INTERRUPTED

COMMANDS: Final = ("sources", "decoders", "plan", "run", "verify", "convert")
"""In the order of the help: what is installed, configs, data, authors."""


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported and built when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        function = getattr(import_module(f".commands.{name}", __package__), name)
        alone = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
        alone.command(name)(function)
        return typer.main.get_command(alone)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Group(TyperGroup):
    """Turns a user's mistake, in whichever command, into one message."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return list(COMMANDS)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output went away, as head does; typer ends quietly
            raise
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except (DataraxError, OSError) as mistake:
            if ctx.meta.get(DEBUG):
                raise
            typer.echo(_text(mistake), err=True)
            raise typer.Exit(1) from None


def _text(mistake: Exception) -> str:
    if isinstance(mistake, OSError) and mistake.filename is not None:
        return f"{mistake.filename}: {mistake.strerror}"
    return str(mistake) or repr(mistake)


app = typer.Typer(
    cls=_Group, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
)


@app.callback()
def _options(*, _version: Version = False, _debug: Debug = False) -> None:
    """Data for JAX training code: look at the installed sources, run a pipeline's config."""
