"""The check of stages on the host: sound stages pass, and each broken promise is a sentence that names it."""

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _pytest.outcomes import Failed
from flax import nnx

from datarax_core import Stage
from datarax_core.records import Ragged
from datarax_core.stages import per_record
from datarax_core.testing import check_host_stage

BATCH = {
    "x": np.arange(12, dtype=np.float32),
    "tokens": Ragged.from_list([np.arange(length, dtype=np.int32) for length in range(12)]),
    "text": np.array([f"text {number}" for number in range(12)], object),
}


def doubled(record: Any) -> Any:
    return {"x": record["x"] * 2, "text": record["text"]}


def unchanged(record: Any, rng: np.random.Generator) -> Any:  # noqa: ARG001 - what is wrong with it
    return {"x": record["x"]}


def jittered(record: Any, rng: np.random.Generator) -> Any:
    return {"x": record["x"] + rng.normal()}


class OnHost:
    """A stage of the test; ``fn`` is what it does to a batch."""

    on_host = True
    name = "acme"

    def __init__(self, fn: Callable[..., Any], element_spec: Any = None, **flags: bool) -> None:
        self.fn = fn
        vars(self).update(flags)
        if element_spec is not None:
            self.element_spec = lambda _: element_spec

    def __call__(self, batch: Any, *arguments: Any) -> Any:
        return self.fn(batch, *arguments)


class Lengths(Stage):
    """A config of a third party."""

    type: str = "acme_lengths"
    on_host: ClassVar[bool] = True

    def element_spec(self, spec: Any) -> Any:
        return {**spec, "length": jax.ShapeDtypeStruct((), np.dtype(np.int64))}

    def __call__(self, batch: Any) -> Any:
        return {**batch, "length": batch["tokens"].lengths}


@pytest.mark.parametrize(
    "stage", [Lengths(), per_record(doubled), per_record(jittered, stochastic=True)], ids=["config", "plain", "random"]
)
def test_sound_stages_pass(stage: Any) -> None:
    made = check_host_stage(stage, BATCH)
    assert len(made["x"]) == 12


def test_a_config_that_builds_another_stage_is_built() -> None:
    class Built(Lengths):
        def build(self, spec: Any, rngs: nnx.Rngs) -> Any:  # noqa: ARG002 - the protocol's
            return per_record(doubled)

    assert check_host_stage(Built(), BATCH)["x"].tolist() == (BATCH["x"] * 2).tolist()


def mean_of_batch(batch: Any) -> Any:
    return {"x": batch["x"] - batch["x"].mean()}


def in_place(batch: Any) -> Any:
    batch["x"] *= 2
    return batch


def drop_a_field(batch: Any) -> Any:
    kept = dict(batch)
    del batch["text"]
    return kept


class Remembering:
    """A stage that counts its calls, which no stage may let anybody see."""

    on_host = True
    calls = 0

    def __call__(self, batch: Any) -> Any:
        self.calls += 1
        return {"x": batch["x"] + self.calls}


class Reusing:
    """A stage that makes all of its batches in one memory."""

    on_host = True

    def __init__(self) -> None:
        self.room = np.zeros(100, np.float32)

    def __call__(self, batch: Any) -> Any:
        made = self.room[: len(batch["x"])]
        made[:] = batch["x"]
        return {"x": made}


class Fingerprinted:
    """A stage whose fingerprint is ``told``."""

    on_host = True

    def __init__(self, told: Any) -> None:
        self.told = told

    def fingerprint(self) -> Any:
        return self.told

    def __call__(self, batch: Any) -> Any:
        return {"x": batch["x"] + 1}


class Joining:
    """A stage that does the work of itself and of `doubled`; wrongly if told so."""

    on_host = True

    def __init__(self, *, wrongly: bool) -> None:
        self.wrongly = wrongly

    def join(self, following: Any) -> Any:
        return AddAndDouble(3 if self.wrongly else 2) if following is DOUBLED else None

    def __call__(self, batch: Any) -> Any:
        return {"x": batch["x"] + 1, "text": batch["text"]}


class AddAndDouble:
    on_host = True

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, batch: Any) -> Any:
        return {"x": (batch["x"] + 1) * self.factor, "text": batch["text"]}


DOUBLED = per_record(doubled)


