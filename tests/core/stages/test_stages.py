"""Stages by name: found, checked, and refused with their place; results and errors of those of core that are compiled."""

import pickle
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datarax_core import Cast, OneHot, Rename, Rescale, Select, Stage, StageRegistry
from datarax_core.config.base import Count, FrozenConfig
from datarax_core.errors import PluginConflictError, PluginContractError, PluginNotFoundError, SpecError, StageError
from datarax_core.registry.stages import AnyStage, default_stages

if TYPE_CHECKING:
    from conftest import Site

WORKING = """
from typing import Literal
from datarax_core import Stage
class Made(Stage):
    type: Literal["acme"] = "acme"
    def __call__(self, batch): return batch
"""
FIRST_PARTY = [
    "astype",
    "cast",
    "lookup",
    "one_hot",
    "pad",
    "rename",
    "rescale",
    "select",
    "tokenize_bytes",
    "truncate",
]


class Twice(Stage):
    """Stage as a third party writes one."""

    type: Literal["twice"] = "twice"
    times: Count = 2

    def __call__(self, batch: Any) -> Any:
        return {name: self.times * array for name, array in batch.items()}


class Configured(FrozenConfig):
    stage: AnyStage


def _registry() -> StageRegistry:
    registry = StageRegistry()
    registry.register(Twice)
    return registry


def _configured(stage: Any) -> Stage:
    made: Stage = Configured.model_validate({"stage": stage}, context={"stages": _registry()}).stage
    return made


def _install(site: "Site", code: str, *, name: str = "acme") -> None:
    site.install("acme-stage", {}, code=code)
    entry = f"[datarax.stages]\n{name} = acme_stage:Made\n"
    (site.folder / "acme_stage-1.0.dist-info" / "entry_points.txt").write_text(entry)


# -- by name --------------------------------------------------------------------------------------------------------------


def test_core_has_ten_stages_and_those_of_plugins_are_found(site: "Site") -> None:
    _install(site, WORKING)
    registry = StageRegistry.from_environment()
    infos = {info.name: info for info in registry.describe()}
    assert sorted(name for name, info in infos.items() if info.distribution == "datarax-core") == FIRST_PARTY
    assert infos["acme"].distribution == "acme-stage"
    assert "acme_stage" not in sys.modules
    assert registry.get("acme")()({"x": 1}) == {"x": 1}  # type: ignore[call-arg]


def test_the_registry_of_the_process_has_the_stages_of_core() -> None:
    assert default_stages().get("cast") is Cast


@pytest.mark.parametrize("given", [{"type": "twice"}, {"type": "twice", "times": 2}, Twice()], ids=repr)
def test_a_field_takes_a_mapping_or_a_stage(given: Any) -> None:
    assert _configured(given) == Twice()


@pytest.mark.parametrize(
    ("given", "place", "message"),
    [
        ("twice", (), r"a stage is a mapping with a `type`, such as \{type: rescale\}, not 'twice'"),
        ({}, ("type",), "the stage's `type` is missing; name an installed stage, such as rescale"),
        ({"type": 3}, ("type",), "the stage's `type` is 3; name an installed stage"),
        ({"type": "twise"}, ("type",), r"unknown stage 'twise'; did you mean 'twice'\?"),
        ({"type": "math:sqrt"}, ("type",), "unknown stage 'math:sqrt'"),
        ({"type": "twice", "times": 0}, ("times",), "greater than or equal to 1"),
        ({"type": "twice", "time": 1}, ("time",), "unknown field 'time'; did you mean 'times'"),
    ],
)
def test_a_value_that_names_no_stage_is_refused_at_its_place(given: Any, place: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        _configured(given)
    assert [error["loc"] for error in refused.value.errors()] == [("stage", *place)]  # type: ignore[attr-defined]


def test_an_unknown_name_is_a_plugin_error_about_a_stage() -> None:
    with pytest.raises(PluginNotFoundError, match="unknown stage 'twise'") as missing:
        _registry().get("twise")
    assert (missing.value.kind, missing.value.name) == ("stage", "twise")


def test_a_plugin_cannot_take_a_name_of_core(site: "Site") -> None:
    _install(site, WORKING.replace('"acme"', '"cast"'), name="cast")
    with pytest.raises(PluginConflictError, match=r"stage 'cast' .* belongs to datarax-core; uninstall acme-stage"):
        StageRegistry.from_environment().get("cast")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("Made = 3", "it is int 3, not a class; name the stage class instead"),
        ("class Made: pass", r"it does not derive from Stage; write `class Made\(Stage\):`"),
        (
            WORKING.replace('"acme"', '"other"'),
            "Made.type defaults to 'other', but it is registered by the name 'acme'",
        ),
        (WORKING.replace(' = "acme"', ""), "Made.type has no default; write `type: Literal"),
        (WORKING.replace("__call__", "call"), r"it defines neither __call__\(\) nor build\(\); write one of them"),
    ],
)
def test_the_error_about_a_class_that_is_no_stage_says_what_to_write(site: "Site", code: str, message: str) -> None:
    _install(site, code)
    with pytest.raises(PluginContractError, match=rf"stage 'acme' \(acme-stage 1\.0\) is no stage: {message}"):
        StageRegistry.from_environment().get("acme")


