"""Seconds of a pipeline: compilation apart from the stages."""

from collections.abc import Callable
from typing import Any

from datarax_core import Pipeline


def test_compilation_is_counted_apart_from_stages(make_source: Callable[..., Any]) -> None:
    def stage(batch: Any) -> Any:  # new, so that its program is
        return {**batch, "y": batch["x"] * 2}

    pipeline = Pipeline(source=make_source(20), batch_size=8, stages=[stage])
    assert len(list(pipeline)) == 3
    first = pipeline.stats()
    assert first["seconds_compiling"] > first["seconds_in_stages"] > 0
    list(pipeline)
    second = pipeline.stats()
    assert second["seconds_compiling"] == first["seconds_compiling"]
    assert second["seconds_in_stages"] > first["seconds_in_stages"]