def varying(batch: Any) -> Any:
    return {"x": np.asarray(batch["x"], np.float64 if len(batch["x"]) > 1 else np.float32)}


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            lambda batch: batch,
            r"the stage <lambda> does not say that it runs on the host; give its class on_host = True$",
        ),
        (OnHost(lambda _: None), r"the stage acme returned None; it returns the batch it made"),
        (
            OnHost(lambda b: {"x": jnp.asarray(b["x"])}),
            r"returned a device array in field 'x'; a host stage computes with NumPy",
        ),
        (
            OnHost(lambda b: {"x": b["x"].tolist()}),
            r"returned a float in field '.*'; a column is a NumPy array or a Ragged",
        ),
        (
            OnHost(lambda b: {"x": b["x"][:3]}),
            r"returned 3 rows in field 'x' for 12 records; it returns a row for each, in",
        ),
        (
            OnHost(in_place),
            r"raised ValueError: .*read-only; its columns are read-only, and it makes new ones of what it changes",
        ),
        (
            OnHost(drop_a_field),
            r"changed the batch that it was called with: its fields are tokens, x where text, tokens, x are",
        ),
        (
            OnHost(lambda b: {"x": b["x"]}, {"x": jax.ShapeDtypeStruct((), np.dtype(np.int32))}),
            r"says in element_spec what its batches are, and a batch of 12 records is not so: field 'x' is float32\[\] where",
        ),
        (
            OnHost(varying),
            r"has no element_spec, so that all records are as the first one is, and a batch of 12 records is not",
        ),
        (
            Remembering(),
            r"the stage Remembering made another batch of the same records when it was called again: field 'x' of row",
        ),
        (
            OnHost(lambda b: {"x": b["x"] + np.random.default_rng().normal()}),
            r"made another batch of the same records when it was called again: .*; what is random draws from the generators",
        ),
        (
            OnHost(mean_of_batch),
            r"makes something else of a record by itself: field 'x' of row 0 is .* where .* is expected; a",
        ),
        (
            OnHost(lambda b: {"x": np.sort(b["x"])}),
            r"makes something else of a record in another order: field 'x' of row 0 is",
        ),
        (
            OnHost(lambda b: {"x": b["x"]}),
            r"does not pickle: .*; worker processes receive a copy, so define its functions in a",
        ),
        (per_record(lambda record: {"x": record["x"]}), r"does not pickle: "),
        (
            per_record(unchanged, stochastic=True),
            r"is stochastic, and made the same batch in 8 epochs; draw from the generators that it is called with, or leave",
        ),
    ],
)
def test_a_broken_promise_is_named(stage: Any, message: str) -> None:
    with pytest.raises(Failed, match=message):
        check_host_stage(stage, BATCH)


def test_one_record_is_too_few() -> None:
    with pytest.raises(Failed, match="give it a batch of two records at least"):
        check_host_stage(per_record(doubled), {"x": np.zeros(1)})


def test_a_stage_is_joined_with_the_one_behind_it() -> None:
    check_host_stage(Joining(wrongly=False), BATCH, then=DOUBLED)
    with pytest.raises(
        Failed, match=r"the stage Joining joined with per_record\(doubled\) makes something else: field 'x' of"
    ):
        check_host_stage(Joining(wrongly=True), BATCH, then=DOUBLED)
    with pytest.raises(Failed, match=r"the stage Joining joins no per_record\(unchanged\); leave `then` out"):
        check_host_stage(Joining(wrongly=False), BATCH, then=per_record(unchanged))


@pytest.mark.parametrize("texts", [["a", "b"], np.array("ab", object)])
def test_a_batch_of_lists_or_single_values_is_refused(texts: Any) -> None:
    with pytest.raises(
        Failed, match=r"was given a \w+ in field 'text(\.0)?'; a column is a NumPy array, of objects for text"
    ):
        check_host_stage(OnHost(dict), {"text": texts})


THREADS: set[int] = set()


def noting_its_thread(batch: Any) -> Any:
    THREADS.add(threading.get_ident())
    return {"x": batch["x"]}


def test_a_stage_of_one_thread_is_called_by_one_thread() -> None:
    check_host_stage(OnHost(noting_its_thread, thread_safe=False), BATCH)
    assert {threading.get_ident()} == THREADS
    check_host_stage(OnHost(noting_its_thread), BATCH)
    assert len(THREADS) > 1
