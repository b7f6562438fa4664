"""Whose bug a failure is that nobody raised on purpose."""

from collections.abc import Iterator
from traceback import walk_tb
from typing import Final

from datarax_core.extensions.discovery import GROUPS, Environment, Installed

_OURS: Final = "datarax_core"  # which brings stages, but is no plugin


def blamed(failure: BaseException) -> str | None:
    """A message that names the plugin that was running when it failed, and where; None if no plugin was.

    It is the plugin of the innermost frame that lies in the package of any, in the failure itself or in what caused it.
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
    """The package that a plugin is imported from."""
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
