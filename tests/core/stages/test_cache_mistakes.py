"""`Cache` refuses stages and sources that it cannot work with, and results that it cannot keep; errors name them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from serving import batches_of

from datarax_core import Cache, Pipeline, Rebatch, SpecError

MakeSource = Callable[..., Any]
ROUTES = ["loop", "step", "scan", "traced"]


class Noise:
    stochastic = True

    def __call__(self, batch: Any, keys: jax.Array) -> Any:
        return batch | {"noise": jax.vmap(jax.random.uniform)(keys)}


@pytest.mark.parametrize(
    ("stage", "source", "error", "message"),
    [
        (
            Noise(),
            3,
            ValueError,
            r"^a Cache keeps one result for each record, and the results of Noise differ in each epoch, because",
        ),
        (Cache(jnp.sin, 3), 3, ValueError, r"^the stage cache of sin is or holds a Cache already; one is enough$"),
        ("encode", 3, TypeError, r"^a Cache takes a callable stage, not 'encode'$"),
        (jnp.sin, 0, ValueError, r"^source, if it is a number of records, is at least 1, not 0$"),
        (
            jnp.sin,
            "train",
            TypeError,
            r"^source, if it is a number of records, is an integer, not 'train'$",
        ),
        (jnp.sin, 2**31, ValueError, r"^Cache addresses at most 2147483647 records, not 2147483648$"),
    ],
)
def test_a_cache_that_cannot_work_is_refused(stage: Any, source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Cache(stage, source)


def test_a_cache_for_another_source_is_refused(make_source: MakeSource) -> None:
    cache = Cache(jnp.sin, make_source(60, name="train"))
    for stages in ([cache], [lambda batch: batch, cache]):
        with pytest.raises(
            ValueError,
            match=r"\(cache of sin\) keeps rows for 60 records, and EagerSourceBase 'test' has 10; make a Cache",
        ):
            Pipeline(source=make_source(10, name="test"), stages=stages, batch_size=2)


def test_a_cache_in_two_places_is_refused(make_source: MakeSource) -> None:
    source = make_source(10)
    cache = Cache(jnp.sin, source)
    with pytest.raises(ValueError, match=r"^stage 1 \(cache of sin\) is in the pipeline twice"):
        Pipeline(source=source, stages=[cache, cache], batch_size=2)
    edges = [("source", "a"), ("a", "b")]
    with pytest.raises(ValueError, match=r"^stage 0 \(cache of sin\) is in the pipeline twice"):
        Pipeline.from_dag(source=source, nodes={"a": cache, "b": cache}, edges=edges, sink="b", batch_size=2)


class Counts(nnx.Module):
    def __init__(self) -> None:
        self.calls = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, batch: Any) -> Any:
        self.calls[...] += 1
        return {"y": batch["x"] * 2}


@pytest.mark.parametrize("route", ROUTES)
def test_a_stage_that_writes_to_a_variable_is_refused(make_source: MakeSource, route: str) -> None:
    source = make_source(10)
    pipeline = Pipeline(source=source, stages=[Cache(Counts(), source)], batch_size=5)
    with pytest.raises(
        ValueError, match=r"^cache of Counts: the stage writes to a variable .* such as with model.eval\(\)"
    ):
        batches_of(pipeline, route, 1)


def test_dropout_and_batch_norm_are_cached_in_evaluation_mode(make_source: MakeSource) -> None:
    class Encoder(nnx.Module):
        def __init__(self) -> None:
            self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
            self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

        def __call__(self, batch: Any) -> Any:
            return batch | {"code": self.dropout(self.norm(batch["x"]))}

    source, encoder = make_source(10), Encoder()
    pipeline = Pipeline(source=source, stages=[Cache(encoder, source)], batch_size=5)
    with pytest.raises(ValueError, match="the stage writes to a variable"):
        pipeline.step()
    encoder.eval()
    (first, _), (again, _) = list(pipeline), list(pipeline)
    assert np.array_equal(first["code"], again["code"])


def test_results_with_another_number_of_rows_are_refused(make_source: MakeSource) -> None:
    source = make_source(12)
    for stage, shape in ((Rebatch(3), r"\[2, 3\]"), (lambda batch: {"id": batch["id"].sum()}, r"\[\]")):
        with pytest.raises(
            SpecError, match=rf"field 'id' has the shape {shape} where 6 records came in; a cache keeps"
        ):
            Pipeline(source=source, stages=[Cache(stage, source)], batch_size=6).step()


def test_results_of_another_shape_are_refused() -> None:
    cache = Cache(jnp.sin, 4)
    cache(jnp.ones((2, 3)), np.arange(2))
    with pytest.raises(
        ValueError, match=r"^the rows kept are float32\[3\], and now they would be float32\[5\]; all results"
    ):
        cache(jnp.ones((2, 5)), np.arange(2))


@pytest.mark.parametrize("indices", [[0, 4], [-1, 2]])
def test_indices_out_of_range_are_refused(indices: list[int]) -> None:
    with pytest.raises(
        ValueError, match=rf"^record indices from {indices[0]} to {indices[1]} are out of range for a Cache of 4 "
    ):
        Cache(jnp.sin, 4)(jnp.ones(2), np.array(indices))


@pytest.mark.parametrize("on_host", [False, True])
def test_a_cache_serves_one_set_of_records_however_they_are_ordered(make_source: MakeSource, *, on_host: bool) -> None:
    def double(batch: Any) -> Any:
        return {"y": batch["x"] * 2}

    def same(batch: Any) -> Any:
        return batch

    double.on_host = same.on_host = on_host  # type: ignore[attr-defined]
    first = make_source(10, name="train")
    cache = Cache(double, first)
    expected = np.concatenate(
        [np.asarray(batch["y"]) for batch in Pipeline(source=first, stages=[cache], batch_size=5)]
    )
    (again,) = Pipeline(source=make_source(10, shuffle=True), stages=[cache], batch_size=10)
    assert np.array_equal(np.sort(np.asarray(again["y"]), axis=0), np.sort(expected, axis=0))

    others = make_source(20, name="all")[10:]
    with pytest.raises(
        ValueError, match=r"cache of .*double.*\) keeps results by record index, .* uses it for other records"
    ):
        Pipeline(source=others, stages=[cache], batch_size=5)
    with pytest.raises(
        ValueError, match=r"uses it for records after other stages \(none\) than those of .*; make a Cache"
    ):
        Pipeline(source=first, stages=[same, cache], batch_size=5)
