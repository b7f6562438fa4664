"""Stages in pipelines: built for the records where they stand, with host fields, in every route, from a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import (
    Cache,
    Cast,
    Columns,
    ConfigError,
    OneHot,
    Pipeline,
    Rename,
    Rescale,
    Select,
    SpecError,
    Stage,
    StageError,
    StageRegistry,
    from_sequence,
    load_config,
)
from datarax_core.config.base import Count
from datarax_core.config.models import SourceConfig
from datarax_core.errors import PluginContractError
from datarax_core.pipeline.multihost import facts_to_agree_on
from datarax_core.registry.pipeline_config import parse_config
from datarax_core.registry.sources import SourceRegistry
from datarax_core.sources.eager import EagerSourceBase

MakeSource = Callable[..., Any]
PLACEMENTS = ["device", "host"]
DATA = {
    "image": np.arange(40, dtype=np.uint8).reshape(10, 2, 2),
    "label": np.arange(10),
    "text": np.array([f"record {i}" for i in range(10)]),
    "note": np.array([{"i": i} for i in range(10)]),
}
STAGES = [
    Rename(fields={"text": "caption", "label": "class"}),
    Rescale(field="image", scale=0.5),
    OneHot(field="class", classes=10),
    Select(fields=("image", "caption", "class")),
]


class Encoder(nnx.Module):
    """Module that a third party's stage builds: parameters, statistics, and a field that its records must have."""

    def __init__(self, field: str, size: int, width: int, rngs: nnx.Rngs) -> None:
        self.field = field
        self.linear = nnx.Linear(size, width, rngs=rngs)
        self.seen = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(self, batch: Any) -> Any:
        self.seen[...] += len(batch[self.field])
        return {**batch, "code": self.linear(batch[self.field].reshape(len(batch[self.field]), -1))}


class Encode(Stage):
    type: Literal["encode"] = "encode"
    field: str
    width: Count = 3

    def build(self, spec: Any, rngs: nnx.Rngs) -> Encoder:
        struct = spec.get(self.field)
        if struct is None:
            raise ValueError("the field is missing")
        return Encoder(self.field, int(np.prod(struct.shape)), self.width, rngs)


class Noise(Stage):
    type: Literal["noise"] = "noise"
    stochastic: ClassVar = True

    def __call__(self, batch: Any, keys: Any = None) -> Any:
        return {**batch, "noise": jax.vmap(jax.random.normal)(keys)}


class TableConfig(SourceConfig):
    type: Literal["table"] = "table"


class Table(EagerSourceBase):
    config_class = TableConfig
    make: ClassVar[MakeSource]

    @classmethod
    def from_config(cls, config: Any, build: Any) -> Any:  # noqa: ARG003 - its data is that of the tests
        return cls.make(DATA, shuffle=True)


@pytest.fixture
def registries(make_source: MakeSource) -> dict[str, Any]:
    sources, stages = SourceRegistry(), StageRegistry.from_environment()
    Table.make = staticmethod(make_source)
    sources.register(Table)
    stages.register(Encode)
    stages.register(Noise)
    return {"registry": sources, "stage_registry": stages}


# -- host fields -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("pad_last", [None, "valid"])
def test_text_is_renamed_and_dropped_like_other_fields(
    make_source: MakeSource, placement: str, pad_last: str | None
) -> None:
    source = make_source(DATA, shuffle=True, placement=placement)
    pipeline = Pipeline(source=source, batch_size=4, stages=STAGES, pad_last=pad_last, rngs=nnx.Rngs(0))
    mask = set() if pad_last is None else {"valid"}
    spec = pipeline.element_spec()
    assert {name: (str(leaf.dtype), leaf.shape) for name, leaf in spec.items() if name not in mask} == {
        "image": ("float32", (2, 2)),
        "class": ("float32", (10,)),
        "caption": (str(DATA["text"].dtype), ()),
    }
    for batch in [*pipeline, pipeline.step()]:
        assert set(batch) == {"image", "class", "caption"} | mask == set(spec)
        classes = np.argmax(batch["class"], axis=1)
        assert batch["caption"].tolist() == [f"record {i}" for i in classes]
        np.testing.assert_array_equal(batch["image"], DATA["image"][classes] * np.float32(0.5))


