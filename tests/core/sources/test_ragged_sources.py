"""Ragged fields of sources on every route: in memory, of sequences, streams, subsets, caches and workers."""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import (
    DataSourceModule,
    Pipeline,
    Ragged,
    SequenceSource,
    SequenceSourceConfig,
    SpecError,
    StreamingSourceBase,
    StructuralConfig,
    columns_of,
    from_sequence,
    prefetch_to_device,
)
from datarax_core.workers.shared_batches import SharedBatches, shared_file

LENGTHS = [3, 0, 5, 1, 0, 0, 7, 2, 2, 4, 1]
DOCUMENTS = [np.arange(n) + 10 * at for at, n in enumerate(LENGTHS)]
WANTED = [document.tolist() for document in DOCUMENTS]
COUNT = len(LENGTHS)
DATA = {"tokens": DOCUMENTS, "label": np.arange(COUNT, dtype=np.int32)}
RECORDS = [{"tokens": document, "label": np.int32(at)} for at, document in enumerate(DOCUMENTS)]
SPEC = {"tokens": jax.ShapeDtypeStruct((None,), np.int64), "label": jax.ShapeDtypeStruct((), np.int32)}


class Documents(StreamingSourceBase):
    """A stream of single documents."""

    def element_spec(self) -> Any:
        return SPEC

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:  # noqa: ARG002 - alike in all epochs
        yield from RECORDS[start:]


class Chunks(Documents):
    """A stream of batches of four documents."""

    def __len__(self) -> int:
        return COUNT

    def batches_from(self, epoch: int, start: int) -> Iterator[Any]:  # noqa: ARG002 - alike in all epochs
        whole = Ragged.from_list(DOCUMENTS)
        for at in range(start, COUNT, 4):
            yield {"tokens": whole[at : at + 4], "label": DATA["label"][at : at + 4]}


SOURCES: dict[str, Callable[[Any], DataSourceModule]] = {
    "device": lambda make: make(DATA),
    "host": lambda make: make(DATA, placement="host"),
    "sequence": lambda _: from_sequence(RECORDS),
    "kept": lambda _: SequenceSource(SequenceSourceConfig(cacheable=True), RECORDS, element_spec=SPEC),
    "subset": lambda make: make({name: [*column, *column] for name, column in DATA.items()})[:COUNT],
    "stream": lambda _: Documents(StructuralConfig()),
    "stream of batches": lambda _: Chunks(StructuralConfig()),
}


def served(batches: Any) -> list[Any]:
    return [(row.tolist(), int(label)) for b in batches for row, label in zip(b["tokens"], b["label"], strict=True)]


ALL = list(zip(WANTED, range(COUNT), strict=True))


@pytest.mark.parametrize("kind", SOURCES)
def test_every_way_serves_the_records(kind: str, make_source: Any) -> None:
    source = SOURCES[kind](make_source)
    assert source.element_spec() == SPEC
    for _ in range(2):
        assert served(Pipeline(source=SOURCES[kind](make_source), batch_size=4)) == ALL
    pipeline = Pipeline(source=source, stages=[lambda batch: {"label": batch["label"]}], batch_size=4, num_epochs=2)
    assert served(pipeline) == ALL * 2
    stats = pipeline.stats()
    assert stats["bytes"] == 2 * (sum(LENGTHS) * 8 + COUNT * 4)
    assert [element["tokens"].tolist() for element in SOURCES[kind](make_source)] == WANTED
    batch = SOURCES[kind](make_source).get_batch(5)
    assert isinstance(batch["tokens"], Ragged)
    assert batch["tokens"].tolist() == WANTED[:5]


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if "stream" not in kind])
def test_records_are_read_by_index(kind: str, make_source: Any) -> None:
    source = SOURCES[kind](make_source)
    rows = np.array([6, 1, 6, 2])
    for batch in (source.fetch(rows), source.fetch_on_host(rows), source.get_records(rows)):
        assert batch["tokens"].tolist() == [WANTED[row] for row in rows]
    assert source[6]["tokens"].tolist() == WANTED[6]
    assert [element["tokens"].tolist() for element in source[2:5]] == WANTED[2:5]
    assert source[2:5].get_batch(3)["tokens"].tolist() == WANTED[2:5]
    assert [element["tokens"].tolist() for element in source.__getitems__([0, 6])] == [WANTED[0], WANTED[6]]
    assert source.fetch(np.empty(0, np.int64))["tokens"].shape == (0, None)
    assert pickle.loads(pickle.dumps(source)).fetch(rows)["tokens"] == source.fetch(rows)["tokens"]  # noqa: S301
    assert source.fingerprint() == SOURCES[kind](make_source).fingerprint()


