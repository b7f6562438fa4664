"""Sources as third parties write them: three methods, and every route serves the same order."""

import json
import pickle
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import Capabilities, DataSourceModule, Order, Pipeline, SpecError, StateError, StructuralConfig

MakeSource = Callable[..., Any]
ROUTES = ["iteration", "step", "scan", "traced step", "get_batch", "get_batch_at", "elements"]


def ids_through(route: str, source: Any) -> list[int]:
    """Return the first 64 ids of a source, read by one route."""
    if route == "elements":
        return [int(record["id"]) for _, record in zip(range(64), source, strict=False)]
    if route == "get_batch":
        return [int(i) for _ in range(4) for i in source.get_batch(16)["id"]]
    if route == "get_batch_at":
        return source.get_batch_at(0, 64, source.order_key_data())["id"].tolist()
    pipeline = Pipeline(source=source, batch_size=16, num_epochs=None)
    if route == "scan":
        return pipeline.scan(lambda batch: batch["id"], length=4).ravel().tolist()
    if route == "iteration":
        return [int(i) for _, batch in zip(range(4), pipeline, strict=False) for i in batch["id"]]
    step = nnx.jit(lambda pipeline: pipeline.step()["id"]) if route == "traced step" else lambda p: p.step()["id"]
    return np.concatenate([step(pipeline) for _ in range(4)]).tolist()


@pytest.fixture(params=["host", "device"])
def make_third(
    request: pytest.FixtureRequest, make_host_source: MakeSource, make_device_source: MakeSource
) -> MakeSource:
    return make_host_source if request.param == "host" else make_device_source


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_third_partys_source_works_in_every_route(make_third: MakeSource, route: str, *, shuffle: bool) -> None:
    source = make_third(300, shuffle=shuffle)
    assert ids_through(route, source) == Order(300).record_indices(0, 64, source.order_key_data()).tolist()


def test_a_third_partys_source_resumes(make_third: MakeSource) -> None:
    source = make_third(300, shuffle=True)
    pipeline = Pipeline(source=source, batch_size=16)
    for _ in range(3):
        pipeline.step()
    resumed = Pipeline(source=make_third(300, shuffle=True), batch_size=16)
    resumed.set_state(json.loads(json.dumps(pipeline.get_state())))
    assert [batch["id"].tolist() for batch in resumed] == [batch["id"].tolist() for batch in pipeline]


def test_one_thread_reads_a_host_source_in_whole_batches_only(make_host_source: MakeSource) -> None:
    source = make_host_source(100)
    list(Pipeline(source=source, batch_size=40, threads=1))
    assert [len(call) for call in source.reads.calls] == [40, 40, 20]


class Backwards(DataSourceModule):
    """A source with an order of its own: from the last record to the first."""

    def __len__(self) -> int:
        return 300

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int32)}

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:
        del key
        return 299 - (start + np.arange(size)) % 300

    def get_records(self, indices: Any) -> Any:
        return {"id": indices.astype(np.int32)}


@pytest.mark.parametrize("route", ROUTES)
def test_an_order_that_the_author_wrote_is_served(route: str) -> None:
    assert ids_through(route, Backwards(StructuralConfig())) == list(range(299, 235, -1))


# -- batches that differ from the spec ----------------------------------------------------------------------------------

LIES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "dtype": (lambda n: {"id": np.zeros(n, np.int16)}, r"field 'id' is int16\[\] where int32\[\] is expected"),
    "shape": (lambda n: {"id": np.zeros((n, 2), np.int32)}, r"field 'id' is int32\[2\] where int32\[\] is expected"),
    "rows": (lambda n: {"id": np.zeros(n - 1, np.int32)}, r"field 'id' has \d+ rows where \d+ were asked for"),
    "missing": (lambda _: {}, r"field 'id' \(int32\[\]\) is missing"),
    "unexpected": (
        lambda n: {"id": np.zeros(n, np.int32), "x": np.zeros(n, np.int8)}, r"field 'x' \(int8\[\]\) is not expected"
    ),
    "no array": (lambda n: {"id": [0] * n}, r"field 'id' is a list, not an array"),
    "scalar": (lambda _: {"id": np.zeros((), np.int32)}, r"field 'id' has no rows where \d+ were asked for"),
}  # fmt: skip


class Liar(Backwards):
    """A host source whose records differ from its element spec."""

    answer: Callable[[int], Any] = staticmethod(LIES["dtype"][0])

    def get_records(self, indices: Any) -> Any:
        return type(self).answer(len(indices))


