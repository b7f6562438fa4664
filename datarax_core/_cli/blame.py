"""Attribution of unexpected failures: the plugin whose code was running."""

from collections.abc import Iterator
from importlib import metadata
from traceback import walk_tb
from typing import Final

from datarax_core.config.pydantic_scan import unreadable
from datarax_core.extensions.discovery import Installed, plugins_by_package

_NOTE_OF_JAX: Final = "JAX has removed its internal frames"


def blamed(failure: BaseException) -> str | None:
    """Return a message that names the plugin in whose code ``failure`` was raised, with module and line; None if there is none.

    The innermost frame that lies in the package of a plugin decides, in the traceback of ``failure`` or of its causes.
    """
    plugins = plugins_by_package()
    for error in _causes(failure):
        for frame, line in reversed(list(walk_tb(error.__traceback__))):
            module = frame.f_globals.get("__name__") or ""
            plugin = plugins.get(module.partition(".")[0])
            if plugin is not None:
                return _message(failure, plugin, f"{module}, line {line}")
    return damage_behind(failure)


def damage_behind(failure: BaseException) -> str | None:
    """Return a message that names the damaged distributions, if ``failure`` came up while their metadata were parsed."""
    frames = [frame for error in _causes(failure) for frame, _ in walk_tb(error.__traceback__)]
    if not any((frame.f_globals.get("__name__") or "").startswith("importlib.metadata") for frame in frames):
        return None
    return "\n".join(unreadable(metadata.distributions())) or None


def notes_of(failure: BaseException) -> list[str]:
    """Return the notes on an error, but for JAX's note on the frames that it removed from the traceback."""
    return [note for note in getattr(failure, "__notes__", ()) if _NOTE_OF_JAX not in note]


def _causes(failure: BaseException) -> Iterator[BaseException]:
    error: BaseException | None = failure
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _message(failure: BaseException, plugin: Installed, place: str) -> str:
    what = f"exit with {failure.code!r}" if isinstance(failure, SystemExit) else f"{type(failure).__name__}: {failure}"
    lines = [f"{plugin.origin} failed in {place}: {what}", *notes_of(failure)]
    remedy = f"this is a bug of {plugin.dist} or of what it uses; --debug shows the traceback, for its authors"
    return "\n".join([*lines, remedy])
