"""Attribution of unexpected failures: the plugin whose code was running."""

from collections.abc import Iterator
from traceback import walk_tb
from typing import Final

from datarax_core.extensions.discovery import GROUPS, Environment, Installed

_OURS: Final = "datarax_core"  # it provides stages by entry points, but is not a plugin


def blamed(failure: BaseException) -> str | None:
    """Return a message that names the plugin in whose code ``failure`` was raised, with module and line; None if there is none.

    The innermost frame that lies in the package of a plugin decides, in the traceback of ``failure`` or of its causes.
    """
    environment = Environment.now()
    plugins = {_package_of(entry): entry for group in GROUPS for entry in environment.entries(group)}
    for error in _causes(failure):
        for frame, line in reversed(list(walk_tb(error.__traceback__))):
            module = frame.f_globals.get("__name__") or ""
            package = module.partition(".")[0]
            plugin = plugins.get(package) if package != _OURS else None
            if plugin is not None:
                return _message(failure, plugin, f"{module}, line {line}")
    return None


def _package_of(entry: Installed) -> str:
    """Return the top-level package that a plugin is imported from."""
    return entry.target.partition(":")[0].partition(".")[0].strip()


def _causes(failure: BaseException) -> Iterator[BaseException]:
    error: BaseException | None = failure
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _message(failure: BaseException, plugin: Installed, place: str) -> str:
    what = f"exit with {failure.code!r}" if isinstance(failure, SystemExit) else f"{type(failure).__name__}: {failure}"
    lines = [f"{plugin.origin} failed in {place}: {what}", *getattr(failure, "__notes__", ())]
    remedy = f"this is a bug of {plugin.dist} or of what it uses; --debug shows the traceback, for its authors"
    return "\n".join([*lines, remedy])
