"""The first stages of a pipeline decide which fields are narrowed, in every route and for every kind of source."""

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from datarax_core import (
    DataSourceModule,
    Graph,
    MergeFields,
    NarrowingError,
    Pipeline,
    Rename,
    Select,
    SplitField,
    StreamingSourceBase,
    StructuralConfig,
)
from datarax_core.registry.pipeline_config import PipelineConfig
from datarax_core.stages import Cast

MakeSource = Callable[..., Any]
NUM, SIZE = 8, 4
DATA = {
    "id": np.arange(NUM) + 2**40,
    "t": 1.7e9 + np.arange(float(NUM)),
    "x": np.arange(NUM, dtype=np.float32),
    "in": {"y": np.arange(NUM), "big": np.full((NUM, 2), 1e300)},
}
SPEC = jax.tree.map(lambda column: jax.ShapeDtypeStruct(column.shape[1:], column.dtype), DATA)
PLAIN = {"x": np.arange(SIZE, dtype=np.float32)}


class OnHost(DataSourceModule):
    """A third party's host source."""

    def __len__(self) -> int:
        return NUM

    def element_spec(self) -> Any:
        return SPEC

    def get_records(self, indices: Any) -> Any:
        return jax.tree.map(lambda column: column[indices], DATA)


class Stream(StreamingSourceBase):
    """A third party's stream."""

    def element_spec(self) -> Any:
        return SPEC

    def records_from(self, epoch: int, start: int) -> Any:  # noqa: ARG002 - of the base class
        for row in range(start, NUM):
            yield jax.tree.map(lambda column: column[row], DATA)  # noqa: B023


class DropIds:
    """A third party's stage."""

    def before_narrowing(self, fields: Any) -> Any:
        kept = {name: field for name, field in fields.items() if name != "id"}
        kept["t"] = kept["t"].nearest(np.float32)
        return kept | {"in": {"y": kept["in"]["y"]}}

    def __call__(self, batch: Any) -> Any:
        return {"x": batch["x"], "t": batch["t"], "in": {"y": batch["in"]["y"]}}


def lossy(field: str, dtype: Any) -> Cast:
    return Cast(field=field, dtype=dtype, lossy=True)


SECONDS = DATA["t"][:SIZE].astype(np.float32)  # type: ignore[index]
STAGES: dict[str, tuple[list[Any], Any]] = {
    "select": ([Select(fields=("x",))], PLAIN),
    "select twice": ([Select(fields=("x", "id")), Rename(fields={"id": "key"}), Select(fields=("x",))], PLAIN),
    "select nothing wide": ([Select(fields=("in.y",))], {"in": {"y": np.arange(SIZE, dtype=np.int32)}}),
    "cast": (
        [lossy("id", "int32"), Rename(fields={"t": "seconds"}), lossy("seconds", "float32"), lossy("in.big", "float16")],
        {
            "id": np.full(SIZE, 2**31 - 1, np.int32),
            "seconds": SECONDS,
            "x": PLAIN["x"],
            "in": {"y": np.arange(SIZE, dtype=np.int32), "big": np.full((SIZE, 2), 65504, np.float16)},
        },
    ),
    "cast and drop": ([lossy("t", "float32"), Select(fields=("x", "t"))], {**PLAIN, "t": SECONDS}),
    "cast twice": (
        [Select(fields=("id",)), lossy("id", "float32"), lossy("id", "int8")],
        {"id": np.full(SIZE, 127, np.int8)},
    ),
    "a stage of another": ([DropIds()], {**PLAIN, "t": SECONDS, "in": {"y": np.arange(SIZE, dtype=np.int32)}}),
    "graph": (
        [
            Graph(
                nodes={
                    "left": SplitField(["x", "id"]),
                    "right": SplitField(["x"]),
                    "double": lambda batch: {"double": batch["x"] * 2},
                    "only": SplitField(["x"]),
                    "both": MergeFields(),
                },
                edges=[("source", "left"), ("source", "right"), ("right", "double"), ("left", "only"),
                       ("only", "both"), ("double", "both")],
                sink="both",
            )
        ],
        {**PLAIN, "double": PLAIN["x"] * 2},
    ),
}  # fmt: skip
KINDS = ["device", "host", "third party", "part", "stream", "mesh", "host over mesh", "workers"]


def pipeline_over(kind: str, make_source: MakeSource, stages: Any, **options: Any) -> Pipeline:
    from datarax_core import Columns  # noqa: PLC0415 - for this function alone

    mesh = NamedSharding(jax.make_mesh((1,), ("data",)), PartitionSpec("data"))
    source: Any
    if kind == "third party":
        source = OnHost(StructuralConfig())
    elif kind == "stream":
        source = Stream(StructuralConfig())
    else:
        source = make_source(
            Columns.of_tree(DATA), placement="device" if kind in ("device", "part", "mesh") else "host"
        )
    if kind == "part":
        source = source[:6]
    options |= {"sharding": mesh} if "mesh" in kind else {}
    options |= {"workers": 1} if kind == "workers" else {}
    return Pipeline(source=source, stages=stages, batch_size=SIZE, rngs=nnx.Rngs(0), **options)


def read(route: str, pipeline: Pipeline) -> Any:
    if route == "iteration":
        return next(iter(pipeline))
    if route == "scan":
        return jax.tree.map(lambda leaf: leaf[0], pipeline.scan(lambda batch: batch, length=1))
    return nnx.jit(Pipeline.step)(pipeline) if route == "traced step" else pipeline.step()