def test_a_pipeline_may_keep_host_fields_alone(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(DATA), batch_size=5, stages=[Select(fields=("note",))])
    assert [batch["note"][0]["i"] for batch in pipeline] == [0, 5]
    assert set(pipeline.element_spec()) == {"note"}
    renamed = Pipeline(source=make_source(DATA), batch_size=5, stages=[Rename(fields={"note": "text", "text": "note"})])
    assert next(iter(renamed))["text"][1] == {"i": 1}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_pipeline_that_drops_text_is_compiled_whole(make_source: MakeSource, placement: str) -> None:
    def made() -> Pipeline:
        source = make_source(DATA, shuffle=True, placement=placement)
        return Pipeline(source=source, batch_size=4, stages=[Select(fields=("image", "label"))], rngs=nnx.Rngs(0))

    expected = next(iter(made()))
    scanned = jax.tree.map(lambda leaf: leaf[0], made().scan(lambda batch: batch, length=2))
    for batch in (scanned, nnx.jit(Pipeline.step)(made())):
        jax.tree.map(np.testing.assert_array_equal, batch, expected)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_text_that_is_kept_is_refused_in_compiled_routes(make_source: MakeSource, placement: str) -> None:
    pipeline = Pipeline(source=make_source(DATA, placement=placement), batch_size=4, stages=STAGES)
    message = (
        r"cannot carry: note, text; leave them out, or iterate from Python, which serves them as NumPy arrays; a stage such as "
        r"\{type: select, fields: \[image, label\]\} leaves out what it does not name"
    )
    with pytest.raises(SpecError, match=message):
        pipeline.scan(lambda batch: batch, length=1)
    with pytest.raises(SpecError, match=message):
        nnx.jit(Pipeline.step)(pipeline)


class _Shouted:
    """Stage that gets its method for host fields in a test."""

    def __call__(self, batch: Any) -> Any:
        return batch


def _shout(self: Any, fields: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - a method
    return {name: field if name == "note" else _upper(field) for name, field in fields.items()}


def _upper(field: Any) -> Any:
    return np.char.upper(field) if isinstance(field, np.ndarray) else field


def test_a_stage_changes_host_fields_in_its_method_host_fields(make_source: MakeSource) -> None:
    stage = type("Shouted", (_Shouted,), {"host_fields": _shout})()
    pipeline = Pipeline(source=make_source(DATA), batch_size=2, stages=[stage])
    assert next(iter(pipeline))["text"].tolist() == ["RECORD 0", "RECORD 1"]


def test_the_old_name_of_host_fields_works_with_a_warning(make_source: MakeSource) -> None:
    stage = type("Shouted", (_Shouted,), {"beside": _shout})()
    renamed = r"^Shouted has a method beside\(\), which is called host_fields\(\) now; rename it$"
    with pytest.warns(DeprecationWarning, match=renamed):
        batches = list(Pipeline(source=make_source(DATA), batch_size=2, stages=[stage]))
    assert batches[0]["text"].tolist() == ["RECORD 0", "RECORD 1"]


# -- a stage that cannot work is refused when the pipeline is built --------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([Rescale(field="imgae", scale=1)],
         r"^stages\[0\]\.field: the records have no field 'imgae'; did you mean 'image'\?"),
        ([Rescale(field="image", scale=1), Cast(field="image", dtype="int8")],
         r"^stages\[1\]\.dtype: field 'image' is float32, and int8 does not hold all its values, fractions"),
        ([*STAGES, Select(fields=("image", "label"))], r"^stages\[4\]\.fields\[1\]: the records have no field 'label'"),
        ([lambda batch: {"x": batch["label"]}, Cast(field="label", dtype="int32")], r"^stages\[1\]\.field: .*'label'"),
        ([Select(fields=("image",)), Rename(fields={"text": "x"})], r"^stages\[1\]\.fields\.text: .* no field 'text'"),
        ([Rename(fields={"text": "image.b"})],
         r"^stages\[0\]\.fields\.text: 'image' is a field, which 'b' cannot be put into"),
        ([Rename(fields={"text": "image"})], r"^stages\[0\]\.fields\.text: the name 'image' is taken"),
        ([Cast(field="text", dtype="int8")],
         r"^stages\[0\]\.field: field 'text' is text, which no device has: it stays on the host, and no compiled"),
        ([Encode(field="x")], r"^stages\[0\]: the field is missing"),
    ],
)  # fmt: skip
def test_a_stage_that_cannot_work_is_refused_with_its_place(
    make_source: MakeSource, stages: list[Any], message: str
) -> None:
    with pytest.raises(StageError, match=message):
        Pipeline(source=make_source(DATA), batch_size=2, stages=stages)


