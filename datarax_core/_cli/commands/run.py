"""``drx run``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datarax_core._cli.opening import open_pipeline
from datarax_core._cli.options import Config, Debug
from datarax_core._cli.output import say
from datarax_core._cli.progress import INTERRUPTED, interrupts, progress
from datarax_core._cli.served import Served, aligned
from datarax_core.config import load_config

if TYPE_CHECKING:
    from datarax_core.pipeline import Pipeline


def run(
    config: Config,
    *,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs to serve, instead of the config's.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many batches.")] = None,
    _debug: Debug = False,
) -> None:
    """Serve the batches of a config, and say how fast they come and what waits for them."""
    if not _serve(config, epochs=epochs, limit=limit):
        raise typer.Exit(INTERRUPTED)


def _serve(path: Path, *, epochs: int | None, limit: int | None) -> bool:
    """Print what the pipeline is and what its records look like, serve its batches, and print a summary.

    Returns:
        False if the user interrupted it, which stops it early but prints the summary all the same.
    """
    config = load_config(path)
    if epochs is not None:
        config = config.model_copy(update={"num_epochs": epochs})
    pipeline, fields = open_pipeline(path, config)
    served = Served(pipeline)
    finished = True
    try:
        with interrupts() as raise_lost, progress(_num_batches(pipeline, limit), "batches") as show:
            say(f"{pipeline.explain()}\n\n{aligned(fields)}\n")
            served.run(limit, lambda: show(served.batches, served.speed), raise_lost)
    except KeyboardInterrupt:
        finished = False
    served.stop()
    say(f"{'' if finished else 'interrupted: '}{served}")
    return finished


def _num_batches(pipeline: "Pipeline", limit: int | None) -> int | None:
    """How many batches will be served; None if nobody can say."""
    try:
        length = len(pipeline)
    except TypeError:
        return limit
    return length if limit is None else min(length, limit)
