"""The mask of `pad_last` fits the rows of each batch, or the stage that changes their number is refused by name."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline, Rebatch, SpecError

MakeSource = Callable[..., Any]
Batch = dict[str, Any]
ROUTES: dict[str, Callable[[Pipeline], Any]] = {
    "loop": lambda pipeline: next(iter(pipeline)),
    "step": lambda pipeline: pipeline.step(),
    "scan": lambda pipeline: pipeline.scan(lambda batch: batch, length=1),
    "traced step": nnx.jit(Pipeline.step),
    "spec": lambda pipeline: pipeline.element_spec(),
}


def same(batch: Batch) -> Batch:
    return batch


def halve(batch: Batch) -> Batch:
    return jax.tree.map(lambda leaf: leaf[::2], batch)


def two_views(batch: Batch) -> Batch:
    return {**batch, "image": jnp.concatenate([batch["image"], batch["image"]])}


def tokens(batch: Batch) -> Batch:
    return {"valid": batch["valid"], "tokens": batch["image"].reshape(-1)}


def pooled(batch: Batch) -> Batch:
    return {**batch, "image": batch["image"].sum(0)}


def source_of(make_source: MakeSource) -> Any:
    return make_source({"id": np.arange(20, dtype=np.int32), "image": np.ones((20, 8, 3), np.float32)})


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
@pytest.mark.parametrize(
    ("stage", "found"),
    [
        (halve, "4 rows of the 8 in field 'id'"),
        (two_views, "16 rows of the 8 in field 'image'"),
        (tokens, "192 rows of the 8 in field 'tokens'"),
    ],
)
def test_a_stage_that_changes_the_number_of_rows_is_refused(
    make_source: MakeSource, stage: Any, found: str, route: Callable[[Pipeline], Any]
) -> None:
    pipeline = Pipeline(source=source_of(make_source), stages=[same, stage], batch_size=8, pad_last="valid")
    with pytest.raises(
        SpecError, match=rf"^stage 1 \({stage.__name__}\) makes {found}, so that the mask 'valid' of pad_last"
    ):
        route(pipeline)
    assert next(iter(Pipeline(source=source_of(make_source), stages=[same], batch_size=8, pad_last="valid")))


def test_a_reduction_that_takes_the_place_of_its_field_is_refused(make_source: MakeSource) -> None:
    source = make_source({"image": np.ones((20, 5, 3), np.float32)})
    with pytest.raises(SpecError, match=r"^stage 0 \(pooled\) makes 5 rows of the 8 in field 'image'"):
        Pipeline(source=source, stages=[pooled], batch_size=8, pad_last="valid").step()


@pytest.mark.parametrize(
    "stage",
    [
        lambda batch: {**batch, "image": jnp.swapaxes(batch["image"], 0, 1)},
        lambda batch: {**batch, "image": batch["image"].reshape(8, -1)},
        lambda batch: {**batch, "mean": batch["image"].mean((0, 1)), "count": jnp.ones(())},
        lambda batch: {"id": batch["id"]},
        Rebatch(4),
    ],
    ids=["time-major", "flat", "statistics", "fewer fields", "groups"],
)
def test_other_changes_of_shape_keep_the_mask(make_source: MakeSource, stage: Any) -> None:
    pipeline = Pipeline(source=source_of(make_source), stages=[stage], batch_size=8, pad_last="valid")
    *_, last = pipeline
    assert np.asarray(last["valid"]).ravel().tolist() == [True] * 4 + [False] * 4
