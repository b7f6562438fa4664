"""``drx bench``: the speed of a config's pipeline against its source alone."""

from typing import Annotated, Any

import typer

from datarax_core._cli.guessing.choice import opened
from datarax_core._cli.opening import mistakes, open_pipeline, open_source
from datarax_core._cli.options import MOST, ConfigOrData, Debug, Json, Kind, finite
from datarax_core._cli.output import say, say_json
from datarax_core._cli.progress import interrupts, progress
from datarax_core._cli.served import aligned
from datarax_core._cli.timing import Spread, Timed, timed
from datarax_core.errors import ConfigError


def bench(
    config: ConfigOrData,
    *,
    seconds: Annotated[
        float, typer.Option(min=0.1, callback=finite, help="How long to serve batches, all repeats together.")
    ] = 5,
    repeats: Annotated[int, typer.Option(min=1, max=MOST, help="How often to measure.")] = 5,
    kind: Kind = None,
    as_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Measure how fast a config serves its batches, compared with its source alone, and where the time goes.

    Epoch follows epoch during the measurement. After each repeat a second source of the same config reads the same records,
    batch by batch on the host, in this process: its speed is the limit of the pipeline's. The batches are not used for
    anything. The first batch, which compiles, is reported separately.
    """
    given = opened(config, kind)
    loaded = given.config.model_copy(update={"num_epochs": None})
    pipeline, _ = open_pipeline(config, loaded)
    alone = open_source(config, loaded)
    with interrupts() as raise_lost, progress(repeats, "repeats") as show, mistakes(config, loaded):

        def note(done: int) -> None:
            raise_lost()
            show(done, "")

        found = timed(pipeline, alone, seconds=seconds, repeats=repeats, note=note)
    if not found.repeats:
        raise ConfigError(f"{config}: the source ends before anything can be measured; it needs more records than that")
    if as_json:
        say_json({"config": str(config), **given.as_dict(), **_as_dict(found, pipeline.batch_sizes.fingerprint())})
    else:
        if given.text:
            say(given.text)
        say(f"{pipeline.explain()}\n\n{_as_text(found, repeats)}")


def _as_dict(found: Timed, batch_size: Any) -> dict[str, Any]:
    def spread(values: Spread, scale: float = 1.0) -> dict[str, float]:
        return {"median": values.median * scale, "min": values.low * scale, "max": values.high * scale}

    megabytes = found.record_bytes / 1e6
    return {
        "batch_size": batch_size,
        "repeats": len(found.repeats),
        "batches_per_repeat": found.batches,
        "seconds_first_batch": found.first_batch,
        "records_per_second": spread(found.pipeline),
        "megabytes_per_second": spread(found.pipeline, megabytes),
        "source_records_per_second": spread(found.source),
        "source_megabytes_per_second": spread(found.source, megabytes),
        "ratio": spread(found.ratio),
        "noise": max(found.pipeline.noise, found.source.noise),
        "share_of_time": {name.removeprefix("seconds_"): share for name, share in found.where.items()},
    }


def _as_text(found: Timed, wanted: int) -> str:
    megabytes = found.record_bytes / 1e6
    speeds = {
        name: f"{speed.median:>13,.0f} records/s {speed.median * megabytes:>11,.1f} MB/s   "
        f"{speed.low:,.0f} .. {speed.high:,.0f} records/s"
        for name, speed in {"pipeline": found.pipeline, "source alone": found.source}.items()
    }
    ratio = found.ratio
    speeds["ratio"] = f"{ratio.median:>13.2f}{'':>28}   {ratio.low:.2f} .. {ratio.high:.2f}"
    where = {f"  {_PLACES[name]}": f"{share:4.0%}" for name, share in found.where.items()}
    measured = f"{len(found.repeats)} repeat{'' if len(found.repeats) == 1 else 's'} of {found.batches:,} batches"
    early = "" if len(found.repeats) == wanted else f", {wanted} were wanted, but the source ended"
    return "\n".join(
        [
            f"first batch: {found.first_batch:.2f} s, compiling included; it is not counted below",
            f"{measured}{early}; the median, and the lowest and the highest:\n",
            aligned(speeds),
            "\nof the pipeline's time:",
            aligned(where),
            f"\n{_noise(found)}",
        ]
    )


_PLACES = {
    "seconds_waiting": "waiting for data",
    "seconds_in_source": "in source, in the background where batches are read ahead",
    "seconds_in_transfer": "in transfer, in the background where batches are read ahead",
    "seconds_in_stages": "in stages: to dispatch them, which run on",
    "seconds_compiling": "compiling: steps that no earlier batch had compiled",
}


def _noise(found: Timed) -> str:
    """Return the sentence on noise: which differences between the figures are larger than it."""
    if len(found.repeats) == 1:
        return "one repeat says nothing about noise; take more"
    noise = max(found.pipeline.noise, found.source.noise)
    verdict = (
        "this run does not show whether the pipeline or the source alone is faster"
        if found.ratio.low <= 1 <= found.ratio.high
        else f"that the pipeline is {'slower' if found.ratio.high < 1 else 'faster'} than the source alone is no noise"
    )
    return (
        f"noise: the repeats of one thing lie up to {noise:.0%} of the median apart; a difference between two runs that is "
        f"smaller than that says nothing; {verdict}"
    )