def test_a_stage_that_is_built_is_not_called_itself() -> None:
    class Built(Stage):
        type: Literal["built"] = "built"
        stochastic: ClassVar = True

        def build(self, spec: Any, rngs: Any) -> Any:  # noqa: ARG002 - neither is needed
            return lambda batch: batch

    with pytest.raises(NotImplementedError, match=r"the stage 'built' is run as what its build\(\) makes"):
        Built()({})


def test_a_stage_compares_hashes_pickles_and_goes_through_json() -> None:
    stage = Rename(fields={"a": "b"})
    assert stage == Rename(fields={"a": "b"}) != Rename(fields={"a": "c"})
    assert len({stage, Rename(fields={"a": "b"}), Select(fields=("a",))}) == 2
    assert pickle.loads(pickle.dumps(stage)) == stage  # noqa: S301 - our own bytes
    assert Configured.model_validate_json(Configured(stage=stage).model_dump_json()) == Configured(stage=stage)


# -- fields that cannot work are refused when the config is built ----------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (Cast, {"field": "x"}, "dtype"),
        (Cast, {"field": "", "dtype": "int8"}, "at least 1 character"),
        (Cast, {"field": "x", "dtype": "bool"}, "should be 'float32', 'float16'"),
        (Cast, {"field": "x", "dtype": "int8", "lossy": 1}, "valid boolean"),
        (Rescale, {"field": "x"}, "scale"),
        (Rescale, {"field": "x", "scale": 0}, "a scale of 0 makes all values one; give another"),
        (Rescale, {"field": "x", "scale": [1.0, 0.0]}, "a scale of 0 makes all values one"),
        (Rescale, {"field": "x", "scale": []}, "at least 1 item"),
        (Rescale, {"field": "x", "scale": "2"}, "valid number"),
        (Rescale, {"field": "x", "scale": float("nan")}, "finite number"),
        (Rescale, {"field": "x", "scale": 1, "offset": float("inf")}, "finite number"),
        (Rescale, {"field": "x", "scale": 1, "dtype": "int8"}, "should be 'float32'"),
        (OneHot, {"field": "x", "classes": 0}, "greater than or equal to 1"),
        (OneHot, {"field": "x", "classes": 2.0}, "valid integer"),
        (Select, {"fields": []}, "at least 1 item"),
        (Select, {"fields": ["a", "b", "a"]}, "the field 'a' is named twice; name it once"),
        (Rename, {"fields": {}}, "at least 1 item"),
        (Rename, {"fields": {"a": "a"}}, "'a' is renamed to what it is called already; leave it out"),
        (Rename, {"fields": {"a": "c", "b": "c"}}, "two fields are renamed to 'c'; give each a name of its own"),
        (Rename, {"fields": {"a": "b..c"}}, "should match pattern"),
    ],
)  # fmt: skip
def test_a_bad_field_is_refused(make: type[Stage], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make.model_validate(fields)


# -- results for a batch ---------------------------------------------------------------------------------------------------


def _batch(**fields: Any) -> dict[str, Any]:
    return {name: jnp.asarray(value) for name, value in fields.items()}


def _made(stage: Stage, batch: Any) -> Any:
    """Return the result of a stage in compiled code, which must be the same in a scan and mapped over batches."""

    @jax.jit
    def run(batch: Any) -> Any:
        stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), batch)
        _, scanned = jax.lax.scan(lambda carry, one: (carry, stage(one)), None, stacked)
        return stage(batch), jax.tree.map(lambda leaf: leaf[1], (scanned, jax.vmap(stage)(stacked)))

    made, others = run(batch)
    for other in others:
        jax.tree.map(
            lambda a, b: np.testing.assert_array_equal(np.asarray(a, float), np.asarray(b, float)), made, other
        )
    return made