@pytest.mark.parametrize("options", [{"threads": 2}, {"prefetch": 0}, {"drop_last": True}, {"pad_last": "valid"}])
def test_options_of_the_pipeline_keep_the_records(options: dict[str, Any], make_source: Any) -> None:
    batches = list(Pipeline(source=make_source(DATA, placement="host"), batch_size=4, **options))
    found = [pair for batch in batches for pair in served([batch])]
    assert found[:8] == ALL[:8]
    assert len(found) == {"drop_last": 8, "pad_last": 12}.get(next(iter(options)), COUNT)
    if "pad_last" in options:
        assert batches[-1]["valid"].tolist() == [True, True, True, False]


def test_a_shuffled_pipeline_resumes_with_ragged_records(make_source: Any) -> None:
    def pipeline() -> Pipeline:
        return Pipeline(source=make_source(DATA, shuffle=True, seed=3), batch_size=3, num_epochs=2)

    whole = served(pipeline())
    assert sorted(whole[:COUNT], key=lambda pair: pair[1]) == ALL
    first = pipeline()
    loop = iter(first)
    head = served([next(loop), next(loop)])
    resumed = pipeline()
    resumed.set_state(first.get_state())
    assert head + served(resumed) == whole


def test_memory_of_workers_has_room_for_the_dense_fields_and_passes_ragged_ones_on() -> None:
    shared = SharedBatches(SPEC, COUNT, 1, shared_file(SharedBatches.size(SPEC, COUNT, 1)))
    column, label = Ragged.from_list(DOCUMENTS), DATA["label"]
    parts = [shared.write(0, at, {"tokens": column[at : at + 6], "label": label[at : at + 6]}) for at in (0, 6)]
    assert [set(part) for part in parts] == [{1}, {1}], "the number of the ragged field"
    batch = shared.read(0, COUNT, {1: [part[1] for part in parts]})
    assert served([batch]) == ALL


def test_sixteen_records_and_their_lengths_make_the_fingerprint(make_source: Any) -> None:
    fingerprint = make_source(DATA).fingerprint()["records"]
    moved = [*DOCUMENTS]
    moved[1], moved[0] = moved[0][:1], moved[0][1:]  # the same tokens, cut elsewhere
    assert make_source({**DATA, "tokens": moved}).fingerprint()["records"] != fingerprint
    assert make_source({**DATA, "tokens": Ragged.from_list(DOCUMENTS)}).fingerprint()["records"] == fingerprint


def test_batches_move_to_a_device_without_their_ragged_fields() -> None:
    (batch,) = prefetch_to_device([{"tokens": Ragged.from_list(DOCUMENTS), "label": DATA["label"]}])
    assert isinstance(batch["label"], jax.Array)
    assert batch["tokens"].tolist() == WANTED


