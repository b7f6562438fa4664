"""Pipelines with stages of each class that version 0.1.0 pickled, in old_stages.json, with the batches they served next.

`python -c "import old_stages; old_stages.write('FILE')"` was run once in this folder, at the commit before core was divided
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


def jitter(batch: Any, keys: jax.Array) -> Any:
    return {**batch, "noise": jax.vmap(jax.random.uniform)(keys)}


jitter.stochastic = True  # type: ignore[attr-defined]


def served(pipeline: Any) -> Any:
    """Return the batches of the next three steps, as lists."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), [pipeline.step() for _ in range(3)])


def subjects() -> dict[str, Any]:
    """Return pipelines after one step of 4 records, of 12."""
    from datarax_core import (  # noqa: PLC0415
        Cache,
        MergeFields,
        Pipeline,
        Rebatch,
        Rename,
        Rescale,
        Select,
        SplitField,
        from_sequence,
    )

    def pipeline(*stages: Any) -> Any:
        return Pipeline(source=records(), stages=list(stages), batch_size=4, rngs=nnx.Rngs(0), num_epochs=None)

    def records() -> Any:
        return from_sequence([{"x": np.float32(number), "text": f"record {number}"} for number in range(12)])

    source = records()
    nodes = {
        "half": Cache(Rescale(field="x", scale=0.5), source),
        "noise": jitter,
        "kept": SplitField("noise"),
        "all": MergeFields(),
    }
    edges = [("source", "half"), ("source", "noise"), ("noise", "kept"), ("half", "all"), ("kept", "all")]
    made = {
        "host fields": pipeline(
            Select(fields=("x", "text")), Rename(fields={"text": "caption"}), Rename(fields={"x": "y"})
        ),
        "host fields alone": pipeline(Select(fields=("text",))),
        "groups": pipeline(SplitField(["x"]), Rebatch(2)),
        "graph": Pipeline.from_dag(
            source=source, nodes=nodes, edges=edges, sink="all", batch_size=4, rngs=nnx.Rngs(0), num_epochs=None
        ),
    }
    for each in made.values():
        each.step()
    return made


def write(path: str) -> None:
    entries = {}
    for name, subject in subjects().items():
        pickled = pickle.dumps(subject, protocol=4)
        entries[name] = {"pickle": base64.b64encode(pickled).decode(), "served": served(pickle.loads(pickled))}  # noqa: S301
    Path(path).write_text(json.dumps(entries, indent=1) + "\n")
