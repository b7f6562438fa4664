"""``drx plan``: the batches and records that a config will serve."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from datarax_core._cli.guessing.choice import opened
from datarax_core._cli.opening import open_pipeline
from datarax_core._cli.options import ConfigOrData, Debug, Json, Kind
from datarax_core._cli.output import say, say_json

if TYPE_CHECKING:
    from datarax_core.pipeline.pipeline import Pipeline


def plan(config: ConfigOrData, *, kind: Kind = None, as_json: Json = False, _debug: Debug = False) -> None:
    """Show how many batches and records a config will serve, for a mixture those of each child; reads no record."""
    given = opened(config, kind)
    pipeline, fields = open_pipeline(config, given.config)
    if as_json:
        say_json({**_as_dict(config, pipeline, fields), **given.as_dict()})
    else:
        say("\n".join(filter(None, [given.text, pipeline.plan()])))


def _as_dict(config: Path, pipeline: "Pipeline", fields: dict[str, str]) -> dict[str, Any]:
    """Return the plan by name; counts of an endless run, or of a stream without a length, are None."""
    from datarax_core.pipeline.explain import stages_of_run  # noqa: PLC0415 - the pipeline has loaded it by now
    from datarax_core.sources.description import view_lines  # noqa: PLC0415

    source, rule = pipeline.source, pipeline.rule
    length = source.epoch_length
    run_length, sizes = rule.run_length(length), pipeline.batch_sizes
    views = view_lines(source)
    stages = [stage._asdict() for stage in stages_of_run(rule, 0, run_length)]
    return {
        "config": str(config),
        "plan": pipeline.plan(),
        "fields": fields,
        "batch_size": sizes.fingerprint(),
        "num_epochs": rule.num_epochs,
        "records_per_epoch": length,
        "records": run_length,
        "batches": None if run_length is None else len(pipeline),
        **({"views": views} if views else {}),
        **({"stages_of_batch_size": stages} if stages else {}),
        **({} if run_length is None else source.stats_at(run_length)),
    }
