"""Mistakes of host stages: each error names stage, source, records and what to do."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import ConfigError, Pipeline, SpecError, from_sequence
from datarax_core.registry.pipeline_config import parse_config
from datarax_core.stages import Cache, Cast, Graph, Pad, TokenizeBytes, per_record
from datarax_memory import MemorySource, MemorySourceConfig

Batch = dict[str, Any]
LENGTH = 12


class Stage:
    """A host stage of a function of the batch, which keeps the element spec."""

    on_host = True

    def __init__(self, call: Callable[[Batch], Any]) -> None:
        self._call = call

    def element_spec(self, spec: Any) -> Any:
        return spec

    def __call__(self, batch: Batch) -> Any:
        return self._call(batch)


def source() -> MemorySource:
    text = [f"text {number}" for number in range(LENGTH)]
    return MemorySource(MemorySourceConfig(), {"id": np.arange(LENGTH), "text": text})


def pipeline(*stages: Any, **options: Any) -> Pipeline:
    return Pipeline(source=source(), stages=stages, batch_size=4, **options)


def failing(record: int) -> Callable[[Batch], Batch]:
    def call(batch: Batch) -> Batch:
        if (batch["id"] == record).any():
            raise RuntimeError("cannot be decoded")
        return batch

    return call


def writing(batch: Batch) -> Batch:
    batch["id"][0] = 3
    return batch


RETURNED = {
    "nothing": (lambda _: None, TypeError, r"stage 0 \(Stage\) returned None; a host stage returns the batch it made"),
    "no fields": (lambda _: {}, TypeError, r"stage 0 \(Stage\) returned a batch without fields"),
    "a device array": (
        lambda batch: {**batch, "id": jnp.asarray(batch["id"])},
        TypeError,
        r"stage 0 \(Stage\) returned a device array in field 'id'; a host stage computes with NumPy alone",
    ),
    "a list": (
        lambda batch: {**batch, "id": batch["id"].tolist()},
        TypeError,
        r"stage 0 \(Stage\) returned a list in field 'id'; a column is a NumPy array or a Ragged",
    ),
    "a number": (
        lambda batch: {**batch, "id": np.array(1)},
        TypeError,
        r"stage 0 \(Stage\) returned an array without rows in field 'id'",
    ),
    "other rows": (
        lambda batch: {**batch, "id": batch["id"][1:]},
        SpecError,
        r"stage 0 \(Stage\) returned 3 rows in field 'id' for 4 records; a host stage returns a row for each record",
    ),
    "another dtype": (
        lambda batch: {**batch, "id": batch["id"].astype(np.int16)},
        SpecError,
        r"stage 0 \(Stage\) gave a batch that its element_spec\(\) does not describe: field 'id' is int16\[\] where int64\[\]",
    ),
    "another field": (lambda batch: {**batch, "x": batch["id"]}, SpecError, r"field 'x' \(int64\[\]\) is not expected"),
    "its input, changed": (writing, ValueError, "read-only"),
}


@pytest.mark.parametrize("name", RETURNED)
def test_a_batch_that_a_stage_may_not_return(name: str) -> None:
    call, kind, message = RETURNED[name]
    with pytest.raises(kind, match=message) as raised:
        pipeline(Stage(call)).step()
    notes = "\n".join(raised.value.__notes__)
    assert "in stage 0 (Stage) of the pipeline" in notes
    assert "which was called with records 0, 1, 2, 3 of MemorySource" in notes
    assert ("write to a copy, column.copy()" in notes) == (name == "its input, changed")


def test_an_error_of_a_stage_names_the_record_that_fails_by_itself() -> None:
    one = pipeline(Stage(failing(6)))
    one.step()
    with pytest.raises(RuntimeError, match="cannot be decoded") as raised:
        one.step()
    assert raised.value.__notes__ == [
        "in stage 0 (Stage) of the pipeline",
        "which was called with records 4, 5, 6, 7 of MemorySource",
        "record 6 fails by itself",
        "while MemorySource read the records at positions 4 to 7: records 4, 5, 6, 7",
    ]


def test_an_error_in_a_scan_is_the_error_of_the_stage() -> None:
    keeping = per_record(lambda record: {"id": record["id"]})
    with pytest.raises(RuntimeError, match="cannot be decoded") as raised:
        pipeline(Stage(failing(6)), keeping).scan(lambda batch: batch, length=3)
    assert "record 6 fails by itself" in raised.value.__notes__


def test_records_that_fail_together_only() -> None:
    def call(batch: Batch) -> Batch:
        if len(batch["id"]) > 1:
            raise RuntimeError("too many")
        return batch

    with pytest.raises(RuntimeError, match="too many") as raised:
        pipeline(Stage(call)).step()
    assert "none of these records fails by itself" in raised.value.__notes__


def test_a_field_that_is_not_there() -> None:
    with pytest.raises(KeyError, match="nope") as raised:
        pipeline(Stage(lambda batch: {"id": batch["nope"]})).step()
    assert "the fields that it was called with are id, text" in raised.value.__notes__


def test_stop_iteration_ends_no_loop() -> None:
    def stop(_: Batch) -> Batch:
        raise StopIteration

    with pytest.raises(RuntimeError, match=r"stage 0 \(Stage\) of the pipeline raised StopIteration"):
        list(pipeline(Stage(stop)))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            [lambda batch: batch, Stage(dict)],
            r"stages\[1\]: Stage runs on the host, and stands behind stage 0 \(<lambda>\), which .*; put stage 1 before it",
        ),
        ([Cast(field="id", dtype="int32"), TokenizeBytes(field="text")], r"tokenize_bytes .* behind stage 0 \(cast\)"),
    ],
)
def test_a_host_stage_behind_a_compiled_one(stages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline(*stages)


def test_a_config_with_a_host_stage_behind_a_compiled_one() -> None:
    stages = [{"type": "cast", "field": "id", "dtype": "int32"}, {"type": "tokenize_bytes", "field": "text"}]
    config = {"source": {"type": "memory", "path": "data.npz"}, "batch_size": 4, "stages": stages}
    with pytest.raises(ConfigError, match=r"stages\[1\]: tokenize_bytes runs on the host, and stands behind stage 0"):
        parse_config(config)


def test_on_host_is_true_false_or_either() -> None:
    stage = Stage(dict)
    stage.on_host = "yes"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="on_host is True, False or 'either', not 'yes'"):
        pipeline(stage)


def test_a_stage_that_does_not_take_what_it_is_called_with() -> None:
    class Draws(Stage):
        stochastic = True

    with pytest.raises(TypeError, match=r"has stochastic = True, so it is called with \(batch, keys\)"):
        pipeline(Draws(dict), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="stage 0 is stochastic and needs random numbers: pass rngs="):
        pipeline(per_record(lambda record, _: record, stochastic=True))


@pytest.mark.parametrize(("spec", "message"), [({}, "returned {}"), ({"id": 3}, "returned 3; return a jax.Shape")])
def test_what_is_no_spec(spec: Any, message: str) -> None:
    stage = Stage(dict)
    stage.element_spec = lambda _: spec  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=rf"stages\[0\]: element_spec\(\) of Stage {message}"):
        pipeline(stage)


def test_a_stage_without_a_spec_whose_batches_differ_from_its_first_record() -> None:
    varying = per_record(lambda record: {"n": np.arange(record["id"])})
    with pytest.raises(
        SpecError, match=r"the result of per_record\(<lambda>\) for row 1 .* int64\[1\] where int64\[0\]"
    ):
        pipeline(varying).step()


def test_a_stage_without_a_spec_that_fails_on_the_first_record() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        pipeline(per_record(lambda record: {"x": 1 // int(record["id"])}))
    assert "has no element_spec(), so it was run on one record" in raised.value.__notes__[-1]


def test_a_stream_that_cannot_go_back_needs_a_spec(streams: Any) -> None:
    with pytest.raises(ValueError, match="give the stage a method element_spec"):
        Pipeline(source=streams.Endless(), stages=[per_record(dict)], batch_size=2)


def test_a_stream_has_no_record_indices(streams: Any) -> None:
    stage = per_record(lambda record, _: record, element_spec=lambda spec: spec, takes_record_indices=True)
    with pytest.raises(ValueError, match="takes record indices, and Sized is a stream, whose records have none"):
        Pipeline(source=streams.Sized(10), stages=[stage], batch_size=2)


@pytest.mark.parametrize("stage", [per_record(lambda record: record), Stage(lambda batch: batch)])
def test_a_stage_that_does_not_pickle_is_named(stage: Any) -> None:
    with pytest.raises(TypeError, match=r"stage 0 \(.*\) cannot be sent to worker processes: its _?\w+, a function,"):
        pipeline(stage, workers=1).step()


def test_a_compiled_stage_that_looks_for_a_field_on_the_host_only() -> None:
    remedy = r"\{type: pad, field: tokens, length: \.\.\.\} or per_record"
    with pytest.raises(ValueError, match=rf"'tokens' is int32\[None\], whose records differ in shape: .* {remedy}"):
        pipeline(TokenizeBytes(field="text", to="tokens"), Cast(field="tokens", dtype="int32"))
    one = pipeline(TokenizeBytes(field="text", to="tokens"), lambda batch: {"x": batch["tokens"]})
    for call in (one.step, one.element_spec):
        with pytest.raises(KeyError, match="tokens") as raised:
            call()
        assert "the records have a field 'tokens', but it is int32[None]" in raised.value.__notes__[-1]


def test_a_compiled_stage_that_looks_for_bytes() -> None:
    images = from_sequence([{"image": b"a file"}] * 4)
    with pytest.raises(
        ValueError, match=r"'image' is object, which no device has: .*, decode_image of datarax-image or per_"
    ):
        Pipeline(source=images, stages=[Cast(field="image", dtype="float32")], batch_size=2)


def test_fields_on_the_host_cannot_be_scanned() -> None:
    with pytest.raises(
        SpecError, match=r"make fields that compiled code cannot carry: text \(\w+\[\]\), tokens \(int32"
    ):
        pipeline(TokenizeBytes(field="text", to="tokens")).scan(lambda batch: batch, length=1)


def test_batches_of_several_shapes_cannot_be_scanned() -> None:
    stages = [TokenizeBytes(field="text"), Pad(field="text", lengths=(4, 32))]
    assert pipeline(*stages).step()["text"].shape == (4, 32)
    with pytest.raises(SpecError, match=r"stage 1 \(pad\) makes batches of several shapes"):
        pipeline(*stages).scan(lambda batch: batch, length=1)


def test_a_stage_that_one_thread_calls_at_a_time() -> None:
    stage = Stage(lambda batch: batch)
    stage.thread_safe = False  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"but stage 0 \(Stage\) says that it may be called by one thread only"):
        pipeline(stage, threads=2)
    one = pipeline(stage)
    assert "stage 0 (Stage) says that it is not thread-safe: one thread reads it at a time" in one.explain()
    assert len(list(one)) == 3


def test_a_graph_runs_on_the_device() -> None:
    with pytest.raises(ValueError, match="node 'a' runs on the host, where no graph runs"):
        Graph(nodes={"a": Stage(dict)}, edges=[("source", "a")], sink="a")


def test_a_host_stage_has_no_variables() -> None:
    class Module(nnx.Module):
        on_host = True

        def __init__(self) -> None:
            self.count = nnx.Variable(jnp.zeros(()))

        def __call__(self, batch: Batch) -> Batch:
            return batch

    with pytest.raises(ValueError, match=r"stages\[0\]: Module runs on the host, and holds variables"):
        pipeline(Module())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda stage: Cache(stage, 3), "keeps rows for 3 records, and MemorySource has 12"),
        (lambda stage: Cache(stage, LENGTH, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0])), "sharding out"),
        (lambda stage: Cache(stage, LENGTH, max_bytes=0), "max_bytes is at least 1, not 0; None keeps all"),
        (lambda _: Cache(lambda batch: batch, LENGTH, max_bytes=9), "max_bytes bounds the results of host stages"),
        (lambda _: Cache(per_record(lambda record, _: record, stochastic=True), LENGTH), "because it is stochastic"),
        (lambda _: Cache(Pad(field="x", lengths=(1, 2)), LENGTH), "depends on the others of its batch"),
    ],
)  # fmt: skip
def test_a_cache_that_cannot_work(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline(make(Stage(lambda batch: batch)))


def test_a_cache_behind_what_differs_in_each_epoch() -> None:
    drawing = per_record(lambda record, _: record, element_spec=lambda spec: spec, stochastic=True)
    with pytest.raises(
        ValueError, match=r"per_record\(<lambda>\) before it draws anew in each epoch; put the cache before"
    ):
        pipeline(drawing, Cache(Stage(lambda batch: batch), LENGTH), rngs=nnx.Rngs(0))
    whole = [TokenizeBytes(field="text"), Pad(field="text", lengths=(4, 32))]
    with pytest.raises(ValueError, match="pad before it makes of a record what depends on the others"):
        pipeline(*whole, Cache(Stage(lambda batch: batch), LENGTH))
    with pytest.raises(ValueError, match="is empty"):
        Pipeline(source=from_sequence([]), stages=[per_record(dict)], batch_size=1)