class DeviceLiar(Liar):
    """A device source whose records differ from its element spec."""

    traceable = True


ORIGIN = r"Liar 'bad' gave a batch that its element_spec\(\) does not describe: "


@pytest.mark.parametrize(("answer", "message"), LIES.values(), ids=LIES)
def test_a_source_whose_records_differ_from_its_spec_is_named_with_the_difference(
    answer: Callable[[int], Any], message: str
) -> None:
    class Particular(Liar):
        pass

    Particular.answer = staticmethod(answer)
    with pytest.raises(SpecError, match=r"^Particular 'bad' gave a batch that its element_spec.*: " + message):
        Particular(StructuralConfig(), name="bad").get_batch(8)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", [Liar, DeviceLiar])
def test_a_source_whose_records_differ_from_its_spec_is_named_in_every_route(kind: type[Liar], route: str) -> None:
    in_callback = kind is Liar and route == "traced step"
    with pytest.raises(jax.errors.JaxRuntimeError if in_callback else SpecError, match=ORIGIN + LIES["dtype"][1]):
        ids_through(route, kind(StructuralConfig(), name="bad"))


def test_a_batch_that_could_not_be_read_is_read_again(make_host_source: MakeSource) -> None:
    source = make_host_source(64)
    pipeline = Pipeline(source=source, batch_size=16, prefetch=0)
    batches = iter(pipeline)
    next(batches)
    source.reads.fail = True
    for read_on in (lambda: next(batches), pipeline.step, lambda: source.get_batch(16), lambda: next(iter(source))):
        with pytest.raises(OSError, match="the disk is gone"):
            read_on()
    source.reads.fail = False
    assert next(batches)["id"].tolist() == list(range(16, 32))
    assert source.get_batch(16)["id"].tolist() == list(range(16))


# -- streams and incomplete sources -------------------------------------------------------------------------------------


class Ticks(DataSourceModule):
    """A forward-only stream."""

    def get_batch(self, batch_size: int) -> Any:
        return {"tick": np.zeros(batch_size, np.int32)}


def test_a_stream_has_no_random_access() -> None:
    stream = Ticks(StructuralConfig())
    assert stream.access == "stream"
    assert stream.get_batch(3)["tick"].tolist() == [0, 0, 0]
    message = "^Ticks is a stream without random access; read it with get_batch"
    indexed: list[Callable[[], Any]] = [
        lambda: stream[0],
        lambda: iter(stream),
        lambda: stream.get_batch_at(0, 2),
        lambda: stream.record_indices_at(0, 2),
    ]
    for access in indexed:
        with pytest.raises(NotImplementedError, match=message):
            access()
    with pytest.raises(
        NotImplementedError, match=r"^Ticks has no random access: it does not define get_records\(\); read"
    ):
        stream.get_records(np.arange(2))
    with pytest.raises(
        NotImplementedError, match=r"^Ticks does not define element_spec\(\); return a jax.ShapeDtypeStru"
    ):
        stream.element_spec()


def test_a_source_without_a_length_says_so() -> None:
    class Lengthless(DataSourceModule):
        def get_records(self, indices: Any) -> Any:
            return {"id": indices}

    source = Lengthless(StructuralConfig(), name="train")
    message = r"^Lengthless 'train' has no length: it does not define __len__\(\)$"
    for access in (lambda: source[0], lambda: next(iter(source)), lambda: Pipeline(source=source, batch_size=2)):
        with pytest.raises(TypeError, match=message):
            access()


def test_capabilities_follow_from_the_methods_of_the_class(
    make_host_source: MakeSource, make_device_source: MakeSource
) -> None:
    class Resumable(Ticks):
        def set_state(self, state: dict[str, Any]) -> None:
            del state

    plain = {"random_access": True, "batched_reads": True, "traceable": False, "resumable": True, "sized": True}
    stream = plain | {"random_access": False, "resumable": False, "sized": False}
    assert make_host_source().capabilities == Capabilities(**plain)
    assert make_device_source().capabilities == Capabilities(**plain | {"traceable": True})
    assert Ticks(StructuralConfig()).capabilities == Capabilities(**stream)
    assert Resumable(StructuralConfig()).capabilities == Capabilities(**stream | {"resumable": True})


