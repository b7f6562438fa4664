"""What is wrong with one plugin: a warning that it is left out, or an error where a process wants all or nothing."""

import os
import warnings
from typing import Final

from .errors import ConfigError, PluginError, PluginWarning

STRICT_VARIABLE: Final = "DATARAX_STRICT_PLUGINS"


def is_strict() -> bool:
    """Whether ``DATARAX_STRICT_PLUGINS=1`` says that a plugin which cannot be used is an error, wanted or not.

    Raises:
        ConfigError: The variable says neither that, nor (0, empty, unset) the opposite.
    """
    word = os.environ.get(STRICT_VARIABLE, "").strip()
    if word not in ("", "0", "1"):
        raise ConfigError(f"{STRICT_VARIABLE} is 1, or else 0, empty or not set; not {word!r}")
    return word == "1"


def leave_out(error: PluginError, consequence: str = "") -> None:
    """Warn of a plugin that is left out for this error, and what that means.

    Raises:
        PluginError: ``error`` itself, if the process is strict.
    """
    if is_strict():
        raise error
    warnings.warn(PluginWarning("; ".join(filter(None, [str(error), consequence]))), stacklevel=3)
