"""The command line: the table of commands, and the messages and exit codes with which commands end.

A user's mistake is one message on stderr and exit code 1. An error that a plugin raises, and that is not one of datarax's own
errors, is one message too: it names the plugin, and ``--debug`` adds the traceback for the plugin's authors. Any other failure
is a bug of datarax, and always shows its traceback.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from datarax_core.errors import DataraxError
from datarax_core.extensions.defaults import set_aside
from datarax_core.extensions.places import OPTION, given_places, handed_on, places_for_drx

from .options import DEBUG, Debug, Plugins, Version
from .output import complain, own_stdout
from .progress import INTERRUPTED

COMMANDS: Final = (
    *("sources", "stages", "decoders", "plugins", "describe", "check", "install", "uninstall"),
    *("validate", "schema", "plan", "peek", "run", "bench"),
    *("verify", "convert", "new"),
)
"""Names of the commands in the order of the help: about installed plugins, configs, data, and for authors."""


class _Commands(Mapping[str, Any]):
    """Commands by name; each is imported and built on first use."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        module = import_module(f".commands.{name}", __package__)
        alone = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
        alone.command(name, cls=getattr(module, "COMMAND", TyperCommand))(_with_own_stdout(getattr(module, name)))
        return typer.main.get_command(alone)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Group(TyperGroup):
    """Group of commands that reports any failure of a command as one message."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return list(COMMANDS)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _named_plugins(ctx.params.get("plugins") or ()):
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):  # the last: the reader of the output ended, as `head` does
            raise
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except (Exception, SystemExit) as failure:
            if getattr(failure, "option_name", "") == OPTION:  # an error of click, in which typer has a copy of its own
                hint = f"; write it before the command: drx {OPTION} PLACE {ctx.invoked_subcommand} ..."
                vars(failure)["message"] = f"No such option: {OPTION}{hint}"
            message = _message(failure)
            if message is None or ctx.meta.get(DEBUG):
                raise
            complain(message)
            raise typer.Exit(1) from None


@contextmanager
def _named_plugins(words: Sequence[str]) -> Iterator[None]:
    """Use the plugins of these words, and of ``pyproject.toml``, for the time of a ``with`` block, in child processes too.

    Raises:
        ConfigError: ``[tool.datarax]`` of ``pyproject.toml`` cannot be read, or is wrong.
        PluginNotFoundError: A word names neither a file that is there, nor a module.
    """
    places = places_for_drx(words)
    if not places:
        yield
        return
    with handed_on(places), set_aside():
        for place in given_places():
            place.check()
        yield


def _with_own_stdout(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def command(**arguments: Any) -> None:
        with own_stdout():
            function(**arguments)

    return command


def _message(failure: BaseException) -> str | None:
    """Return the message for the user; None for a bug of datarax."""
    if isinstance(failure, OSError) and failure.filename is not None and failure.strerror is not None:
        return f"{failure.filename}: {failure.strerror}"
    from .blame import blamed, notes_of  # noqa: PLC0415 - imports what only failures need

    if isinstance(failure, DataraxError | OSError):
        return "\n".join([str(failure) or repr(failure), *notes_of(failure)])
    return blamed(failure)


app = typer.Typer(cls=_Group, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _options(*, plugins: Plugins = None, _version: Version = False, _debug: Debug = False) -> None:
    """Data for JAX training code: look at the installed sources, run a pipeline's config."""
