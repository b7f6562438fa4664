"""Core's compiled stages, and awkward right ones, keep the promises of every stage."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import Cast, OneHot, Rename, Rescale, Select
from datarax_core.testing import Shows, StageConformance

ROWS = 11
DRAWN = np.random.default_rng(0)
RECORDS = {
    "x": np.arange(ROWS, dtype=np.uint8) * 20,
    "label": np.arange(ROWS) % 4,
    "f": DRAWN.normal(size=(ROWS, 3)).astype(np.float32),
    "inner": {"text": [f"text {row}" for row in range(ROWS)], "big": np.arange(ROWS)},
}


@pytest.fixture(scope="module", autouse=True)
def _compiled_quickly() -> Any:
    """Programs are compiled for a single batch: optimizing them costs more than it saves."""
    jax.config.update("jax_disable_most_optimizations", True)  # noqa: FBT003 - of JAX
    yield
    jax.config.update("jax_disable_most_optimizations", False)  # noqa: FBT003


def conformance(config: Any, **declared: Any) -> type[StageConformance]:
    return type("Conformance", (StageConformance,), {"config": config, "records": RECORDS, **declared})


TestCast = conformance(
    Cast(field="f", dtype="float16", lossy=True),
    expected={"f": RECORDS["f"].astype(np.float16)},
    differentiable=["f"],
)
TestOneHot = conformance(OneHot(field="label", classes=4), expected={"label": np.eye(4)[np.arange(ROWS) % 4]})
TestRescale = conformance(
    Rescale(field="x", scale=1 / 255, offset=0.5),
    expected={"x": RECORDS["x"] / 255 + 0.5},
    effective={"lossy": Shows(value=True, needs={"field": "label"})},
)
TestSelect = conformance(Select(fields=("f", "inner.text")), expected={"inner": {"text": RECORDS["inner"]["text"]}})
TestSelectOne = conformance(Select(fields=("label",)), expected={"label": RECORDS["label"]})
TestRename = conformance(
    Rename(fields={"x": "y", "inner.text": "inner.name"}),
    expected={"y": RECORDS["x"], "inner": {"name": RECORDS["inner"]["text"]}},
    effective={"fields": {"x": "z"}},
)


class Normalized(nnx.Module):
    """Stage with parameters and statistics, which go on from batch to batch."""

    def __init__(self) -> None:
        self.mean, self.weight = nnx.BatchStat(jnp.zeros(3)), nnx.Param(jnp.ones(3))

    def __call__(self, batch: Any) -> Any:
        made = (batch["f"] - self.mean[...]) * self.weight[...]
        self.mean[...] = 0.9 * self.mean[...] + 0.1 * batch["f"].mean(axis=0)
        return {**batch, "f": made}


class TestNormalized(StageConformance):
    records = RECORDS
    differentiable = ("f",)

    def make_stage(self, folder: Any) -> Any:  # noqa: ARG002 - of the kit
        return Normalized()


class Centered(Normalized):
    """Stage that subtracts the mean of its batch."""

    def __call__(self, batch: Any) -> Any:
        return {**super().__call__(batch), "f": batch["f"] - batch["f"].mean(axis=0) * self.weight[...]}


class TestCentered(TestNormalized):
    mixes_records = True

    def make_stage(self, folder: Any) -> Any:  # noqa: ARG002 - of the kit
        return Centered()


class Dropping:
    """Random stage, a callable without a config, that is told of record indices and knows of text."""

    stochastic = True
    takes_record_indices = True

    def __call__(self, batch: Any, keys: Any, indices: Any) -> Any:
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 0.5, (3,)))(keys)
        return {"f": jnp.where(kept, batch["f"], 0.0), "index": indices}

    def host_fields(self, fields: Any) -> Any:
        return {"text": fields["inner"]["text"]}


class TestDropping(StageConformance):
    records = RECORDS
    expected = {"index": np.arange(ROWS), "text": RECORDS["inner"]["text"]}

    def make_stage(self, folder: Any) -> Any:  # noqa: ARG002 - of the kit
        return Dropping()


def halved(batch: Any) -> Any:
    return {"f": batch["f"] / 2}


class TestFunction(StageConformance):
    records = RECORDS
    expected = {"f": RECORDS["f"] / 2}
    differentiable = ("f",)

    def make_stage(self, folder: Any) -> Any:  # noqa: ARG002 - of the kit
        return halved
