"""``drx plan``."""

from datarax_core._cli.opening import open_pipeline
from datarax_core._cli.options import Config, Debug
from datarax_core._cli.output import say
from datarax_core.config import load_config


def plan(config: Config, *, _debug: Debug = False) -> None:
    """Say what a config will serve, and of a mixture how much of each child; reads no record."""
    say(open_pipeline(config, load_config(config))[0].plan())
