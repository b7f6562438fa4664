"""Host stages: what they are called with, what of it comes out, by every route, on threads and in workers."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, from_sequence
from datarax_core.config import StructuralConfig
from datarax_core.records import Ragged
from datarax_core.stages import Pad, Rescale, Select, TokenizeBytes, per_record
from datarax_memory import MemorySource, MemorySourceConfig

LENGTH, SIZE = 20, 6
IMPORTABLE = Path(__file__).parents[1] / "importable"


@pytest.fixture(scope="module")
def given() -> Iterator[Any]:
    """The module of host stages, importable in this process and in workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(IMPORTABLE)
        yield import_module("host_stages")
        sys.modules.pop("host_stages")


def memory(*, placement: Any = "host", shuffle: bool = False) -> MemorySource:
    config = MemorySourceConfig(shuffle=shuffle, placement=placement)
    return MemorySource(config, {"id": np.arange(LENGTH)}, rngs=nnx.Rngs(1) if shuffle else None)


def pipeline(source: Any, stages: Any, **options: Any) -> Pipeline:
    return Pipeline(source=source, stages=stages, batch_size=SIZE, rngs=nnx.Rngs(0), **{"num_epochs": 2, **options})


def rows(batches: Any) -> dict[str, list[Any]]:
    """Return the values of all batches by field; records of varying length as lists."""
    found: dict[str, list[Any]] = {}
    for batch in batches:
        for name, column in batch.items():
            values = column.to_list() if isinstance(column, Ragged) else np.asarray(column)
            found.setdefault(name, []).extend(value.tolist() if hasattr(value, "tolist") else value for value in values)
    return found


def expected(one: Pipeline, given: Any, stage: int = 1) -> dict[str, list[Any]]:
    """Return the values of two epochs of `Tokens`, `Draws` and `Dense`, in sequence, with the numbers as float32."""
    places = [(epoch, index) for epoch in range(2) for index in range(LENGTH)]
    draws = [[np.float32(given.draw_by_hand(one, stage, epoch, index)).item(), float(index)] for epoch, index in places]
    return {
        "id": [index for _, index in places],
        "tokens": [given.tokens_by_hand(index) for _, index in places],
        "draws": draws,
    }


def test_all_columns_go_in_read_only_and_what_comes_out_goes_on() -> None:
    seen: list[dict[str, Any]] = []

    class Look:
        on_host = True

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            seen.append(batch)
            return {**batch, "length": np.array([len(text) for text in batch["text"]])}

    data = {"x": np.arange(6.0), "text": ["a", "bc", "", "d", "efg", "h"]}
    source = MemorySource(MemorySourceConfig(), data)
    one = Pipeline(source=source, stages=[Look(), Look(), lambda batch: {**batch, "x": batch["x"] + 1}], batch_size=6)
    seen.clear()
    batch = one.step()
    first, second = seen
    assert isinstance(first["x"], np.ndarray)
    assert first["x"].dtype == np.float64
    assert first["text"].dtype == object
    assert first["text"].tolist() == data["text"]
    columns = [first["x"], first["text"], second["length"], second["x"]]
    assert not any(column.flags.writeable for column in columns)
    assert isinstance(batch["x"], jax.Array)
    assert batch["x"].tolist() == [1, 2, 3, 4, 5, 6]
    assert batch["length"].tolist() == [1, 2, 0, 1, 3, 1]
    assert batch["text"].tolist() == data["text"]


@pytest.mark.parametrize("placement", ["host", "device"])
@pytest.mark.parametrize("options", [{}, {"threads": 3}, {"prefetch": 0, "threads": 1}], ids=str)
def test_a_loop_serves_what_the_stages_make_of_each_record(given: Any, placement: Any, options: Any) -> None:
    one = pipeline(memory(placement=placement), [given.Tokens(), given.Draws(), given.Dense()], **options)
    assert rows(one) == expected(one, given)


