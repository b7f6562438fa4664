"""Script of one process of ``test_processes.py``: ``python one_process.py PROCESS NUM_PROCESSES PORT FOLDER``.

It has ``DEVICES // NUM_PROCESSES`` devices of a CPU, looks at pipelines that it shares with the others, and leaves its
observations in the folder as JSON.
"""
# ruff: noqa: PLC0415, ARG001 - JAX is imported once the number of devices is set; looks have one signature

import json
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from launched import begin, held

DEVICES, SIZE, LENGTH, EPOCHS = 4, 8, 20, 2
INDEXED = ("eager", "device", "host")
KINDS = (*INDEXED, "sized", "ending")
CORE_TESTS = Path(__file__).parents[1] / "core"
Json = dict[str, Any]


def main(process: int, num_processes: int, port: int, folder: Path) -> None:
    """Run pipelines in this process, and write the observations to a file."""
    begin(process, num_processes, port, DEVICES)
    seen = {
        name: look(SimpleNamespace(process=process, of=num_processes, folder=folder)) for name, look in LOOKS.items()
    }
    (folder / f"seen-{num_processes}-{process}.json").write_text(json.dumps(seen), encoding="utf-8")


def _mesh(shape: tuple[int, ...] = (DEVICES,), names: tuple[str, ...] = ("data",), order: Any = None) -> Any:
    import jax
    import numpy as np

    devices = np.array(jax.devices())
    return jax.sharding.Mesh((devices if order is None else devices[order]).reshape(shape), names)


def _spec(array: Any) -> str:
    return str(array.sharding.spec).replace("PartitionSpec(", "P(")  # as older versions of JAX call it


def _over(mesh: Any, *spec: Any) -> Any:
    from jax.sharding import NamedSharding, PartitionSpec

    return NamedSharding(mesh, PartitionSpec(*spec))


def _conftest() -> Any:
    sys.path.insert(0, str(CORE_TESTS))
    import conftest

    return conftest


