"""Host stages joined with the one that follows: the same batches, without the columns between them."""

from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline, from_sequence
from datarax_core.records import ElementSpec


class Doubled:
    """A host stage that is joined with `Shifted`, and counts the columns that it makes."""

    on_host = True
    columns = 0

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        return spec

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        Doubled.columns += 1
        return {"x": batch["x"] * 2}

    def join(self, following: Any) -> Any:
        return Joined(following) if isinstance(following, Shifted) else None


class Shifted:
    on_host = True
    stochastic = True

    def element_spec(self, spec: ElementSpec) -> ElementSpec:
        return spec

    def __call__(self, batch: dict[str, np.ndarray], rngs: Any) -> dict[str, np.ndarray]:
        if (batch["x"] > 12).any():
            raise ValueError("too large")
        return {"x": batch["x"] + np.array([rng.integers(1000, dtype=np.int32) for rng in rngs])}


class Joined:
    on_host = True
    stochastic = True
    name = "doubled + shifted"

    def __init__(self, then: Shifted) -> None:
        self.then = then

    def __call__(self, batch: dict[str, np.ndarray], rngs: Any) -> dict[str, np.ndarray]:
        return self.then({"x": batch["x"] * 2}, rngs)


class Unjoined(Doubled):
    join = None  # type: ignore[assignment]


def _pipeline(*stages: Any, records: int = 6) -> Pipeline:
    source = from_sequence([{"x": np.int32(number)} for number in range(records)])
    return Pipeline(source=source, stages=list(stages), batch_size=4, rngs=nnx.Rngs(0))


def _batches(pipeline: Pipeline) -> list[list[int]]:
    return [np.asarray(batch["x"]).tolist() for batch in pipeline]


def test_joined_stages_serve_what_they_serve_one_after_another() -> None:
    Doubled.columns = 0
    joined = _batches(_pipeline(Doubled(), Shifted()))
    assert Doubled.columns == 0
    assert joined == _batches(_pipeline(Unjoined(), Shifted()))
    assert Doubled.columns == 2
    pipeline = _pipeline(Doubled(), Shifted())
    assert np.asarray(pipeline.step()["x"]).tolist() == joined[0]


def test_a_stage_that_is_not_joined_runs_by_itself() -> None:
    Doubled.columns = 0
    assert _batches(_pipeline(Doubled(), Doubled())) == [[0, 4, 8, 12], [16, 20]]
    assert Doubled.columns == 4


def test_an_error_names_both_stages() -> None:
    with pytest.raises(ValueError, match="too large") as raised:
        _batches(_pipeline(Doubled(), Shifted(), records=8))
    assert any("stage 1 (doubled + shifted)" in note for note in raised.value.__notes__)
