"""Host fields are served with the batch or refused by name; 64-bit values are never narrowed silently."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, NarrowingError, Pipeline, SpecError, StructuralConfig

MakeSource = Callable[..., Any]
PLACEMENTS = ["device", "host"]
TEXT = {
    "id": np.arange(10),
    "text": np.array([f"record {i}" for i in range(10)]),
    "bytes": np.array([bytes([65 + i]) for i in range(10)]),
    "object": np.array([{"i": i} for i in range(10)]),
    "day": np.arange(10).astype("datetime64[D]"),
}


def read(route: str, pipeline: Pipeline) -> Any:
    """Return one batch by one route; of a scan, the first."""
    if route == "iteration":
        return next(iter(pipeline))
    if route == "scan":
        return jax.tree.map(lambda leaf: leaf[0], pipeline.scan(lambda batch: batch, length=1))
    return nnx.jit(Pipeline.step)(pipeline) if route == "traced step" else pipeline.step()


class TextRecords(DataSourceModule):
    """A third party's host source of text."""

    def __len__(self) -> int:
        return 10

    def element_spec(self) -> Any:
        return {name: jax.ShapeDtypeStruct((), column.dtype) for name, column in TEXT.items()}

    def get_records(self, indices: Any) -> Any:
        return {name: column[indices] for name, column in TEXT.items()}


@pytest.mark.parametrize("kind", [*PLACEMENTS, "third party"])
@pytest.mark.parametrize("route", ["iteration", "step"])
def test_text_and_objects_are_served_as_host_fields(make_source: MakeSource, kind: str, route: str) -> None:
    def stage(batch: Any) -> Any:
        assert set(batch) == {"id", "valid"}
        return {**batch, "double": batch["id"] * 2}

    source = (
        TextRecords(StructuralConfig()) if kind == "third party" else make_source(TEXT, shuffle=True, placement=kind)
    )
    pipeline = Pipeline(source=source, batch_size=4, stages=[stage], pad_last="valid")
    for batch in [read(route, pipeline) for _ in range(3)] if route == "step" else list(pipeline):
        assert set(batch) == {*TEXT, "valid", "double"}
        assert isinstance(batch["id"], jax.Array)
        for name in ("text", "bytes", "object", "day"):
            assert batch[name].dtype == TEXT[name].dtype
            assert batch[name].tolist() == TEXT[name][np.asarray(batch["id"])].tolist()
    assert pipeline.element_spec()["text"].dtype == TEXT["text"].dtype


@pytest.mark.parametrize("kind", [*PLACEMENTS, "third party"])
@pytest.mark.parametrize("route", ["scan", "traced step"])
def test_compiled_routes_refuse_text_and_objects_by_name(make_source: MakeSource, kind: str, route: str) -> None:
    source = TextRecords(StructuralConfig()) if kind == "third party" else make_source(TEXT, placement=kind)
    pipeline = Pipeline(source=source, batch_size=4)
    message = (
        "has fields that compiled code cannot carry: bytes, day, object, text; leave them out, or iterate from Python"
    )
    with pytest.raises(SpecError, match=message):
        read(route, pipeline)
    assert pipeline.get_state()["position"] == 0


def test_a_stage_may_not_make_a_field_of_a_host_fields_name(make_source: MakeSource) -> None:
    pipeline = Pipeline(source=make_source(TEXT), batch_size=4, stages=[lambda batch: {**batch, "text": batch["id"]}])
    message = r"host fields \(text, bytes, objects\) cannot be added: the batch has a field 'text' already"
    with pytest.raises(SpecError, match=message):
        pipeline.step()


def test_text_without_a_field_name_is_refused(make_source: MakeSource) -> None:
    source = make_source(["a", "b"], placement="host")
    message = (
        r"text or object records \(record\) need a field name, since they stay on the host as host fields of the batch; "
        "make each record a dict"
    )
    with pytest.raises(SpecError, match=message):
        Pipeline(source=source, batch_size=2)


# -- 64 bits ------------------------------------------------------------------------------------------------------------

