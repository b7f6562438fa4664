"""One order on every route, and the attributes that say where the source stands."""

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import pytest
from array_records import TOTAL, record_of, source_of, write_files
from flax import nnx

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule
from datarax_core import Pipeline, SpecError, StateError
from datarax_memory import MemorySource, MemorySourceConfig

ORDERS: dict[str, dict[str, Any]] = {"sequence": {}, "shuffle": {"shuffle": True}, "files": {"shuffle_files": True}}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(params=ORDERS)
def source(files: list[str], request: pytest.FixtureRequest) -> ArrayRecordSourceModule:
    return source_of(files, rngs=nnx.Rngs(0), **ORDERS[request.param])


def ids(batches: Any) -> list[int]:
    return [number for batch in batches for number in np.asarray(batch["id"]).tolist()]


class TestOneOrder:
    def test_every_route_serves_the_same_records(self, source: ArrayRecordSourceModule) -> None:
        whole = ids(Pipeline(source=source.copy(), batch_size=10, num_epochs=2))
        assert sorted(whole[:TOTAL]) == sorted(whole[TOTAL:]) == list(range(TOTAL))
        key = source.order_key_data()
        assert ids([source.get_batch_at(0, 2 * TOTAL, key)]) == whole
        assert ids(source.get_batch_at(start, 8, key) for start in range(0, 80, 8)) == whole
        assert ids(source.copy().get_batch(8) for _ in range(1)) == whole[:8]
        assert [int(element["id"]) for element in itertools.islice(source.copy(), 2 * TOTAL)] == whole
        assert ids(Pipeline(source=source.copy(), batch_size=10, prefetch=0, num_epochs=2)) == whole
        stepped = Pipeline(source=source.copy(), batch_size=10)
        assert ids(stepped.step() for _ in range(8)) == whole
        stacked = Pipeline(source=source.copy(), batch_size=10).scan(lambda batch: batch["id"], length=8)
        assert np.asarray(stacked).ravel().tolist() == whole
        traced = nnx.jit(lambda pipeline: pipeline.step())
        pipeline = Pipeline(source=source.copy(), batch_size=10)
        assert ids(traced(pipeline) for _ in range(8)) == whole

    def test_a_batch_is_traceable_in_start_and_key(self, source: ArrayRecordSourceModule) -> None:
        at = jax.jit(lambda start, key: source.get_batch_at(start, 30, key))
        key = source.order_key_data()
        for start in (0, 7, TOTAL - 1, 3 * TOTAL + 5):
            given = (start, key if key is not None else np.zeros(2, np.uint32))
            jax.tree.map(np.testing.assert_array_equal, at(*given), source.get_batch_at(start, 30, key))

    def test_worker_processes_serve_the_same_records(self, source: ArrayRecordSourceModule) -> None:
        expected = ids(Pipeline(source=source.copy(), batch_size=10))
        assert ids(Pipeline(source=source.copy(), batch_size=10, workers=2)) == expected

    def test_grain_reads_the_source_as_it_is(self, source: ArrayRecordSourceModule) -> None:
        batches = grain.MapDataset.source(source).batch(10)
        assert ids(batches[i] for i in range(4)) == list(range(TOTAL))

    def test_subsets_hold_their_records(self, source: ArrayRecordSourceModule) -> None:
        parts = source.split(train=0.75, test=0.25, seed=0)
        held = {name: ids(Pipeline(source=part, batch_size=10)) for name, part in parts.items()}
        assert sorted(held["train"] + held["test"]) == list(range(TOTAL))
        assert sorted(ids(Pipeline(source=source[5:9], batch_size=10))) == [5, 6, 7, 8]

    def test_the_order_is_that_of_the_same_records_in_memory(self, files: list[str]) -> None:
        ours = source_of(files, shuffle=True, rngs=nnx.Rngs(3))
        memory = MemorySource(MemorySourceConfig(shuffle=True), {"id": np.arange(TOTAL)}, rngs=nnx.Rngs(3))
        assert ids(Pipeline(source=ours, batch_size=9, num_epochs=2)) == ids(
            Pipeline(source=memory, batch_size=9, num_epochs=2)
        )

    def test_an_image_is_read_as_it_was_written(self, source: ArrayRecordSourceModule) -> None:
        batch = source.get_records(np.asarray([39, 0, 0, 26, 27]))
        assert batch["image"].tolist() == [[[i, 1], [2, 3]] for i in (39, 0, 0, 26, 27)]