INTEGERS = {np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32)}
FLOATS = {jnp.dtype(name) for name in ("float16", "bfloat16", "float32")}


def _extremes(dtype: Any) -> np.ndarray:
    if dtype == np.bool_:
        return np.array([False, True])
    info = jnp.finfo(dtype) if dtype in FLOATS else np.iinfo(dtype)  # type: ignore[no-untyped-call]
    extra = [info.tiny, 1 + float(info.eps)] if dtype in FLOATS else [info.max - 1, info.min + 1]  # type: ignore[union-attr]
    return np.array([info.min, info.max, 0, 1, *extra], dtype)


@pytest.mark.parametrize("to", sorted(INTEGERS | FLOATS, key=str), ids=str)
def test_a_cast_keeps_every_value_or_is_refused(to: Any) -> None:
    for dtype in {np.dtype(np.bool_)} | INTEGERS | FLOATS:
        values = _extremes(dtype)
        cast = Cast(field="x", dtype=str(to))  # type: ignore[arg-type]
        with np.errstate(all="ignore"):
            kept = bool(np.all(values.astype(to).astype(np.float64) == values.astype(np.float64)))
        is_whole = to in FLOATS or dtype not in FLOATS
        if kept and is_whole:
            made = cast(_batch(x=values))["x"]
            assert made.dtype == to
            np.testing.assert_array_equal(np.asarray(made, np.float64), values.astype(np.float64))
        else:
            with pytest.raises(StageError, match=rf"field 'x' is {dtype}, and {to} does not hold all its values") as no:
                cast(_batch(x=values))
            assert no.value.option == ("dtype",)


@pytest.mark.parametrize(
    ("values", "to", "expected"),
    [
        (np.array([300, -1, 7], np.int32), "uint8", [255, 0, 7]),
        (np.array([2**32 - 1, 5], np.uint32), "int32", [2**31 - 1, 5]),
        (np.array([-1, -(2**31), 2], np.int32), "uint32", [0, 0, 2]),
        (np.array([0.5, 1.5, 2.5, -0.5, -3.7], np.float32), "int8", [0, 2, 2, 0, -4]),
        (np.array([1e30, -1e30, np.inf, -np.inf, np.nan, 255.4, 255.5], np.float32), "uint8",
         [255, 0, 255, 0, 0, 255, 255]),
        (np.array([2.0**31, -(2.0**31), 2.0**31 - 128], np.float32), "int32", [2**31 - 1, -(2**31), 2**31 - 128]),
        (np.array([65504.0, 7e4, -1e30, np.inf, 0.1], np.float32), "float16",
         [65504.0, 65504.0, -65504.0, np.inf, np.float16(0.1)]),
        (np.array([3.4028235e38, 1 + 2**-9], np.float32), "bfloat16", [float(jnp.finfo(jnp.bfloat16).max), 1.0]),  # type: ignore[no-untyped-call]
        (np.array([2**24 + 1, 70000], np.int32), "float32", [2**24, 70000]),
        (np.array([70000, -70000], np.int32), "float16", [65504, -65504]),
        (np.array([6e4, 0.25], np.float16), "int16", [32767, 0]),
    ],
)  # fmt: skip
def test_a_lossy_cast_takes_the_nearest_value(values: np.ndarray, to: Any, expected: list[Any]) -> None:
    made = _made(Cast(field="x", dtype=to, lossy=True), _batch(x=values))["x"]
    assert made.dtype == jnp.dtype(to)
    assert np.asarray(made, np.float64).tolist() == [float(value) for value in expected]