WIDE: dict[str, tuple[Any, str]] = {
    "int64": (
        np.array([1, 2, 2**40 + 7, 4]),
        r"field 'wide'.* is int64 and 1099511627783 \(r.* 2\) does not fit",
    ),
    "negative": (np.array([1, 2, -(2**31) - 1, 4]), r"field 'wide'.* is int64 and -2147483649 \(r.* 2\)"),
    "uint64": (np.array([1, 2, 2**32, 4], np.uint64), r"field 'wide'.* is uint64 and 4294967296 \(r.* 2\)"),
    "float64": (
        np.array([1, 2, 1e300, 4]),
        r"field 'wide'.* is float64 and 1e\+300 \(r.* 2\) does not fit",
    ),
    "whole float64": (np.array([1, 2, 1.7e9 + 1, 4]), r"field 'wide'.* is float64 and 1700000001\.0 \(r.* 2\)"),
    "tiny float64": (np.array([1, 2, 1e-46, 4]), r"field 'wide'.* is float64 and 1e-46 \(r.* 2\)"),
}


@pytest.mark.parametrize("route", ["iteration", "step", "scan", "traced step"])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_value_that_does_not_fit_is_refused_in_every_route(
    make_source: MakeSource, placement: str, route: str
) -> None:
    column, message = WIDE["int64"]
    pipeline = Pipeline(source=make_source({"id": np.arange(4), "wide": column}, placement=placement), batch_size=4)
    traced_on_the_host = placement == "host" and route == "traced step"
    kind = jax.errors.JaxRuntimeError if traced_on_the_host else NarrowingError
    with pytest.raises(kind, match=message + r".* int32, which is what a device keeps; let the pipeline begin with"):
        jax.block_until_ready(read(route, pipeline))


@pytest.mark.parametrize(("column", "message"), WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_value_of_any_64_bit_dtype_that_does_not_fit_is_refused_by_name(
    make_source: MakeSource, placement: str, column: np.ndarray, message: str
) -> None:
    pipeline = Pipeline(source=make_source({"wide": column}, placement=placement), batch_size=4)
    with pytest.raises(NarrowingError, match=message):
        pipeline.step()
    assert pipeline.get_state()["position"] == 0


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_values_that_fit_are_narrowed_alike_in_every_route(make_source: MakeSource, placement: str) -> None:
    data = {
        "i": np.array([-(2**31), 2**31 - 1]),
        "u": np.array([0, 2**32 - 1], np.uint64),
        "f": np.array([np.inf, 0.1]),
    }
    for route in ("iteration", "step", "scan", "traced step"):
        batch = read(route, Pipeline(source=make_source(data, placement=placement), batch_size=2))
        assert [str(batch[name].dtype) for name in data] == ["int32", "uint32", "float32"]
        assert batch["i"].tolist() == data["i"].tolist()
        assert batch["u"].tolist() == data["u"].tolist()
        assert batch["f"].tolist() == data["f"].astype(np.float32).tolist()


WITH_X64 = """
import json, sys
sys.path.insert(0, sys.argv[1])
import jax
import numpy as np
from flax import nnx
import conftest
from datarax_core import Pipeline

data = {"id": np.arange(300), "wide": np.arange(300) + 2**40, "f": np.full(300, 1e300)}
results = {}
for placement in ("device", "host"):
    def served(route, start):
        source = conftest.make_eager(data, shuffle=True, placement=placement)
        pipeline = Pipeline(source=source, batch_size=64, num_epochs=None)
        pipeline.set_state(pipeline.get_state() | {"position": start})
        if route == "iteration":
            batch = next(iter(pipeline))
        elif route == "scan":
            batch = jax.tree.map(lambda leaf: leaf[0], pipeline.scan(lambda batch: batch, length=1))
        else:
            batch = (nnx.jit(Pipeline.step) if route == "traced step" else Pipeline.step)(pipeline)
        return {name: [str(leaf.dtype), leaf.tolist()] for name, leaf in batch.items()}
    for route in ("iteration", "step", "scan", "traced step"):
        results[f"{placement} {route}"] = served(route, 270)
print(json.dumps(results))
"""


def test_with_x64_nothing_is_narrowed_and_the_order_is_the_same(make_source: MakeSource) -> None:
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-W", "error", "-c", WITH_X64, str(Path(__file__).parents[1])],
        env={**os.environ, "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    source = make_source(300, shuffle=True)
    ids = source.get_batch_at(270, 64, source.order_key_data())["id"].tolist()
    wanted = {"id": ["int64", ids], "wide": ["int64", [i + 2**40 for i in ids]], "f": ["float64", [1e300] * 64]}
    results = json.loads(done.stdout)
    assert len(results) == 8
    assert all(result == wanted for result in results.values())