def test_a_state_of_a_source_is_plain_and_restores_the_position_of_the_same_source_only(make_third: MakeSource) -> None:
    source = make_third(300, shuffle=True)
    source.get_batch(290)
    resumed = make_third(300, shuffle=True)
    resumed.set_state(pickle.loads(pickle.dumps(source.get_state())))  # noqa: S301 - our own bytes
    assert resumed.get_batch(20)["id"].tolist() == source.get_batch(20)["id"].tolist()
    other = make_third(301, shuffle=True, seed=1)
    before = other.get_batch_at(0, 9, other.order_key_data())["id"].tolist()
    with pytest.raises(
        StateError, match=r"than \w+Records: length was 300 and is 301; seed was .* and is .*; restore it in"
    ):
        other.set_state(source.get_state())
    with pytest.raises(StateError, match=r"the variables of \w+ in the state are a dict, not list"):
        resumed.set_state(source.get_state() | {"variables": []})
    assert other.get_batch(9)["id"].tolist() == before


# -- position, closing and seed -----------------------------------------------------------------------------------------


def test_every_source_counts_its_epochs_and_the_records_of_the_current_one(make_third: MakeSource) -> None:
    source = make_third(10, shuffle=True)
    seen = []
    for size in (4, 6, 13):
        seen.append((source.epoch, source.index))
        source.get_batch(size)
    assert [*seen, (source.epoch, source.index)] == [(0, 0), (0, 4), (1, 0), (2, 3)]


@pytest.mark.parametrize("name", ["index", "epoch"])
def test_counts_of_core_s_sources_cannot_be_assigned(make_source: MakeSource, name: str) -> None:
    source = make_source(10)
    source.get_batch(4)
    with pytest.raises(AttributeError, match=f"^property '{name}' of 'EagerSourceBase' object has no setter$"):
        setattr(source, name, 0)
    assert (source.epoch, source.index) == (0, 4)


def test_an_author_s_class_may_keep_counts_of_its_own_by_the_names_of_core() -> None:
    class Counting(Ticks):
        def __init__(self) -> None:
            super().__init__(StructuralConfig())
            self.index = nnx.Variable(np.zeros((), np.int32))
            self.epoch = 3

        def get_batch(self, batch_size: int) -> Any:
            self.index[...] += batch_size
            return super().get_batch(batch_size)

    source = Counting()
    source.get_batch(5)
    for each in (source, source.clone()):
        assert (int(each.index[...]), each.epoch) == (5, 3)


def test_an_empty_source_is_at_its_start(make_third: MakeSource) -> None:
    source = make_third(0)
    assert (source.epoch, source.index) == (0, 0)


def test_a_source_closes_at_the_end_of_a_with_statement_even_after_an_error() -> None:
    closed = []

    class Closing(Backwards):
        def close(self) -> None:
            closed.append(self)

    source = Closing(StructuralConfig())
    with source as opened:
        assert opened is source
        assert closed == []
    with pytest.raises(OSError, match=r"^lost$"), source:
        raise OSError("lost")
    assert closed == [source, source]
    with Backwards(StructuralConfig()) as plain:  # a source with nothing to close can be closed, too
        plain.close()
    assert plain.get_batch(2)["id"].tolist() == [299, 298]


def test_elements_that_a_loop_fetched_are_known_until_they_are_served(make_third: MakeSource) -> None:
    source = make_third(50)
    assert source.elements_read_ahead() == {}
    loop = iter(source)
    next(loop)
    ahead = source.elements_read_ahead()
    assert list(ahead) == list(range(1, source.elements_ahead))
    assert next(loop)["id"] == ahead[1]["id"]
    assert 1 not in source.elements_read_ahead()


def test_a_seed_of_the_config_is_folded_into_the_key_that_the_random_stream_gives() -> None:
    class Seeded(Backwards):
        order_seed = 7  # type: ignore[assignment]  # a property of other sources

    config = StructuralConfig(stochastic=True, stream_name="shuffle")
    folded = nnx.Rngs(jax.random.fold_in(nnx.Rngs(3).shuffle(), 7)).shuffle()
    plain = nnx.Rngs(3).shuffle()
    for kind, key in ((Seeded, folded), (Backwards, plain)):
        source = kind(config, rngs=nnx.Rngs(3))
        assert np.array_equal(source.order_key_data(), jax.random.key_data(key))
        source.reset(seed=3)
        assert np.array_equal(source.order_key_data(), jax.random.key_data(key))


def test_order_words_is_the_former_name_of_order_key_data(make_third: MakeSource) -> None:
    source = make_third(10, shuffle=True)
    with pytest.warns(DeprecationWarning, match=r"^order_words\(\) was renamed: call order_key_data\(\)$"):
        assert source.order_words() is source.order_key_data()