def test_a_rescaled_field_is_scaled_and_shifted_in_floats() -> None:
    batch = _batch(x=np.arange(12, dtype=np.uint8).reshape(2, 2, 3), y=np.array([1, 2]))
    made = _made(Rescale(field="x", scale=1 / 255, offset=-0.5), batch)
    np.testing.assert_array_equal(made["x"], np.asarray(batch["x"], np.float32) * np.float32(1 / 255) - np.float32(0.5))
    assert Rescale(field="x", scale=2)(batch)["y"] is batch["y"]
    by_channel = _made(Rescale(field="x", scale=(1, 2, 3), offset=(0.5, 0, -1), dtype="bfloat16"), batch)["x"]
    assert by_channel.dtype == jnp.bfloat16
    assert by_channel[0, 1].tolist() == [3.5, 8.0, 14.0]
    assert _made(Rescale(field="x", scale=2), _batch(x=[True, False]))["x"].tolist() == [2.0, 0.0]


def test_gradients_flow_through_rescale_and_casts_of_floats() -> None:
    def loss(x: jax.Array) -> jax.Array:
        batch = Cast(field="x", dtype="float16", lossy=True)(Rescale(field="x", scale=3.0, offset=1.0)({"x": x}))
        return jnp.sum(batch["x"].astype(jnp.float32))

    assert jax.grad(loss)(jnp.ones(4)).tolist() == [3.0] * 4


def test_classes_become_rows_and_other_numbers_are_not_hidden() -> None:
    made = _made(OneHot(field="y", classes=3), _batch(y=np.array([[0, 2], [3, -1]], np.int32)))["y"]
    assert made.shape == (2, 2, 3)
    assert made[0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert np.isnan(made[1]).all()
    assert OneHot(field="y", classes=2, dtype="bfloat16")(_batch(y=np.array([1], np.uint8)))["y"].dtype == jnp.bfloat16


NESTED = {"pose": {"left": [1, 2], "right": [3, 4]}, "image": [5, 6]}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (Select(fields=("image",)), {"image": [5, 6]}),
        (Select(fields=("pose.right", "image")), {"pose": {"right": [3, 4]}, "image": [5, 6]}),
        (Select(fields=("pose",)), {"pose": NESTED["pose"]}),
        (Select(fields=("pose.left", "pose")), {"pose": NESTED["pose"]}),
        (Select(fields=("pose", "pose.left")), {"pose": NESTED["pose"]}),
        (Rename(fields={"image": "picture"}), {"pose": NESTED["pose"], "picture": [5, 6]}),
        (Rename(fields={"pose.left": "left"}), {"pose": {"right": [3, 4]}, "left": [1, 2], "image": [5, 6]}),
        (Rename(fields={"pose.left": "a", "pose.right": "b.c"}), {"a": [1, 2], "b": {"c": [3, 4]}, "image": [5, 6]}),
        (Rename(fields={"image": "pose.up"}), {"pose": {**NESTED["pose"], "up": [5, 6]}}),  # type: ignore[dict-item]
        (Rename(fields={"pose": "image", "image": "pose"}), {"pose": [5, 6], "image": NESTED["pose"]}),
        (Rename(fields={"pose.left": "pose.right", "pose.right": "pose.left"}),
         {"pose": {"left": [3, 4], "right": [1, 2]}, "image": [5, 6]}),
    ],
)  # fmt: skip
def test_fields_are_selected_and_renamed_by_dotted_name(stage: Stage, expected: Any) -> None:
    batch = jax.tree.map(jnp.asarray, NESTED, is_leaf=lambda node: isinstance(node, list))
    made = _made(stage, batch)
    assert jax.tree.map(lambda leaf: leaf.tolist(), made) == expected


def test_arrays_in_nested_dicts_and_tuples_are_changed_by_dotted_name() -> None:
    batch = {"pose": {"left": jnp.arange(2), "x": (jnp.arange(2), jnp.arange(2))}}
    made = Rescale(field="pose.x.1", scale=2, lossy=True)(Cast(field="pose.left", dtype="float32", lossy=True)(batch))
    assert made["pose"]["left"].dtype == made["pose"]["x"][1].dtype == jnp.float32
    assert made["pose"]["x"][0] is batch["pose"]["x"][0]


