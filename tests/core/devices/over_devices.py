"""Print, as JSON, how pipelines behave on four devices of one process; ``test_sharding.py`` reads it."""

import gc
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from datarax_core import DataSourceModule, Pipeline

sys.path.insert(0, str(Path(__file__).parents[1]))

import conftest

Json = dict[str, Any]
SIZE, LENGTH = 8, 20
HAS_EXPLICIT_AXES = jax.__version_info__ >= (0, 10)
EXPLICIT = (
    AxisType.Explicit if HAS_EXPLICIT_AXES else AxisType.Auto
)  # an older jax refuses explicit axes, which test_sharding.py tests
MESHES = {
    kind: jax.make_mesh((4,), ("data",), axis_types=(axis_type,))
    for kind, axis_type in (("auto", AxisType.Auto), ("explicit", EXPLICIT))
}
SHARDINGS = {
    **{kind: NamedSharding(mesh, P("data")) for kind, mesh in MESHES.items()},
    "other device": SingleDeviceSharding(jax.devices()[2]),
}


class Jitter:
    stochastic = True

    def __call__(self, batch: Any, keys: Any) -> Any:
        return {**batch, "r": jax.vmap(jax.random.uniform)(keys)}


class Mean(nnx.Module):
    """Adds up the means of all batches: a statistic over all devices."""

    def __init__(self) -> None:
        self.mean = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, batch: Any) -> Any:
        self.mean[...] = self.mean[...] + batch["id"].mean()
        return batch


JITTER = Jitter()
COMBINATIONS = {
    "eager device": ["one", "auto", "explicit", "other device"],
    "eager host": ["other device"],
    "device": ["explicit"],
    "host": ["auto"],
    "stream": ["one", "auto"],
}


def source_of(kind: str) -> DataSourceModule:
    if kind.startswith("eager"):
        return conftest.make_eager(LENGTH, shuffle=True, placement=kind.split()[1])
    if kind == "stream":
        return conftest.Sized(LENGTH)
    make = conftest.HostRecords if kind == "host" else conftest.DeviceRecords
    return make(conftest.source_config(shuffle=True), LENGTH, rngs=nnx.Rngs(0))


def plain(batch: Any) -> Json:
    return {name: np.asarray(leaf).tolist() for name, leaf in batch.items()}


def places(batch: Any) -> list[str]:
    return sorted(
        {
            str(getattr(leaf.sharding, "spec", leaf.sharding.device_set)).replace("PartitionSpec(", "P(")
            for leaf in batch.values()
        }
    )


def keep(batch: Any) -> Any:
    return batch


def look_at_routes() -> Json:
    """Return the batches of every route, and their shardings."""
    seen: Json = {}
    step = nnx.jit(lambda pipeline: pipeline.step())
    for kind, names in COMBINATIONS.items():
        for name in names:
            stage = Mean()
            pipeline = Pipeline(
                source=source_of(kind),
                stages=[JITTER, stage],
                batch_size=SIZE,
                pad_last="valid",
                rngs=nnx.Rngs(0),
                sharding=SHARDINGS.get(name),
            )
            routes: dict[str, Callable[[], list[Any]]] = {
                "loop": lambda pipeline=pipeline: list(pipeline)[:2],
                "step": lambda pipeline=pipeline: [pipeline.step() for _ in range(2)],
            }
            if kind != "stream":
                routes["scan"] = lambda pipeline=pipeline: unstacked(pipeline.scan(keep, length=2))
                routes["traced"] = lambda pipeline=pipeline: [step(pipeline) for _ in range(2)]
            for route, serve in routes.items():
                pipeline.reset()
                stage.mean.set_raw_value(jnp.zeros(()))
                batches = serve()
                seen[f"{kind}, {name}, {route}"] = {
                    "batches": [plain(batch) for batch in batches],
                    "places": places(batches[0]),
                }
            seen[f"{kind}, {name}, mean"] = np.asarray(stage.mean[...]).round(4).tolist()
    return seen


def unstacked(stacked: Any) -> list[Any]:
    return [jax.tree.map(lambda leaf, row=row: leaf[row], stacked) for row in range(2)]


