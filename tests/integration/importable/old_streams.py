"""Pipelines over a stream that version 0.1.0 pickled, in old_streams.json, with the batches that they served next.

`python -c "import old_streams; old_streams.write('FILE')"` was run once in this folder, at the commit before core was divided
into packages, and wrote that file.
"""

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, StructuralConfig


class Counting(DataSourceModule):
    """A stream of 10 records an epoch; record i is i."""

    def __init__(self, config: StructuralConfig) -> None:
        super().__init__(config)
        self.next_record = nnx.Variable(0)

    def __len__(self) -> int:
        return 10

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int32)}

    def get_batch(self, batch_size: int) -> Any:
        start = int(self.next_record.get_raw_value())
        self.next_record.set_raw_value(start + batch_size)
        return {"id": (np.arange(start, start + batch_size) % 10).astype(np.int32)}

    def get_state(self) -> Any:
        return {"next_record": int(self.next_record.get_raw_value())}

    def set_state(self, state: Any) -> None:
        self.next_record.set_raw_value(state["next_record"])


def jitter(batch: Any, keys: jax.Array) -> Any:
    return {**batch, "noise": jax.vmap(jax.random.uniform)(keys)}


jitter.stochastic = True  # type: ignore[attr-defined]


def served(pipeline: Any) -> Any:
    """Return the batches of the next three steps, as lists."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), [pipeline.step() for _ in range(3)])


def subjects() -> dict[str, Any]:
    """Return a pipeline before its first batch, and one after a loop has read ahead of a batch of 4 records."""
    fresh, read_ahead = (
        Pipeline(source=Counting(StructuralConfig()), stages=[jitter], batch_size=4, rngs=nnx.Rngs(0), num_epochs=None)
        for _ in range(2)
    )
    next(iter(read_ahead))
    return {"fresh": fresh, "read ahead": read_ahead}


def write(path: str) -> None:
    """Pickle each pipeline, and note the batches that its restored twin serves."""
    entries = {}
    for name, pipeline in subjects().items():
        data = pickle.dumps(pipeline)
        entries[name] = {"pickle": base64.b64encode(data).decode(), "served": served(pickle.loads(data))}  # noqa: S301
    Path(path).write_text(json.dumps(entries, indent=1) + "\n")