def test_steps_traced_steps_and_scans_serve_the_same(given: Any) -> None:
    stages = [given.Tokens(), given.Draws(), given.Dense()]
    one = pipeline(memory(placement="device"), stages)
    traced = nnx.jit(lambda each: each.step())
    found = rows([one.step(), traced(one), *_scanned(one, 2), traced(one), one.step()])
    values = expected(one, given)
    assert found == {name: column[: 6 * SIZE] for name, column in values.items()}


def _scanned(one: Pipeline, length: int) -> list[Any]:
    stacked = one.scan(lambda batch: batch, length=length)
    return [jax.tree.map(lambda leaf, at=at: leaf[at], stacked) for at in range(length)]


def test_workers_serve_the_same(given: Any) -> None:
    stages = [given.Tokens(), given.Draws(), given.Dense(), given.per_record(given.noisy_tokens)]
    alone = rows(pipeline(memory(shuffle=True), stages))
    with_workers = pipeline(memory(shuffle=True), stages, workers=2)
    assert rows(with_workers) == alone
    with_workers.close()


@pytest.mark.parametrize("sized", [True, False])
def test_a_stream_goes_through_host_stages_by_place_in_the_epoch(given: Any, streams: Any, *, sized: bool) -> None:
    source = streams.Sized(LENGTH) if sized else streams.Ending(LENGTH)
    stages = [given.Tokens(), per_record(given.drawn, stochastic=True), given.Dense()]
    one = pipeline(source, stages)
    values = expected(one, given)
    found = rows(one)
    assert [draws[0] for draws in found["draws"]] == [draws[0] for draws in values["draws"]]
    half = pipeline(streams.Sized(LENGTH) if sized else streams.Ending(LENGTH), stages)
    for _ in zip(range(2), half, strict=False):
        pass
    resumed = pipeline(streams.Sized(LENGTH) if sized else streams.Ending(LENGTH), stages)
    resumed.set_state(half.get_state())
    assert rows(resumed)["draws"] == found["draws"][2 * SIZE :]


def test_batch_size_order_and_shard_do_not_matter(given: Any) -> None:
    def draws(size: int, **config: Any) -> dict[int, float]:
        source = MemorySource(MemorySourceConfig(**config), {"id": np.arange(LENGTH)}, rngs=nnx.Rngs(3))
        one = Pipeline(source=source, stages=[given.Draws()], batch_size=size, rngs=nnx.Rngs(0), num_epochs=1)
        found = rows(one)
        return dict(zip(found["id"], [value for value, _ in found["draws"]], strict=True))

    whole = draws(20)
    assert len(set(whole.values())) == LENGTH
    assert draws(7, shuffle=True) == whole
    assert draws(3, num_workers=2, shard_id=0) | draws(3, num_workers=2, shard_id=1) == whole


def test_keys_of_device_stages_do_not_depend_on_host_stages_before_being_there(given: Any) -> None:
    """A host stage keeps its number: a device stage draws as with any other stage in its place."""

    class Noise:
        stochastic = True

        def __call__(self, batch: Any, keys: Any) -> Any:
            return {**batch, "noise": jax.vmap(jax.random.normal)(keys)}

    with_host = rows(pipeline(memory(), [given.Draws(), Noise()]))["noise"]
    assert with_host == rows(pipeline(memory(placement="device"), [lambda batch: batch, Noise()]))["noise"]


def test_the_spec_is_what_stages_say_or_make_of_one_record(given: Any) -> None:
    spec = pipeline(memory(), [given.Tokens()]).element_spec()
    assert (spec["tokens"].shape, spec["tokens"].dtype) == ((None,), np.int64)
    assert spec["text"].dtype == object
    spec = pipeline(memory(), [given.Tokens(), given.Dense()]).element_spec()
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in spec.items()} == {
        "id": ((), np.int32),
        "tokens": ((4,), np.int32),
    }


