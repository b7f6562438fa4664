"""``drx run``: a run of a config, with its speed and route."""

from typing import TYPE_CHECKING, Annotated

import typer

from datarax_core._cli.guessing.choice import opened
from datarax_core._cli.opening import open_pipeline
from datarax_core._cli.options import MOST, ConfigOrData, Debug, Json, Kind
from datarax_core._cli.output import say, say_json
from datarax_core._cli.progress import INTERRUPTED, interrupts, progress
from datarax_core._cli.served import RunMeasurement, aligned

if TYPE_CHECKING:
    from datarax_core.pipeline.pipeline import Pipeline


def run(
    config: ConfigOrData,
    *,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Epochs to serve, instead of the config's.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=MOST, help="Stop after this many batches.")] = None,
    kind: Kind = None,
    as_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Serve the batches of a config, and show by which route they come, how fast, and where the time goes."""
    given = opened(config, kind)
    loaded = given.config
    if epochs is not None:
        loaded = loaded.model_copy(update={"num_epochs": epochs})
    pipeline, fields = open_pipeline(config, loaded)
    head = None if as_json else "\n".join([*filter(None, [given.text]), f"{pipeline.explain()}\n\n{aligned(fields)}\n"])
    served, finished = _served(pipeline, limit, head)
    if as_json:
        explained = {"config": str(config), "explain": pipeline.explain(), "fields": fields, "finished": finished}
        say_json({**given.as_dict(), **explained, **served.as_dict()})
    else:
        say(f"{'' if finished else 'interrupted: '}{served}")
    if not finished:
        raise typer.Exit(INTERRUPTED)


def _served(pipeline: "Pipeline", limit: int | None, head: str | None) -> tuple[RunMeasurement, bool]:
    """Print ``head``, serve the batches, and return the measurement, and False if the user interrupted it."""
    served, finished = RunMeasurement(pipeline), True
    try:
        with interrupts() as raise_lost, progress(_num_batches(pipeline, limit), "batches") as show:
            if head is not None:
                say(head)
            served.run(limit, lambda: show(served.batches, served.speed), raise_lost)
    except KeyboardInterrupt:
        finished = False
    served.stop()
    return served, finished


def _num_batches(pipeline: "Pipeline", limit: int | None) -> int | None:
    """Return the number of batches to serve; None if it is unknown."""
    try:
        length = len(pipeline)
    except (TypeError, OverflowError):  # it has no length, or more batches than Python counts
        return limit
    return length if limit is None else min(length, limit)
