"""Pickles and states of the first layout of version 0.1.0, in old_pickles.json, with the batches that each served next.

`python tests/integration/importable/old_pickles.py FILE` was run once, at the commit before core was divided into packages,
and wrote that file. The pickles in it must load and go on for ever; new kinds of pickles get a file of their own.
"""

import base64
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

not_in_an_older_jax = pytest.mark.skipif(
    jax.__version_info__ < (0, 10),
    reason="the pickles hold keys and specs of JAX 0.10, which an older JAX does not load",
)

FIELDS = {"x": np.arange(12, dtype=np.float32), "label": np.arange(12) % 3}


def plain(value: Any) -> Any:
    """Return arrays as lists, so that JSON holds them and ``==`` compares them."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).tolist() if hasattr(leaf, "dtype") else leaf, value)


def batches(source: Any) -> Any:
    return plain([source.get_batch(5) for _ in range(4)])


def steps(pipeline: Any) -> Any:
    return plain([pipeline.step() for _ in range(4)])


def as_json(config: Any) -> Any:
    return config.model_dump(mode="json")


def fields_of(value: Any) -> Any:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def order_of(order: Any) -> Any:
    return plain(order.record_indices(7, 20, np.asarray([1, 2], np.uint32)))


def restored_source(state: Any) -> Any:
    source = memory()
    source.set_state(state)
    return batches(source)


def restored_pipeline(state: Any) -> Any:
    pipeline = pipeline_over(memory())
    pipeline.set_state(state)
    return steps(pipeline)


SEEN: dict[str, Callable[[Any], Any]] = {
    "memory source": batches,
    "memory source with metadata": batches,
    "subset": batches,
    "split": batches,
    "sequence": batches,
    "mixture": batches,
    "pipeline": steps,
    "memory config": as_json,
    "mixture config": as_json,
    "arrayrecord config": as_json,
    "tfds configs": lambda configs: [as_json(config) for config in configs],
    "pipeline config": as_json,
    "stages": lambda stages: [as_json(stage) for stage in stages],
    "order": order_of,
    "metadata": fields_of,
    "errors": lambda errors: [[type(error).__name__, str(error)] for error in errors],
    "state of a source": restored_source,
    "state of a pipeline": restored_pipeline,
}
"""For each subject, the function that returns its next batches, or its content."""


def memory(**options: Any) -> Any:
    from datarax_memory import MemorySource, MemorySourceConfig  # noqa: PLC0415

    return MemorySource(MemorySourceConfig(shuffle=True, **options), FIELDS, rngs=nnx.Rngs(1))


def pipeline_over(source: Any) -> Any:
    from datarax_core import Pipeline, Rescale  # noqa: PLC0415

    def jitter(batch: Any, keys: Any) -> Any:
        return {**batch, "noise": jax.vmap(jax.random.uniform)(keys)}

    jitter.stochastic = True  # type: ignore[attr-defined]
    stages = [Rescale(field="x", scale=2.0)]
    return Pipeline(source=source, stages=stages, batch_size=4, rngs=nnx.Rngs(0), num_epochs=2)


def subjects() -> dict[str, Any]:
    """Return the objects to pickle; each source and pipeline is in the middle of an epoch."""
    from datarax_arrayrecord import ArrayRecordSourceConfig  # noqa: PLC0415
    from datarax_core import (  # noqa: PLC0415
        Cast,
        OneHot,
        Order,
        RecordMetadata,
        Rename,
        Rescale,
        Select,
        SpecError,
        StateError,
        from_sequence,
    )
    from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode  # noqa: PLC0415
    from datarax_tfds import TFDSEagerConfig, TFDSStreamingConfig  # noqa: PLC0415

    source, parent = memory(), memory()
    source.get_batch(5)
    mixture = MixDataSourcesNode(
        MixDataSourcesConfig(num_sources=2, weights=(0.3, 0.7)), [memory(), memory()], rngs=nnx.Rngs(0)
    )
    mixture.get_batch(5)
    pipeline = pipeline_over(memory())
    pipeline.step()
    metadata = RecordMetadata(
        index=1, record_key="1", rng_key=None, epoch=0, global_step=0, batch_idx=0, shard_id=None, source_info=None
    )
    stages = [
        Cast(field="x", dtype="int32"),
        OneHot(field="label", classes=3),
        Rename(fields={"x": "y"}),
        Rescale(field="x", scale=2.0),
        Select(fields=["x"]),
    ]
    config = {
        "batch_size": 2,
        "source": {"type": "memory", "path": "digits.npz"},
        "stages": [{"type": "select", "fields": ["x"]}],
    }
    return {
        "memory source": source,
        "memory source with metadata": memory(track_metadata=True, cache_size=2, prefetch_size=2),
        "subset": parent[2:9],
        "split": parent.split(train=0.5, seed=3)["train"],
        "sequence": from_sequence([{"x": np.float32(number)} for number in range(6)]),
        "mixture": mixture,
        "pipeline": pipeline,
        "memory config": source.config,
        "mixture config": mixture.config,
        "arrayrecord config": ArrayRecordSourceConfig(
            paths="x.array_record", decoder={"type": "array", "fields": {"x": {"dtype": "int32", "shape": []}}}
        ),
        "tfds configs": [
            TFDSEagerConfig(name="mnist", split="train"),
            TFDSStreamingConfig(name="mnist", split="train[:10%]"),
        ],
        "pipeline config": parse(config),
        "stages": stages,
        "order": Order(10),
        "metadata": metadata,
        "errors": [SpecError("a field is missing"), StateError("the state is of other data")],
        "state of a source": source.get_state(),
        "state of a pipeline": pipeline.get_state(),
    }


def parse(config: Any) -> Any:
    try:
        from datarax_core.registry import parse_config  # noqa: PLC0415
    except ImportError:
        from datarax_core.config import parse_config  # noqa: PLC0415
    return parse_config(config)


def load(text: str) -> Any:
    """Return the object of a stored pickle."""
    return pickle.loads(base64.b64decode(text))  # noqa: S301 - our own file


def write(path: Path) -> None:
    """Pickle each subject, and write it with the next batches, or the content, of its restored twin."""
    entries = {}
    for name, value in subjects().items():
        data = pickle.dumps(value)
        entries[name] = {"pickle": base64.b64encode(data).decode(), "seen": SEEN[name](pickle.loads(data))}  # noqa: S301
    path.write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