def look_at_bare() -> Json:
    """Return the shardings of batches of pipelines without stages, which compile nothing for batches that the host reads."""
    seen: Json = {}
    for kind in ("eager host", "stream"):
        for name, sharding in SHARDINGS.items():
            pipeline = Pipeline(source=source_of(kind), batch_size=SIZE, sharding=sharding)
            seen[f"{kind}, {name}"] = [places(batch) for batch in pipeline]
    return seen


def look_at_memory() -> Json:
    """Return how many arrays of the size of the data are alive after each of several pipelines, loops and scans."""
    rows = 1240
    seen: Json = {}
    for kind in ("eager", "device"):
        if kind == "eager":
            source: DataSourceModule = conftest.make_eager(rows, shuffle=True)
        else:
            source = conftest.DeviceRecords(conftest.source_config(shuffle=True), rows, rngs=nnx.Rngs(0))
        counts = []
        for _ in range(3):
            pipeline = Pipeline(source=source, batch_size=SIZE, sharding=SHARDINGS["auto"])
            loops = [iter(pipeline) for _ in range(2)]
            next(loops[-1])
            pipeline.step()
            pipeline.scan(lambda batch: batch["x"].sum(), length=2)
            gc.collect()
            counts.append(
                sum(leaf.shape == (rows, 2) and len(leaf.sharding.device_set) == 4 for leaf in jax.live_arrays())
            )
        seen[kind] = counts
    return seen


def look_at_concurrency() -> Json:
    """Return how many devices read a source at once, and how many rows at a time, when a scan reads it by callbacks."""
    inside, most = [], [0]

    class Slow(conftest.HostRecords):
        def get_records(self, indices: Any) -> Any:
            inside.append(1)
            most[0] = max(most[0], len(inside))
            threading.Event().wait(0.001)  # gives other threads the chance to enter
            records = super().get_records(indices)
            inside.pop()
            return records

    source = Slow(conftest.source_config(shuffle=True), LENGTH, rngs=nnx.Rngs(0))
    Pipeline(source=source, batch_size=SIZE, sharding=SHARDINGS["auto"]).scan(keep, length=20)["id"].block_until_ready()
    return {"most": most[0], "rows": sorted({len(call) for call in source.reads.calls})}


def look_at_explanations() -> Json:
    return {
        f"{kind}, {name}": Pipeline(source=source_of(kind), batch_size=SIZE, sharding=sharding).explain()
        for kind in ("eager device", "host")
        for name, sharding in SHARDINGS.items()
    }


def look_at_refusals() -> Json:
    """Return the errors for shardings that cannot work."""
    mesh = MESHES["auto"]
    cases: dict[str, Any] = {
        "no sharding": P("data"),
        "text": "data",
        "mesh": mesh,
        "unconstrained": NamedSharding(mesh, P(P.UNCONSTRAINED)),
        "abstract": NamedSharding(mesh.abstract_mesh, P("data")),
        "dimension": NamedSharding(
            jax.make_mesh((1, 4), ("d", "model"), axis_types=(AxisType.Auto,) * 2), P("d", "model")
        ),
    }
    seen = {
        name: refusal(lambda s=sharding: Pipeline(source=source_of("host"), batch_size=SIZE, sharding=s))
        for name, sharding in cases.items()
    }
    rows = SHARDINGS["auto"]
    for size in (2, 6):
        seen[f"size {size}"] = refusal(
            lambda size=size: Pipeline(source=source_of("host"), batch_size=size, sharding=rows)
        )
    seen["last"] = refusal(lambda: Pipeline(source=conftest.Sized(18), batch_size=SIZE, sharding=rows))
    seen["ending"] = refusal(lambda: list(Pipeline(source=conftest.Ending(18), batch_size=SIZE, sharding=rows)))
    return seen


def refusal(build: Callable[[], Any]) -> str:
    try:
        build()
    except Exception as error:  # noqa: BLE001 - the caller compares the text of any error
        return f"{type(error).__name__}: {error}"
    return "nothing"


if __name__ == "__main__":
    looks = [value for name, value in list(globals().items()) if name.startswith("look_at_")]
    print(json.dumps({look.__name__.removeprefix("look_at_"): look() for look in looks}))  # noqa: T201 - the result of this script