def test_a_stage_that_builds_no_callable_is_refused(make_source: MakeSource) -> None:
    class Wrong(Stage):
        type: Literal["wrong"] = "wrong"

        def build(self, spec: Any, rngs: nnx.Rngs) -> Any:  # noqa: ARG002 - neither is needed
            return None

    with pytest.raises(
        PluginContractError, match=r"^stage 'wrong': .*Wrong.build\(\) returned None; return self, or the call"
    ):
        Pipeline(source=make_source(DATA), batch_size=2, stages=[Wrong()])


def test_the_mask_is_a_field_for_stages_too(make_source: MakeSource) -> None:
    stages = [Cast(field="valid", dtype="float32"), Rescale(field="label", scale=1, lossy=True)]
    pipeline = Pipeline(source=make_source({"label": np.arange(3)}), batch_size=2, stages=stages, pad_last="valid")
    assert [batch["valid"].tolist() for batch in pipeline] == [[True, True], [True, False]]


def test_batches_that_are_one_array_have_stages_too() -> None:
    source = from_sequence([1, 2, 3])
    stages = [Cast(field="record", dtype="float32", lossy=True), Rescale(field="record", scale=2)]
    (batch,) = Pipeline(source=source, batch_size=3, stages=stages)
    assert batch.tolist() == [2.0, 4.0, 6.0]
    with pytest.raises(SpecError, match="the mask of pad_last needs batches that are dicts of named fields"):
        Pipeline(source=source, batch_size=2, stages=stages, pad_last="valid")


# -- stages with parameters, statistics and randomness --------------------------------------------------------------------


def test_a_stage_builds_a_module_that_is_trained_and_counted_through(make_source: MakeSource) -> None:
    stages = [Rescale(field="image", scale=1 / 40), Encode(field="image")]
    pipeline = Pipeline(source=make_source(DATA), batch_size=5, stages=stages, rngs=nnx.Rngs(0))
    (_, encoder) = pipeline.stages
    for _ in pipeline:
        pass
    assert encoder.seen[...] == 10
    batch = {"image": jnp.asarray(DATA["image"][:2])}

    def loss(pipeline: Pipeline) -> jax.Array:
        return jnp.sum(pipeline(batch)["code"] ** 2)

    gradients = nnx.grad(loss)(pipeline)
    assert float(jnp.abs(gradients.stages[1].linear.kernel[...]).sum()) > 0


def test_parameters_depend_on_seed_and_place_and_move_no_other_randomness(make_source: MakeSource) -> None:
    def made(*stages: Any, seed: int = 0) -> Pipeline:
        return Pipeline(source=make_source(DATA), batch_size=5, stages=stages, rngs=nnx.Rngs(seed))

    def kernel(pipeline: Pipeline, place: int = 0) -> list[Any]:
        return np.asarray(pipeline.stages[place].linear.kernel[...]).tolist()

    encode, keep = Encode(field="image"), Select(fields=("image", "label"))
    assert kernel(made(encode)) == kernel(made(encode))
    assert kernel(made(encode)) != kernel(made(encode, seed=1))
    assert kernel(made(encode, encode), 0) != kernel(made(encode, encode), 1)
    noise = [next(iter(made(first, Noise())))["noise"].tolist() for first in (encode, keep)]
    assert noise[0] == noise[1]


