"""``drx plan``: what a config will serve, told before anything of it is read."""

from pathlib import Path

from ._cli_run import opened
from .config import load_config


def plan(path: Path) -> str:
    """Batches, records and epochs of a run, by child of a mixture.

    Raises:
        DataraxError, OSError: The config or the data it names cannot be used.
    """
    return opened(path, load_config(path))[0].plan()
