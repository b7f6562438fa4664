"""Pydantic's search for plugins of its own, which a damaged distribution anywhere in the environment would stop."""

import os
import warnings
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Final

from pydantic import create_model

from datarax_core.errors import PluginWarning

DISABLE: Final = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}
"""Environment variable with which pydantic looks for no plugins of its own."""


def survive_damage() -> None:
    """Have pydantic do without plugins of its own if it cannot look for them, and warn of the damaged distributions.

    Pydantic looks when the first model is made, through ``importlib.metadata``, which parses the entry points of every
    distribution. It would find no plugin beside a damaged one, so that nothing is lost for the process or its children.
    """
    try:
        create_model("FirstModel")
    except Exception:  # any error of a parser
        damaged = list(unreadable(metadata.distributions()))
        if not damaged:  # a plugin of pydantic itself failed
            raise
        os.environ.update(DISABLE)
        for sentence in damaged:
            warnings.warn(PluginWarning(f"{sentence}; pydantic goes on without plugins of its own"), stacklevel=2)


def unreadable(distributions: Iterable[metadata.Distribution]) -> Iterator[str]:
    """Yield a sentence for each distribution whose entry points ``importlib.metadata`` cannot read."""
    for dist in distributions:
        try:
            tuple(dist.entry_points)
        except Exception as cause:  # noqa: BLE001 - any error of a parser
            yield (
                f"the entry_points.txt of {place_of(dist)} is damaged ({type(cause).__name__}: {cause}) and stops every "
                "library that looks for plugins; install that distribution again, or remove the folder"
            )


def place_of(dist: metadata.Distribution) -> str:
    """Return the folder of a distribution's metadata, whose name has the distribution's name and version."""
    return str(getattr(dist, "_path", None) or dist.locate_file(""))