def test_stages_behind_stochastic_and_cached_ones_are_built_too(make_source: MakeSource) -> None:
    source = make_source(DATA, shuffle=True)
    cached = Cache(lambda batch: {"code": batch["image"].astype(jnp.float32)}, source)
    stages = [Noise(), Cast(field="noise", dtype="bfloat16", lossy=True), cached, Rescale(field="code", scale=2)]
    pipeline = Pipeline(source=source, batch_size=4, stages=stages, rngs=nnx.Rngs(0))
    assert str(pipeline.element_spec()["code"].dtype) == "float32"
    assert len(list(pipeline)) == 3


def test_processes_compare_the_options_of_stages(make_source: MakeSource) -> None:
    def facts(*stages: Any) -> Any:
        return facts_to_agree_on(make_source(DATA), stages, None)["stages"]

    half, third = Rescale(field="image", scale=0.5), Rescale(field="image", scale=0.25)
    assert facts(half, print) == facts(half, print) != facts(third, print)
    assert facts(print) == ["print"]


# -- from a file -----------------------------------------------------------------------------------------------------------

CONFIG = """\
batch_size: 5
source: {type: table}
stages:
  - type: select
    fields: [image, text]
  - {type: rescale, field: image, scale: 2}
"""


def test_the_stages_of_a_config_come_before_those_made_in_python(registries: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "a.yaml", **registries)
    pipeline = Pipeline.from_config(
        config, registries["registry"], stages=[lambda batch: {**batch, "n": batch["image"]}]
    )
    batch = next(iter(pipeline))
    assert sorted(batch) == ["image", "n", "text"]
    assert batch["n"].dtype == jnp.float32
    assert "stages: select, rescale, <lambda>" in pipeline.explain()


def test_a_config_and_python_build_the_same_stages(registries: dict[str, Any], make_source: MakeSource) -> None:
    mapping = {
        "batch_size": 5,
        "seed": 3,
        "source": {"type": "table"},
        "stages": [{"type": "encode", "field": "image"}],
    }
    configured = Pipeline.from_config(parse_config(mapping, **registries), registries["registry"])
    built = Pipeline(source=make_source(DATA), batch_size=5, stages=[Encode(field="image")], rngs=nnx.Rngs(3))
    kernels = [np.asarray(pipeline.stages[0].linear.kernel[...]) for pipeline in (configured, built)]
    assert np.array_equal(*kernels)


def test_the_error_about_a_stage_that_cannot_work_has_its_line(registries: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(CONFIG.replace("field: image", "field: imgae"))
    with pytest.raises(ConfigError) as caught:
        Pipeline.from_config(load_config(path, **registries), registries["registry"])
    message = "the records have no field 'imgae'; did you mean 'image'? (fields: image, text)"
    assert str(caught.value) == f"{path}:6: stages[1].field: {message}"
    assert isinstance(caught.value.__cause__, StageError)
    path.write_text(CONFIG)
    with pytest.raises(StageError, match=r"^stages\[2\]\.field: .*'label'"):
        Pipeline.from_config(
            load_config(path, **registries), registries["registry"], stages=[OneHot(field="label", classes=3)]
        )


NESTED = {"id": np.arange(6), "at": {"x": np.arange(6.0), "text": np.array([f"t{i}" for i in range(6)])}}


@pytest.mark.parametrize(
    ("stages", "fields"),
    [
        ([Select(fields=("at",))], {"at": {"x", "text"}}),
        ([Select(fields=("at.text", "id"))], {"id": None, "at": {"text"}}),
        ([Rename(fields={"at": "here"})], {"id": None, "here": {"x", "text"}}),
        ([Rename(fields={"at.text": "words", "id": "at.id"})], {"words": None, "at": {"x", "id"}}),
        ([Rename(fields={"at": "a"}), Select(fields=("a.text",))], {"a": {"text"}}),
    ],
)
@pytest.mark.parametrize("placement", ["device", "host"])
def test_names_reach_nested_host_fields_too(
    make_source: MakeSource, placement: str, stages: list[Any], fields: dict[str, Any]
) -> None:
    pipeline = Pipeline(source=make_source(Columns.of_tree(NESTED), placement=placement), stages=stages, batch_size=3)
    for tree in (next(iter(pipeline)), pipeline.element_spec()):
        assert {name: set(value) if isinstance(value, dict) else None for name, value in tree.items()} == fields