def require_equal(found: Any, expected: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_fields_that_are_left_out_or_converted_are_not_narrowed(make_source: MakeSource, kind: str) -> None:
    names = ["cast and drop"] if kind == "workers" else STAGES
    routes = ["iteration", "step"] if kind in ("stream", "workers") else ["iteration", "step", "scan", "traced step"]
    for name in names:
        stages, expected = STAGES[name]
        pipeline = pipeline_over(kind, make_source, stages)
        for route in routes if name in ("cast and drop", "graph") or kind == "device" else routes[:1]:
            require_equal(read(route, pipeline), expected)
            pipeline.reset()
        spec = pipeline.element_spec()
        assert jax.tree.map(lambda leaf: leaf.dtype, spec) == jax.tree.map(lambda leaf: leaf.dtype, expected)
        pipeline.close()


@pytest.mark.parametrize("kind", ["device", "host", "stream"])
def test_a_mask_and_host_fields_stay(make_source: MakeSource, kind: str) -> None:
    data = {"id": np.arange(5) + 2**40, "text": np.array(list("abcde"), object)}
    for fields in (("text",), ("text", "valid")):
        if kind == "stream":
            pipeline = pipeline_over(kind, make_source, [Select(fields=("in.y",))], pad_last="valid")
        else:
            pipeline = Pipeline(
                source=make_source(data, placement=kind),
                stages=[Select(fields=fields)],
                batch_size=3,
                pad_last="valid",
                rngs=nnx.Rngs(0),
            )
        batches = list(pipeline)
        assert [np.asarray(batch["valid"]).sum() for batch in batches] == ([4, 4] if kind == "stream" else [3, 2])
        assert kind == "stream" or [batch["text"].tolist() for batch in batches] == [list("abc"), list("dee")]


@pytest.mark.parametrize("kind", ["device", "host", "stream"])
def test_a_field_that_is_used_is_narrowed(make_source: MakeSource, kind: str) -> None:
    for stages in (
        [lambda batch: {"x": batch["x"]}, Select(fields=("x",))],  # a function may use any field
        [Select(fields=("x", "t"))],
        [Cast(field="t", dtype="float32"), lossy("t", "float16"), Select(fields=("t",))],
    ):
        with pytest.raises(NarrowingError, match=r"field '(id|t)' of .* does not fit (int|float)32"):
            next(iter(pipeline_over(kind, make_source, stages)))


@pytest.mark.parametrize("kind", ["device", "third party"])
def test_the_advice_of_the_error_works(make_source: MakeSource, kind: str) -> None:
    stages: list[Any] = []
    for _ in range(4):
        try:
            batch = next(iter(pipeline_over(kind, make_source, stages)))
        except NarrowingError as error:
            advice = re.findall(r"\{type: [^{}]*\}", str(error))
            assert advice[0] == "{type: select, fields: [...]}"
            config = {"source": {"type": "memory"}, "batch_size": 1, "stages": [yaml.safe_load(advice[1])]}
            stages += PipelineConfig.model_validate(config).stages
    assert {stage.field for stage in stages} == {"id", "t", "in.big"}
    assert batch["id"].tolist() == np.float32(DATA["id"][:SIZE]).tolist()  # type: ignore[index]
    assert batch["t"].tolist() == SECONDS.tolist()
    batch = next(iter(pipeline_over(kind, make_source, [Select(fields=("x", "in.y"))])))
    assert batch.keys() == {"x", "in"}


def test_columns_on_the_device_are_placed_once_for_all_pipelines(make_source: MakeSource) -> None:
    source = make_source({"id": np.arange(8) + 2**40, "x": np.arange(8.0), "y": np.arange(8, dtype=np.int8)})
    stages = [Select(fields=("x", "y"))]
    for _ in range(2):
        Pipeline(source=source, stages=stages, batch_size=4).step()
    Pipeline(source=source, stages=[lossy("id", "float32")], batch_size=4).step()
    held = source.columns._placed_alone[None, False]
    assert held.keys() == {("x", None), ("y", None), ("id", np.dtype(np.float32))}


def test_an_error_of_a_stage_names_it(make_source: MakeSource) -> None:
    class Wrong:
        def before_narrowing(self, fields: Any) -> Any:
            return fields["nothing"]

        def __call__(self, batch: Any) -> Any:
            return batch

    with pytest.raises(KeyError, match="nothing") as caught:
        next(iter(Pipeline(source=make_source(8), stages=[Wrong()], batch_size=4)))
    assert "in stage 0 (Wrong) of the pipeline" in caught.value.__notes__


@pytest.mark.parametrize("placement", ["device", "host"])
def test_the_spec_of_a_device_is_that_of_batches(make_source: MakeSource, placement: str) -> None:
    source = make_source({"x": np.arange(4.0), "y": np.arange(4), "z": np.arange(4).astype(">i2")}, placement=placement)
    batch = next(iter(Pipeline(source=source, batch_size=4)))
    assert {name: leaf.dtype for name, leaf in source.device_spec().items()} == {n: b.dtype for n, b in batch.items()}
    assert source.element_spec()["y"].dtype == np.int64
    if placement == "device":
        assert source.get_batch(2)["y"].dtype == source.device_spec()["y"].dtype