def test_dense_columns_lie_on_the_device_beside_ragged_ones(make_source: Any) -> None:
    source = make_source(DATA, placement="auto")
    assert source.access == "device"
    assert source.columns.on_device == ("label",)
    assert source.columns.device_nbytes == 4 * COUNT
    with pytest.raises(SpecError, match=r"has fields that no device has: tokens; leave them out"):
        source.collect_to_array()
    with pytest.raises(
        SpecError,
        match=r"compiled code cannot carry: tokens; bring them to one shape, \{type: pad, field: tokens, .*, leave",
    ):
        Pipeline(source=source, batch_size=4).scan(lambda batch: batch["label"], length=1)
    pipeline = Pipeline(source=source, batch_size=4)
    step = nnx.jit(lambda pipeline: pipeline.step()["label"])
    with pytest.raises(SpecError, match=r"cannot carry: tokens"):
        step(pipeline)


def test_a_source_with_nothing_for_a_device_is_read_ahead_on_the_host(make_source: Any) -> None:
    source = make_source({"tokens": DOCUMENTS}, placement="auto")
    assert source.access == "host"
    assert [batch["tokens"].tolist() for batch in Pipeline(source=source, batch_size=COUNT)] == [WANTED]


def test_the_first_elements_say_what_varies() -> None:
    late = [{"x": [1, 2]}] * 8 + [{"x": [1, 2, 3]}]
    source = from_sequence(late)
    assert source.element_spec()["x"].shape == (2,)
    with pytest.raises(
        SpecError,
        match=r"record 8 of SequenceSource is not what the element spec says: field 'x' is int64\[3\] where int64\[2\] is "
        r"expected; if it varies from record to record, say so in the element_spec, jax\.ShapeDtypeStruct\(\(None,\)",
    ):
        source.get_records(np.array([8]))
    said = from_sequence(late, element_spec={"x": jax.ShapeDtypeStruct((None,), np.int16)})
    assert said.get_records(np.array([8, 0]))["x"].tolist() == [[1, 2, 3], [1, 2]]
    images = [{"x": np.zeros((h, w, 3), np.uint8)} for h, w in ((2, 3), (2, 4), (2, 5))]
    assert from_sequence(images).element_spec()["x"].shape == (2, None, 3)
    assert from_sequence(images).get_batch(2)["x"].shape == (2, 2, None, 3)


def test_an_element_that_fails_is_no_reason_to_fail_before_it_is_served() -> None:
    class Failing(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            if index == 1:
                raise OSError("the disk is gone")
            return super().__getitem__(index)

    source = from_sequence(Failing([{"x": [1]}, {"x": [1]}, {"x": [1, 2]}, None, {"x": [[1]]}]))
    assert source.element_spec()["x"].shape == (None,)
    with pytest.raises(OSError, match="the disk is gone"):
        source.get_batch(2)


def test_a_source_written_by_item_sees_what_varies() -> None:
    class Items(DataSourceModule):
        def __len__(self) -> int:
            return COUNT

        def __getitem__(self, index: int) -> Any:
            return RECORDS[index]

    source = Items(StructuralConfig())
    assert source.element_spec() == SPEC
    assert served(Pipeline(source=source, batch_size=4)) == ALL


def test_columns_of_different_numbers_of_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"columns of the data differ in length: 'tokens' has 11, 'label' has 10"):
        columns_of({"tokens": Ragged.from_list(DOCUMENTS), "label": np.arange(10)}, "the data")
    with pytest.raises(SpecError, match=r"no ragged column: record 1 has 2 axes where others have 1"):
        columns_of({"tokens": [[1], [[1, 2]]]}, "the data")
    with pytest.raises(SpecError, match=r"does not describe: field 'tokens' is int32\[None\] where int64\[None\]"):
        next(iter(_stream_of(np.int32)))


def _stream_of(dtype: Any) -> StreamingSourceBase:
    class Other(Documents):
        def records_from(self, epoch: int, start: int) -> Iterator[Any]:  # noqa: ARG002 - alike in all epochs
            yield from ({**record, "tokens": record["tokens"].astype(dtype)} for record in RECORDS[start:])

    return Other(StructuralConfig())