def _source(kind: str, length: int = LENGTH, seed: int = 0) -> Any:
    import numpy as np
    from flax import nnx

    tests = _conftest()
    if kind == "eager":
        rows = np.arange(length, dtype=np.int32)
        data = {"id": rows, "x": np.stack([rows * 0.5, rows + 1.0], axis=1).astype(np.float32)}
        return tests.make_eager(data, shuffle=True, seed=seed)
    if kind in ("host", "device"):
        make = tests.HostRecords if kind == "host" else tests.DeviceRecords
        return make(tests.source_config(shuffle=True), length, rngs=nnx.Rngs(seed))
    if kind == "ending":
        return tests.Ending(length)

    class Split(tests.Sized):
        """Return part k of n, whose record r is record n * r + k of the whole."""

        part, num_parts = 0, 1

        def process_part(self, part: int, num_parts: int) -> Any:
            half = Split(self.epoch_size // num_parts)
            half.part, half.num_parts = part, num_parts
            return half

        def records(self, start: int, size: int) -> Any:
            return super().records(start, size) + 10_000 * self.part

    return Split(length) if kind == "split" else tests.Sized(length)


class Jitter:
    stochastic = True

    def __call__(self, batch: Any, keys: Any) -> Any:
        import jax

        return {**batch, "r": jax.vmap(jax.random.uniform)(keys)}


def copied(batch: Any) -> Any:
    return dict(batch)


JITTER = Jitter()  # one: equal pipelines share their compiled programs


def _pipeline(kind: str, sharding: Any = None, **options: Any) -> Any:
    from flax import nnx

    from datarax_core import Pipeline

    source = options.pop("source", None) or _source(kind, options.pop("length", LENGTH), options.pop("seed", 0))
    options = {"batch_size": SIZE, "stages": [JITTER], "rngs": nnx.Rngs(0), "prefetch": 3} | options
    return Pipeline(source=source, sharding=sharding or _over(_mesh(), "data"), **options)


def _sums(batch: Any) -> Any:
    return {name: leaf.astype("float32").sum(axis=0) for name, leaf in batch.items()}


def look_at_routes(at: SimpleNamespace) -> Json:
    """Return all batches of every route; the loop once pads and once drops the last batch."""
    from flax import nnx

    seen: Json = {}
    step = nnx.jit(lambda pipeline: pipeline.step())
    for kind in KINDS:
        epochs = 1 if kind == "ending" else EPOCHS
        pipeline = _pipeline(kind, num_epochs=epochs, pad_last="valid", length=LENGTH - 1)
        batches = list(pipeline)
        seen[f"{kind} loop"] = [held(batch) for batch in batches]
        seen[f"{kind} specs"] = sorted({_spec(leaf) for batch in batches for leaf in batch.values()})
        dropping = _pipeline(kind, num_epochs=epochs, drop_last=True, length=LENGTH - 1, stages=[])
        seen[f"{kind} dropped"] = [held(batch)["id"] for batch in dropping]
        if kind in INDEXED:
            pipeline.reset()
            seen[f"{kind} scan"] = {n: v.tolist() for n, v in pipeline.scan(_sums, length=4).items()}
            pipeline.reset()
            seen[f"{kind} traced"] = [held(step(pipeline)) for _ in range(2)]
        pipeline.reset()
        seen[f"{kind} step"] = [held(pipeline.step()) for _ in range(2)]
    return seen


def look_at_split_stream(at: SimpleNamespace) -> Json:
    pipeline = _pipeline("split", num_epochs=1, pad_last="valid")
    resumed = _pipeline("split", num_epochs=1, pad_last="valid")
    batches = iter(pipeline)
    seen = [held(next(batches)) for _ in range(2)]
    resumed.set_state(json.loads(json.dumps(pipeline.get_state())))
    return {
        "batches": seen + [held(batch) for batch in batches],
        "resumed": [held(batch) for batch in resumed],
        "explained": pipeline.explain(),
        "len": len(pipeline),
    }


def look_at_resuming(at: SimpleNamespace) -> Json:
    """Save in the middle of an epoch while batches are read ahead, and resume the state that 4 processes saved."""
    seen: Json = {}
    for kind in ("eager", "host", "sized"):
        file = at.folder / f"state-{kind}.json"
        pipeline = _pipeline(kind, num_epochs=EPOCHS)
        batches = iter(pipeline)
        before = [held(batch) for batch in islice(batches, 3)]
        if at.of == DEVICES and at.process == 0:
            file.write_text(json.dumps(pipeline.get_state()), encoding="utf-8")
        seen[kind] = before + [held(batch) for batch in batches]
        if at.of < DEVICES:
            resumed = _pipeline(kind, num_epochs=EPOCHS)
            resumed.set_state(json.loads(file.read_text(encoding="utf-8")))
            seen[f"{kind} resumed"] = [held(batch) for batch in resumed]
    return seen


def look_at_sizes(at: SimpleNamespace) -> Json:
    """Return batches of two sizes, of which 4 processes saved a state, and the batch at a place that is sought."""
    seen: Json = {}
    for kind in ("eager", "host", "sized", "split"):
        options: Json = {"batch_size": [[0, 8], [10, 12]], "num_epochs": 4, "drop_last": True}
        file = at.folder / f"sizes-{kind}.json"
        pipeline = _pipeline(kind, **options)
        batches = iter(pipeline)
        before = [held(batch) for batch in islice(batches, 3)]
        if at.of == DEVICES and at.process == 0:
            file.write_text(json.dumps(pipeline.get_state()), encoding="utf-8")
        seen[kind] = before + [held(batch) for batch in batches]
        if kind != "split" and at.of < DEVICES:
            resumed = _pipeline(kind, **options)
            resumed.set_state(json.loads(file.read_text(encoding="utf-8")))
            seen[f"{kind} resumed"] = [held(batch) for batch in resumed]
        if kind in INDEXED:
            pipeline.seek(step=3)
            seen[f"{kind} sought"] = [held(pipeline.batch_at(3)), held(pipeline.step())]
    return seen


def look_at_buckets(at: SimpleNamespace) -> Json:
    """Return batches of buckets, padded to several bounds, of which 4 processes saved a state."""
    import numpy as np
    from flax import nnx

    from datarax_core import Pipeline, Ragged
    from datarax_memory import MemorySource, MemorySourceConfig
    from datarax_views import BucketView, BucketViewConfig

    lengths = np.arange(60) * 7 % 16 + 1
    tokens = Ragged(np.arange(lengths.sum(), dtype=np.int32), np.cumsum([0, *lengths]))
    data = {"tokens": tokens, "id": np.arange(60, dtype=np.int32)}

    def made() -> Pipeline:
        source = MemorySource(MemorySourceConfig(shuffle=True), data, rngs=nnx.Rngs(0))
        config = BucketViewConfig(field="tokens", bounds=(4, 8, 16), tokens=64, batch_multiple_of=4)
        sharding = _over(_mesh(), "data")
        return Pipeline(
            source=BucketView(config, source), num_epochs=2, pad_last="valid", sharding=sharding, rngs=nnx.Rngs(0)
        )

    file, pipeline = at.folder / "buckets.json", made()
    batches = iter(pipeline)
    before = [held(batch) for batch in islice(batches, 5)]
    if at.of == DEVICES and at.process == 0:
        file.write_text(json.dumps(pipeline.get_state()), encoding="utf-8")
    seen: Json = {"loop": before + [held(batch) for batch in batches]}
    if at.of < DEVICES:
        resumed = made()
        resumed.set_state(json.loads(file.read_text(encoding="utf-8")))
        seen["resumed"] = [held(batch) for batch in resumed]
    return seen


def look_at_reads(at: SimpleNamespace) -> Json:
    """Return the record indices that a host source was asked for."""
    source = _source("host")
    pipeline = _pipeline("host", source=source, prefetch=0)
    source.reads.calls.clear()  # of the sample that the processes compared when the pipeline was built
    batches = []
    for batch in pipeline:
        shards = sorted(batch["id"].addressable_shards, key=lambda shard: shard.index[0].start or 0)
        batches.append([row for shard in shards for row in shard.data.tolist()])
    return {"asked": source.reads.calls, "held": batches}


def look_at_layouts(at: SimpleNamespace) -> Json:
    """Check on meshes of two axes and of permuted devices, with fields of several ranks, that each device holds its part."""
    import numpy as np

    tests = _conftest()
    rows = np.arange(16, dtype=np.int32)
    data = {"image": rows[:, None, None] * 100 + np.arange(24, dtype=np.int32).reshape(4, 6), "id": rows}
    data["flat"] = data["image"][:, :, 0]
    wide, swapped, mixed = _mesh((2, 2), ("data", "model")), _mesh(order=[2, 0, 3, 1]), _mesh((2, 2), ("model", "data"))
    shardings = {
        "rows": _over(wide, "data"),
        "rows and columns": _over(wide, "data", "model"),
        "last dimension": _over(wide, "data", None, "model"),
        "both on rows": _over(wide, ("data", "model")),
        "model first": _over(mixed, "data", "model"),
        "only columns": _over(wide, None, "model"),
        "replicated": _over(wide),
        "permuted": _over(swapped, "data"),
    }
    gathered = ("rows and columns", "only columns", "permuted")  # each is compiled
    seen: Json = {}
    for name, sharding in shardings.items():
        for placement in ("device", "host") if name in gathered else ("host",):
            source = tests.make_eager(dict(data), shuffle=True, placement=placement)
            pipeline = _pipeline("", sharding, source=source, stages=[])
            batches = [*pipeline, pipeline.step()]
            plain_source = tests.make_eager(dict(data), shuffle=True, placement="host")
            plain = [plain_source.get_batch(SIZE) for _ in range(3)]
            wrong = [
                f"{number} {field}"
                for number, (batch, expected) in enumerate(zip(batches, plain, strict=True))
                for field, leaf in batch.items()
                for shard in leaf.addressable_shards
                if not np.array_equal(shard.data, expected[field][shard.index])
            ]
            specs = {field: _spec(leaf) for field, leaf in batches[0].items()}
            seen[f"{name} {placement}"] = {"wrong": wrong, "specs": specs}
    return seen


def look_at_text(at: SimpleNamespace) -> Json:
    import numpy as np

    seen: Json = {}
    for placement in ("device", "host"):
        rows = np.arange(LENGTH, dtype=np.int32)
        source = _conftest().make_eager({"id": rows, "word": rows.astype("<U4")}, shuffle=True, placement=placement)
        batch = next(iter(_pipeline("", source=source, stages=[])))
        shards = sorted(batch["id"].addressable_shards, key=lambda shard: shard.index[0].start or 0)
        held = [row for shard in shards for row in shard.data.tolist()]
        seen[placement] = {"words": batch["word"].tolist(), "held": held}
    return seen


class HostDraw:
    """A host stage that draws a number for each record."""

    on_host = True
    stochastic = True

    def element_spec(self, spec: Any) -> Any:
        import jax
        import numpy as np

        return {**spec, "u": jax.ShapeDtypeStruct((), np.dtype(np.float32))}

    def __call__(self, batch: Any, rngs: Any) -> Any:
        import numpy as np

        return {**batch, "u": np.array([rng.random() for rng in rngs], np.float32)}


def look_at_host_stages(at: SimpleNamespace) -> Json:
    """Return the batches of pipelines with a host stage, which each process calls with its own rows."""
    from flax import nnx

    seen: Json = {}
    step = nnx.jit(lambda pipeline: pipeline.step())
    for kind in ("eager", "host", "sized"):
        pipeline = _pipeline(kind, stages=[HostDraw(), JITTER], num_epochs=EPOCHS)
        seen[f"{kind} loop"] = [held(batch) for batch in pipeline]
        pipeline.reset()
        seen[f"{kind} step"] = [held(pipeline.step() if kind == "sized" else step(pipeline)) for _ in range(2)]
    split = _pipeline("split", stages=[HostDraw()], num_epochs=1)
    seen["split loop"] = [held(batch) for batch in split]
    return seen


def look_at_training(at: SimpleNamespace) -> Json:
    """Train a stage with parameters and statistics in a scan and in a loop."""
    import jax.numpy as jnp
    import optax
    from flax import nnx

    class Scale(nnx.Module):
        def __init__(self) -> None:
            self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(0))

        def __call__(self, batch: Any) -> Any:
            return {**batch, "x": self.norm(batch["x"])}

    def train_step(model: Any, optimizer: Any, batch: Any) -> Any:
        def loss_of(model: Any) -> Any:
            return jnp.mean((model(batch["x"])[:, 0] - batch["id"] / LENGTH) ** 2)

        loss, grads = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, grads)
        return loss

    seen: Json = {}
    for kind, way in (("eager", "scan"), ("host", "loop")):
        model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.sgd(0.05), wrt=nnx.Param)
        stage = Scale()
        pipeline = _pipeline(kind, stages=[stage], length=SIZE * 6)
        if way == "scan":
            losses = pipeline.scan(train_step, modules=(model, optimizer), length=6).tolist()
        else:
            jitted = nnx.jit(train_step)
            losses = [float(jitted(model, optimizer, batch)) for batch in pipeline]
        values = [leaf.ravel().tolist() for leaf in _leaves(nnx.state((model, stage)))]
        seen[way] = {"losses": losses, "values": values}
    return seen