def test_fields_that_stay_on_the_host_are_served_beside_the_batch(given: Any) -> None:
    batch = pipeline(memory(), [given.Tokens()]).step()
    assert isinstance(batch["tokens"], Ragged)
    assert batch["tokens"].lengths.tolist() == [0, 1, 2, 3, 4, 0]
    assert batch["text"].tolist()[:2] == ["record 0", "record 1"]
    assert isinstance(batch["id"], jax.Array)


def test_a_config_of_host_and_device_stages() -> None:
    stages = [
        {"type": "tokenize_bytes", "field": "text", "to": "tokens"},
        {"type": "select", "fields": ["tokens", "x"]},
        {"type": "pad", "field": "tokens", "length": 3},
        {"type": "rescale", "field": "x", "scale": 0.5},
    ]
    built = [TokenizeBytes(**stages[0]), Select(**stages[1]), Pad(**stages[2]), Rescale(**stages[3])]
    source = MemorySource(MemorySourceConfig(), {"text": ["ab", "c"], "x": np.array([2, 4], np.uint8)})
    one = Pipeline(source=source, stages=built, batch_size=2)
    batch = one.step()
    assert batch["tokens"].tolist() == [[97, 98, 0], [99, 0, 0]]
    assert batch["x"].tolist() == [1.0, 2.0]
    assert set(one.scan(lambda each: each, length=1)) == {"tokens", "x"}  # select ran on the host: the text is gone


def test_per_record_calls_a_function_of_one_record(given: Any) -> None:
    source = from_sequence([{"text": "ab", "id": 1}, {"text": "c", "id": 2}])
    assert pipeline(source, [given.SHOUTED], num_epochs=1).step()["text"].tolist()[:2] == ["AB", "C"]
    lengths = per_record(
        lambda record: {"n": np.arange(record["id"])}, element_spec={"n": jax.ShapeDtypeStruct((None,), np.int64)}
    )
    batch = next(iter(pipeline(source, [lengths], num_epochs=1)))
    assert [each.tolist() for each in batch["n"].to_list()] == [[0], [0, 1]]
    noisy = per_record(given.noisy, stochastic=True, takes_record_indices=True)
    one = pipeline(MemorySource(MemorySourceConfig(), {"id": np.arange(3), "x": np.zeros(3)}), [noisy], num_epochs=1)
    found = rows(one)
    assert found["index"] == [0, 1, 2]
    assert len(set(found["x"])) == 3


def test_the_mask_of_a_short_batch_is_added_behind_host_stages(given: Any) -> None:
    one = pipeline(memory(), [given.Tokens(), given.Draws(), given.Dense()], num_epochs=1, pad_last="valid")
    *_, last = one
    assert last["valid"].tolist() == [True, True, False, False, False, False]
    assert last["id"].tolist() == [18, 19, 19, 19, 19, 19]


def test_a_batch_by_hand_goes_through_all_stages(given: Any) -> None:
    one = pipeline(memory(), [given.Tokens(), given.Dense(), lambda batch: {**batch, "id": batch["id"] * 2}])
    made = one({"id": np.array([3, 4])})
    assert made["id"].tolist() == [6, 8]
    assert made["tokens"].tolist() == [given.tokens_by_hand(3), given.tokens_by_hand(4)]
    with pytest.raises(ValueError, match=r"stage 0 \(Draws\) has its generators or record indices from the pipeline"):
        pipeline(memory(), [given.Draws()])({"id": np.array([3, 4])})


def test_a_call_of_a_subclass_stands_behind_the_host_stages(given: Any) -> None:
    class Shifted(Pipeline):
        def __call__(self, batch: Any) -> Any:
            return {**super().__call__(batch), "twice": batch["id"] * 2}

    stages = [given.Tokens(), given.Dense(), lambda batch: {**batch, "id": batch["id"] + 1}]
    one = Shifted(source=memory(), stages=stages, batch_size=SIZE)
    loop, step = next(iter(one)), nnx.jit(lambda each: each.step())(one)
    assert loop["twice"].tolist() == [0, 2, 4, 6, 8, 10]
    assert loop["id"].tolist() == [1, 2, 3, 4, 5, 6]
    assert step["twice"].tolist() == [12, 14, 16, 18, 20, 22]
    assert step["tokens"].tolist() == [given.tokens_by_hand(index) for index in range(6, 12)]