@pytest.mark.parametrize(
    ("stage", "batch", "option", "message"),
    [
        (Cast(field="imgae", dtype="int8"), _batch(image=[1], label=[2]), ("field",),
         r"the records have no field 'imgae'; did you mean 'image'\? \(fields: image, label\)"),
        (Cast(field="q", dtype="int8"), {}, ("field",), r"the records have no field 'q' \(fields: none\)"),
        (Cast(field="pose", dtype="int8"), {"pose": _batch(left=[1])}, ("field",),
         "'pose' is a dict of fields; name one of them, such as 'pose.left'"),
        (Cast(field="a.b.c", dtype="int8"), {"a.b": _batch(c=[1]), "a": {"b.c": jnp.ones(1)}}, ("field",),
         r"several fields can be meant by 'a\.b\.c': write a\.b\\\.c or a\\\.b\.c$"),
        (Cast(field="x", dtype="float32"), _batch(x=[1j]), ("field",), "field 'x' is complex64; take real numbers of it"),
        (Cast(field="x", dtype="int64"), _batch(x=[1]), ("dtype",),
         "int64 is kept by a device only with JAX_ENABLE_X64=1, and becomes int32 without it; choose that, or set it"),
        (Cast(field="x", dtype="uint8"), _batch(x=[0.5]), ("dtype",), "does not hold all its values, fractions; choose"),
        (Cast(field="x", dtype="uint8"), _batch(x=np.array([1], np.int16)), ("dtype",),
         "uint8 does not hold all its values, integers from -32768 to 32767; choose a dtype that does, or set lossy"),
        (Rescale(field="x", scale=1, dtype="float64"), _batch(x=[1]), ("dtype",), "float64 is kept by a device only"),
        (Rescale(field="x", scale=1, dtype="float16"), _batch(x=[0.5]), ("dtype",),
         "field 'x' is float32, and float16 has a smaller range, up to 65504; rescale to float32, and cast that"),
        (Rescale(field="x", scale=1, dtype="float16"), _batch(x=np.array([1], np.int32)), ("dtype",),
         r"field 'x' is int32, whose values become as large as 2\.14748e\+09, and float16 holds no more than 65504"),
        (Rescale(field="x", scale=(1, 2)), _batch(x=[[1, 2, 3]]), ("scale",),
         r"2 numbers are given, and field 'x' of shape \[3\] has 3 places on its last axis; give one number for each"),
        (Rescale(field="x", scale=1, offset=(1,)), _batch(x=[1, 2]), ("offset",), r"of shape \[\] has no places on its"),
        (Rescale(field="x", scale=1e300), _batch(x=[0.5]), ("scale",), r"1e\+300 becomes inf in float32; write another"),
        (Rescale(field="x", scale=1, offset=1e-300), _batch(x=[0.5]), ("offset",), "1e-300 becomes 0.0 in float32"),
        (Rescale(field="x", scale=1), _batch(x=[1j]), ("field",), "field 'x' is complex64"),
        (OneHot(field="x", classes=3), _batch(x=[0.5]), ("field",), "field 'x' is float32; classes are integers from 0"),
        (OneHot(field="x", classes=3), _batch(x=[True]), ("field",), "field 'x' is bool; classes are integers from 0"),
        (Select(fields=("a", "bb")), _batch(a=[1], b=[1]), ("fields", 1), "no field 'bb'"),
        (Select(fields=("a",)), jnp.ones(3), ("fields", 0), "the batch is a Array.*, not a dict of named fields"),
        (Rename(fields={"a": "c", "q": "d"}), _batch(a=[1]), ("fields", "q"), "the records have no field 'q'"),
        (Rename(fields={"a": "b"}), _batch(a=[1], b=[2]), ("fields", "a"), "the name 'b' is taken by another field"),
        (Rename(fields={"a": "b.c"}), _batch(a=[1], b=[2]), ("fields", "a"), "'b' is a field, which 'c' cannot be put into"),
        (Rename(fields={"p": "q", "p.a": "b"}), {"p": _batch(a=[1], c=[1])}, ("fields", "p.a"),
         r"'p\.a' is in a dict that is renamed as a whole; rename one of them"),
    ],
)  # fmt: skip
def test_a_batch_that_cannot_work_is_refused_by_option(stage: Stage, batch: Any, option: Any, message: str) -> None:
    with pytest.raises(StageError, match=message) as refused:
        stage(batch)
    assert isinstance(refused.value, SpecError)
    assert refused.value.option == option