class TestShuffledFiles:
    def test_each_file_is_served_in_sequence_and_in_one_piece(self, files: list[str]) -> None:
        source = source_of(files, shuffle_files=True, rngs=nnx.Rngs(0))
        blocks = ([*range(7)], [*range(7, 27)], [*range(27, 40)])
        orders = set()
        for epoch in range(12):
            served = np.asarray(source.record_indices_at(epoch * TOTAL, TOTAL, source.order_key_data())).tolist()
            order = tuple(sorted(range(3), key=lambda block: served.index(blocks[block][0])))
            assert served == [record for block in order for record in blocks[block]]
            orders.add(order)
        assert len(orders) > 3

    def test_shuffling_files_excludes_shuffling_records(self) -> None:
        with pytest.raises(ValueError, match="leaves shuffle_files nothing to do; set one"):
            ArrayRecordSourceConfig(shuffle=True, shuffle_files=True)


class TestSeeds:
    def order(self, files: list[str], rngs: nnx.Rngs | None = None, **fields: Any) -> list[int]:
        source = source_of(files, shuffle=True, rngs=rngs, **fields)
        return ids([source.get_batch_at(0, TOTAL, source.order_key_data())])

    def test_streams_and_seed_both_select_the_order(self, files: list[str]) -> None:
        orders = [
            self.order(files),
            self.order(files, seed=7),
            self.order(files, nnx.Rngs(0)),
            self.order(files, nnx.Rngs(1)),
            self.order(files, nnx.Rngs(0), seed=7),
            self.order(files, nnx.Rngs(1), seed=7),
        ]
        assert len(set(map(tuple, orders))) == len(orders)
        assert all(sorted(order) == list(range(TOTAL)) for order in orders)
        assert orders[0] == self.order(files, nnx.Rngs(42))
        assert orders[4] == self.order(files, nnx.Rngs(0), seed=7)

    @pytest.mark.parametrize("seed", [42, 7])
    def test_reset_gives_the_order_of_a_source_built_with_that_seed(self, files: list[str], seed: int) -> None:
        source = source_of(files, shuffle=True, seed=seed, rngs=nnx.Rngs(0))
        source.get_batch(5)
        source.reset(11)
        assert ids([source.get_batch(TOTAL)]) == self.order(files, nnx.Rngs(11), seed=seed)

    def test_a_copy_serves_the_same_order(self, files: list[str]) -> None:
        source = source_of(files, shuffle=True, seed=7, rngs=nnx.Rngs(0))
        assert ids([source.copy().get_batch(TOTAL)]) == ids([source.clone().get_batch(TOTAL)])
        assert source.copy()._file_set is source._file_set

    @pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "a"])
    def test_an_invalid_seed_is_refused(self, seed: Any) -> None:
        with pytest.raises(ValueError, match="seed"):
            ArrayRecordSourceConfig(seed=seed)


class TestElements:
    def test_a_loop_serves_num_epochs_epochs_and_a_second_loop_the_next(self, files: list[str]) -> None:
        source = source_of(files, shuffle=True, num_epochs=2, rngs=nnx.Rngs(0))
        endless = source_of(files, shuffle=True, rngs=nnx.Rngs(0))
        served = [int(element["id"]) for element in source]
        assert len(served) == 2 * TOTAL
        again = [int(element["id"]) for element in source]
        assert served + again == [int(element["id"]) for element in itertools.islice(endless, 4 * TOTAL)]
        assert served != again

    def test_its_attributes_say_where_it_stands(self, files: list[str]) -> None:
        source = source_of(files, shuffle=True, rngs=nnx.Rngs(0))
        assert (source.iterator_initialized, source.current_index, source.current_epoch) == (False, 0, 0)
        assert source.total_records == len(source) == TOTAL
        first = source.shuffled_indices
        assert first is not None
        assert sorted(first.tolist()) == list(range(TOTAL))
        loop = iter(source)
        served = [int(next(loop)["id"]) for _ in range(TOTAL + 3)]
        assert served[:TOTAL] == first.tolist()
        assert (source.iterator_initialized, source.current_index, source.current_epoch) == (True, 3, 1)
        second = source.shuffled_indices
        assert second is not None
        assert served[TOTAL:] == second[:3].tolist()
        cache = source.prefetch_cache
        assert min(cache) == TOTAL + 3
        assert int(cache[TOTAL + 3]["id"]) == int(next(loop)["id"])
        source.reset()
        assert (source.iterator_initialized, source.current_index, source.current_epoch) == (False, 0, 0)
        assert source_of(files).shuffled_indices is None

    @pytest.mark.parametrize("epochs", [0, -2, 1.5])
    def test_an_invalid_number_of_epochs_is_refused(self, epochs: Any) -> None:
        with pytest.raises(ValueError, match="num_epochs"):
            ArrayRecordSourceConfig(num_epochs=epochs)