def test_a_field_that_is_left_out_on_the_host_is_never_narrowed() -> None:
    data = {"text": ["ab", "c"], "id": np.arange(2) + 2**40}
    source = MemorySource(MemorySourceConfig(), data)
    stages = [Select(fields=("text",)), TokenizeBytes(field="text"), Pad(field="text", length=2)]
    one = Pipeline(source=source, stages=stages, batch_size=2)
    assert one.step()["text"].tolist() == [[97, 98], [99, 0]]
    assert one.scan(lambda batch: batch["text"], length=1).tolist() == [[[97, 98], [99, 0]]]


def test_explain_says_where_stages_run(given: Any, streams: Any) -> None:
    one = pipeline(memory(placement="device"), [given.Tokens(), given.Dense(), lambda batch: batch])
    assert "Tokens and Dense run on the host, where records are read" in one.explain()
    assert "threads=2 calls it twice at once, if its library releases Python's lock" in one.explain()
    assert "MemorySource could be gathered on the device, but host stages are called with its records" in one.explain()
    assert "host route: MemorySource" in one.explain()
    stream = pipeline(streams.Sized(LENGTH), [given.Tokens()])
    assert "Tokens runs on the host" in stream.explain()
    whole = pipeline(memory(), [given.Tokens(), Pad(field="tokens", lengths=(2, 8))])
    assert "pad is called with whole batches, the stages before it with parts of them" in whole.explain()


def test_records_that_the_source_itself_varies_go_through_in_their_epoch(given: Any) -> None:
    grain = pytest.importorskip("grain.python")
    data = grain.MapDataset.range(LENGTH).seed(0).random_map(lambda i, rng: {"id": i, "x": rng.random()})
    one = pipeline(from_sequence(data), [given.Draws()])
    found = rows(one)
    assert found["x"][:LENGTH] != found["x"][LENGTH:]
    values = expected(one, given, stage=0)
    assert found["draws"] == values["draws"]
    again = pipeline(from_sequence(data), [given.Draws()], threads=3, prefetch=0)
    assert rows(again) == found


class ByPosition(DataSourceModule):
    """A source of another contract, which shuffles by itself."""

    traceable = False

    def __init__(self, length: int) -> None:
        self.length = length
        config = StructuralConfig(stochastic=True, stream_name="shuffle")
        super().__init__(config, rngs=nnx.Rngs(0))

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int32)}

    def get_batch_at(self, start: int, size: int, key: Any = None) -> Any:
        order = np.arange(self.length) if key is None else np.asarray(jax.random.permutation(key, self.length))
        return {"id": order[start : start + size].astype(np.int32)}


@pytest.mark.parametrize("route", ["loop", "step", "scan"])
def test_a_source_that_shuffles_by_itself_serves_its_records_to_stages_that_draw(given: Any, route: str) -> None:
    plain = Pipeline(source=ByPosition(7), batch_size=6, num_epochs=3)
    one = Pipeline(source=ByPosition(7), stages=[given.MARKED], batch_size=6, num_epochs=3, rngs=nnx.Rngs(0), threads=2)
    if route == "scan":
        batches = one.scan(lambda batch: batch, length=3)
        found = {name: np.concatenate(column) for name, column in batches.items()}
    else:
        take = iter(one).__next__ if route == "loop" else one.step
        parts = [take() for _ in range(3)]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert found["id"].tolist() == np.concatenate([plain.step()["id"] for _ in range(3)]).tolist()
    by_hand = [np.float32(given.draw_by_hand(one, 0, at // 7, at)) for at in range(18)]
    assert found["mark"].tolist() == by_hand