def _leaves(state: Any) -> list[Any]:
    import jax
    import numpy as np

    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def look_at_refusals(at: SimpleNamespace) -> Json:
    """Return the errors of processes whose pipelines differ, and of batch sizes that the devices do not divide."""

    def message(build: Callable[[], Any]) -> str:
        try:
            build()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is noted
            return f"{type(error).__name__}: {error}"
        return "nothing"

    def restore(positions: list[Any]) -> None:
        pipeline = _pipeline("host")
        state = pipeline.get_state()
        if positions[at.process] is not None:
            state["position"] = positions[at.process]
        else:
            state.pop("position")
        pipeline.set_state(state)

    last = at.of - 1
    own = int(at.process == last and at.of > 1)
    return {
        "batch size": message(lambda: _pipeline("host", batch_size=6)),
        "size": message(lambda: _pipeline("host", batch_size=[[0, 8], [10, 6]])),
        "sought": message(lambda: _pipeline("host").seek(step=own)),
        "last batch": message(lambda: _pipeline("host", length=LENGTH - 1)),
        "field": message(lambda: _pipeline("host", _over(_mesh((1, DEVICES), ("data", "model")), "data", "model"))),
        "ending": message(lambda: list(_pipeline("ending", length=LENGTH - 1))),
        "seed": message(lambda: _pipeline("host", seed=own)),
        "length": message(lambda: _pipeline("host", length=LENGTH - own)),
        "class": message(lambda: _pipeline("host" if own else "eager")),
        "epochs": message(lambda: _pipeline("host", num_epochs=1 + own)),
        "stages": message(lambda: _pipeline("host", stages=[copied] if own else [])),
        "mesh": message(lambda: _pipeline("host", _over(_mesh(order=[1, 0, 2, 3] if own else None), "data"))),
        "position": message(lambda: restore([0] * last + [SIZE])),
        "no state": message(lambda: restore([0] * last + [None])),
    }