class TestBytes:
    """Sources without a decoder."""

    def test_records_are_the_bytes_that_were_written(self, files: list[str]) -> None:
        source = ArrayRecordSourceModule(ArrayRecordSourceConfig(num_epochs=1), files)
        assert source.get_batch_at(38, 4) == [*map(record_of, (38, 39, 0, 1))]
        assert source[-1] == source[39] == record_of(39)
        assert list(source) == [*map(record_of, range(TOTAL))]
        assert source.get_batch(3) == [*map(record_of, range(3))]
        assert [source.grain_source[i] for i in (0, 7, 39)] == [*map(record_of, (0, 7, 39))]

    def test_undecoded_records_are_shuffled_too(self, files: list[str]) -> None:
        source = ArrayRecordSourceModule(ArrayRecordSourceConfig(shuffle=True), files, rngs=nnx.Rngs(0))
        decoded = source_of(files, shuffle=True, rngs=nnx.Rngs(0))
        numbers = ids([decoded.get_batch(TOTAL)])
        assert source.get_batch_at(0, TOTAL, source.order_key_data()) == [*map(record_of, numbers)]

    def test_a_traced_start_or_key_is_refused(self, files: list[str]) -> None:
        source = ArrayRecordSourceModule(ArrayRecordSourceConfig(), files)
        message = "has no decoder: its records are bytes, which compiled code cannot hold; give it a decoder"
        with pytest.raises(TypeError, match=message):
            jax.jit(lambda start: source.get_batch_at(start, 4))(0)
        with pytest.raises(TypeError, match=message):
            jax.jit(lambda key: source.get_batch_at(0, 4, key))(np.zeros(2, np.uint32))

    def test_in_a_pipeline_they_are_a_host_field(self, files: list[str]) -> None:
        pipeline = Pipeline(source=ArrayRecordSourceModule(ArrayRecordSourceConfig(), files), batch_size=3)
        assert next(iter(pipeline))["record"].tolist() == [*map(record_of, range(3))]
        with pytest.raises(SpecError, match="fields that compiled code cannot carry: record"):
            pipeline.scan(lambda batch: batch, length=2)


class TestState:
    def test_a_state_is_resumed_in_the_middle_of_an_epoch(
        self, source: ArrayRecordSourceModule, files: list[str]
    ) -> None:
        pipeline = Pipeline(source=source, batch_size=7, num_epochs=3, prefetch=3)
        loop = iter(pipeline)
        for _ in range(8):
            next(loop)
        state = json.loads(json.dumps(pipeline.get_state()))
        assert len(json.dumps(state)) < 2000
        config = source.config
        resumed = Pipeline(
            source=ArrayRecordSourceModule(config, files, rngs=nnx.Rngs(0)), batch_size=7, num_epochs=3, prefetch=0
        )
        resumed.set_state(state)
        assert ids(resumed) == ids(loop)

    def test_a_pickled_copy_goes_on_with_the_elements(self, source: ArrayRecordSourceModule) -> None:
        loop = iter(source)
        for _ in range(TOTAL + 5):
            next(loop)
        twin = pickle.loads(pickle.dumps(source))  # noqa: S301 - ours
        again = source.copy()
        again.set_state(json.loads(json.dumps(source.get_state())))
        expected = [int(next(loop)["id"]) for _ in range(50)]
        assert [int(element["id"]) for element in itertools.islice(again, 50)] == expected
        assert [int(next(twin)["id"]) for _ in range(50)] == expected

    def test_a_state_of_other_files_or_another_decoder_is_refused(self, files: list[str], tmp_path: Path) -> None:
        state = source_of(files).get_state()
        other = write_files(tmp_path, (8, 0, 19, 13))
        with pytest.raises(StateError, match=r"names_and_sizes was '\w+' and is '\w+'"):
            source_of(other).set_state(state)
        with pytest.raises(StateError, match=r"files was 4 and is 3; .*length was 40 and is 27"):
            source_of(files[:3]).set_state(state)
        with pytest.raises(StateError, match=r"decoder was .* and is"):
            ArrayRecordSourceModule(ArrayRecordSourceConfig(), files).set_state(state)
        with pytest.raises(StateError, match="order was 'sequential, rule 1' and is 'files shuffled, rule 1'"):
            source_of(files, shuffle_files=True).set_state(state)

    def test_a_state_is_valid_for_files_that_were_moved(self, files: list[str], tmp_path: Path) -> None:
        state = source_of(files).get_state()
        moved = source_of(write_files(tmp_path))
        moved.set_state(state)


def test_a_cacheable_source_reads_each_record_once(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    source = source_of(files, cacheable=True)
    pipeline = Pipeline(source=source, batch_size=10)
    first = ids(pipeline)
    for file in files:
        Path(file).unlink()
    assert ids(pipeline) == first
    source.reset_cache()
    with pytest.raises(ValueError, match="is gone: it was removed while a source read it"):
        next(iter(pipeline))


def test_a_pipeline_explains_its_route(files: list[str]) -> None:
    assert (
        "host route: ArrayRecordSourceModule 'digits' reads records at concrete indices"
        in Pipeline(source=source_of(files, name="digits"), batch_size=4).explain()
    )
