"""How far records fade, and what is refused."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from acme_fade import AcmeFade
from datarax_core import Pipeline, StageError, from_sequence

RECORDS = [{"x": np.full(3, 8.0, np.float32)} for _ in range(200)]


def faded(**fields: Any) -> np.ndarray:
    pipeline = Pipeline(
        source=from_sequence(RECORDS), stages=[AcmeFade(field="x", **fields)], batch_size=200, rngs=nnx.Rngs(0)
    )
    return np.asarray(next(iter(pipeline))["x"])


def test_each_record_fades_by_one_part_from_least_to_one() -> None:
    values = faded(least=0.25)
    assert (values == values[:, :1]).all()
    parts = values[:, 0] / 8
    assert parts.min() >= 0.25
    assert parts.max() < 1
    assert (parts.min(), parts.max(), parts.mean()) == pytest.approx((0.25, 1, 0.625), abs=0.05)


def test_records_fade_to_a_value() -> None:
    values = faded(least=0.0, to=10.0)
    assert ((values > 8) & (values <= 10)).all()
    assert len(np.unique(values)) > 150


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_the_dtype_stays(dtype: Any) -> None:
    source = from_sequence([{"x": np.ones(3, dtype)}])
    pipeline = Pipeline(source=source, stages=[AcmeFade(field="x")], batch_size=1, rngs=nnx.Rngs(0))
    assert pipeline.element_spec()["x"].dtype == dtype


def test_integers_are_refused_with_what_to_do() -> None:
    source = from_sequence([{"x": np.ones(3, np.uint8)}])
    message = "stages[0].field: field 'x' is uint8, in which a part of a value has no place; make floats of it before"
    with pytest.raises(StageError, match=re.escape(message)):
        Pipeline(source=source, stages=[AcmeFade(field="x")], batch_size=1, rngs=nnx.Rngs(0))


def test_values_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"least\n.* less than 1"):
        AcmeFade(field="x", least=1.0)
    with pytest.raises(ValueError, match=r"to\n.* finite"):
        AcmeFade(field="x", to=float("nan"))