def look_at_some_processes(at: SimpleNamespace) -> Json:
    """Return the batches of halves of the processes, each with a mesh of its own, and their errors when they differ."""
    import jax
    import numpy as np

    if at.of < 4:
        return {}

    def over(*processes: int) -> Any:
        devices = [device for device in jax.devices() if device.process_index in processes]
        return _over(jax.sharding.Mesh(np.array(devices), ("data",)), "data")

    def message(*processes: int, seed: int = 0) -> str:
        try:
            _pipeline("host", over(*processes), seed=seed)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is noted
            return f"{type(error).__name__}: {error}"
        return "nothing"

    half = (0, 1) if at.process < 2 else (2, 3)
    pipeline = _pipeline("host", over(*half))
    batches = [held(batch) for batch in pipeline]
    again = _pipeline("host", over(*half))
    again.set_state(json.loads(json.dumps(pipeline.get_state())) | {"position": SIZE})
    return {
        "batches": batches,
        "resumed": [held(batch) for batch in again],
        "seed": message(*half, seed=int(at.process == 1)),
        "sets": "nothing" if at.process == 3 else message(*((0, 1) if at.process == 0 else (0, 1, 2))),
        "after": message(0, 1, 2, 3),
    }


LOOKS: dict[str, Callable[[SimpleNamespace], Json]] = {
    "routes": look_at_routes,
    "split": look_at_split_stream,
    "resuming": look_at_resuming,
    "sizes": look_at_sizes,
    "buckets": look_at_buckets,
    "reads": look_at_reads,
    "layouts": look_at_layouts,
    "text": look_at_text,
    "host stages": look_at_host_stages,
    "training": look_at_training,
    "refusals": look_at_refusals,
    "some": look_at_some_processes,
}

if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
