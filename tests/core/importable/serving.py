"""Batches by every route, and a stage that counts its runs, for tests of the inputs and results of stages."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core import Pipeline


class Encode:
    """A costly, deterministic stage that counts on the host how often it runs."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, batch: Any) -> Any:
        jax.debug.callback(lambda x: self.sizes.append(len(x)), batch["x"])
        return batch | {"code": jnp.sin(batch["x"]) * 3, "half": (batch["id"] // 2).astype(jnp.int8)}

    @property
    def runs(self) -> int:
        jax.effects_barrier()
        return len(self.sizes)


def batches_of(pipeline: Pipeline, route: str, count: int) -> list[Any]:
    """Return the next ``count`` full batches of a pipeline, by a route."""
    if route == "loop":
        return [batch for _, batch in zip(range(count), pipeline, strict=False)]
    if route == "scan":
        stacked = pipeline.scan(lambda batch: batch, length=count)
        return [jax.tree.map(lambda array, row=row: array[row], stacked) for row in range(count)]
    step = nnx.jit(lambda p: p.step()) if route == "traced" else (lambda p: p.step())
    return [step(pipeline) for _ in range(count)]


def require_true(batch: Any) -> None:
    """Assert that each row has the results of `Encode` for its own record."""
    x = np.stack([batch["id"] * 0.5, batch["id"] + 1.0], axis=1).astype(np.float32)
    np.testing.assert_array_equal(batch["x"], x)
    np.testing.assert_allclose(batch["code"], np.sin(x) * 3, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(batch["half"], batch["id"] // 2)
