"""The config of a memory source: each field is checked when the config is built, and has an effect."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from pydantic import ValidationError

from datarax_core import ConfigError, Pipeline, build_source
from datarax_memory import MemorySource, MemorySourceConfig

FIELDS = {
    "type": "memory",
    "cacheable": False,
    "batch_stats_fn": None,
    "precomputed_stats": None,
    "stochastic": False,
    "stream_name": None,
    "shuffle": False,
    "cache_size": 0,
    "prefetch_size": 0,
    "track_metadata": False,
    "num_workers": 1,
    "shard_id": None,
    "path": None,
    "columns": None,
    "placement": "auto",
    "cache_dir": None,
    "cache_bytes": None,
    "storage_options": None,
    "local_files_only": False,
}


def ids(length: int = 10) -> dict[str, np.ndarray]:
    return {"id": np.arange(length)}


class Reads:
    """The number of records of each read of a source."""

    def __init__(self) -> None:
        self.sizes: list[int] = []


class CountingSource(MemorySource):
    """Notes its reads, of elements and of batches."""

    def __init__(self, config: MemorySourceConfig, data: Any) -> None:
        super().__init__(config, data)
        self.reads = Reads()

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        self.reads.sizes.append(len(indices))
        return super().get_elements(indices)

    def get_records(self, indices: Any) -> Any:
        self.reads.sizes.append(len(indices))
        return super().get_records(indices)


def test_the_fields_and_their_defaults_are_the_documented_ones() -> None:
    assert MemorySourceConfig().model_dump() == FIELDS


def test_a_config_never_changes() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        MemorySourceConfig().shuffle = True


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shufle": True}, r"shufle\n +unknown field 'shufle'; did you mean 'shuffle'\?"),
        ({"type": "tfds"}, r"type\n +Input should be 'memory'"),
        ({"shuffle": 1}, r"shuffle\n +Input should be a valid boolean"),
        ({"stochastic": True}, r"stream_name\n.*stochastic=True needs a stream_name"),
        ({"stream_name": "shuffle"}, r"stream_name\n.*stream_name='shuffle' has no use without stochastic=True"),
        ({"columns": ["x"]}, r"columns\n.*columns chooses among the arrays of a path, and no path is given"),
        *(
            ({"path": "x.npz", "columns": none}, r"columns\n.*columns is empty, and a record without")
            for none in ([], {})
        ),
        *(
            (
                {"path": "x.npz", "columns": odd},
                r"columns\n.*columns is a list of array names, or a mapping from new names",
            )
            for odd in ("x", 3, [1], [""], {"a": 1}, {"a": ""})
        ),
        ({"path": "x.npz", "columns": ["x", "x"]}, r"columns\S*\n.*the array 'x' is named twice; name it once"),
        ({"cache_size": -1}, r"cache_size\n +Input should be greater than or equal to 0"),
        ({"cache_size": 4.0}, r"cache_size\n +Input should be a valid integer"),
        ({"prefetch_size": -1}, r"prefetch_size\n +Input should be greater than or equal to 0"),
        ({"prefetch_size": True}, r"prefetch_size\n +Input should be a valid integer"),
        ({"track_metadata": "yes"}, r"track_metadata\n +Input should be a valid boolean"),
        ({"num_workers": 2}, r"shard_id\n.*num_workers=2 needs a shard_id from 0 to 1, or every worker would serve"),
        ({"num_workers": 2, "shard_id": 2}, r"shard_id\n.*shard_id=2 is out of range: num_workers=2 numbers shards"),
        ({"shard_id": 1}, r"shard_id\n.*shard_id=1 is out of range: num_workers=1 numbers shards"),
        ({"shard_id": -1}, r"shard_id\n +Input should be greater than or equal to 0"),
        ({"num_workers": 0}, r"num_workers\n +Input should be greater than or equal to 1"),
        ({"num_workers": 2.0, "shard_id": 1}, r"num_workers\n +Input should be a valid integer"),
        ({"path": ""}, r"path\n +String should have at least 1 character"),
        ({"placement": "gpu"}, r"placement\n +Input should be 'auto', 'device' or 'host'"),
        ({"batch_stats_fn": len, "precomputed_stats": {}}, r"precomputed_stats\n.*exclude each other"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_its_field(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as refused:
        MemorySourceConfig(**values)
    assert refused.value.error_count() == 1


def test_numpy_integers_are_integers() -> None:
    config = MemorySourceConfig(num_workers=np.int64(3), shard_id=np.int8(2), cache_size=np.uint16(1))
    assert (config.num_workers, config.shard_id, config.cache_size) == (3, 2, 1)


def test_a_dumped_config_builds_the_same_config() -> None:
    config = MemorySourceConfig(shuffle=True, num_workers=2, shard_id=1)
    assert MemorySourceConfig(**config.model_dump()) == config


# -- each field has an effect ---------------------------------------------------------------------------------------------


def test_shuffle_shuffles_with_a_stream_of_its_own() -> None:
    config = MemorySourceConfig(shuffle=True)
    assert (config.stochastic, config.stream_name) == (True, "shuffle")
    served = list(MemorySource(config, np.arange(20), rngs=nnx.Rngs(shuffle=1)))
    assert sorted(served) == list(range(20)) != served


def test_stream_name_selects_the_stream_that_the_order_is_drawn_from() -> None:
    rngs = {"shuffle": 1, "mine": 2}
    of_shuffle = MemorySource(MemorySourceConfig(shuffle=True), np.arange(20), rngs=nnx.Rngs(**rngs))
    config = MemorySourceConfig(shuffle=True, stream_name="mine")
    of_mine = MemorySource(config, np.arange(20), rngs=nnx.Rngs(**rngs))
    same_seed = MemorySource(MemorySourceConfig(shuffle=True), np.arange(20), rngs=nnx.Rngs(shuffle=2))
    assert list(of_mine) == list(same_seed) != list(of_shuffle)


def test_stochastic_without_shuffle_can_shuffle_later() -> None:
    source = MemorySource(
        MemorySourceConfig(stochastic=True, stream_name="order"), np.arange(20), rngs=nnx.Rngs(order=0)
    )
    assert list(source) == list(range(20))
    source.set_random_order(True)
    assert list(source) != list(range(20))


@pytest.mark.parametrize(("prefetch_size", "reads"), [(0, [1] * 7), (1, [2, 2, 2, 1]), (2, [3, 3, 1]), (100, [7])])
def test_prefetch_size_is_the_number_of_elements_that_a_loop_reads_ahead(prefetch_size: int, reads: list[int]) -> None:
    source = CountingSource(MemorySourceConfig(prefetch_size=prefetch_size), np.arange(7))
    assert list(source) == list(range(7))
    assert source.reads.sizes == reads
    assert source.prefetch_size == prefetch_size


def test_cache_size_is_how_many_batches_are_kept() -> None:
    source = CountingSource(MemorySourceConfig(cache_size=2, placement="host"), ids())
    for start in (0, 4, 0, 4):
        source.get_batch_at(start, 4)
    assert len(source.reads.sizes) == 2
    source.get_batch_at(5, 4)  # drops the batch at 0, which was not used for the longest time
    source.get_batch_at(4, 4)
    assert len(source.reads.sizes) == 3
    source.get_batch_at(0, 4)
    assert len(source.reads.sizes) == 4
    source.reset_cache()
    source.get_batch_at(0, 4)
    assert len(source.reads.sizes) == 5


def test_without_cache_size_no_batch_is_kept() -> None:
    source = CountingSource(MemorySourceConfig(placement="host"), ids())
    source.get_batch_at(0, 4)
    source.get_batch_at(0, 4)
    assert len(source.reads.sizes) == 2


@pytest.mark.parametrize("placement", ["device", "host"])
def test_changing_a_served_batch_does_not_change_the_kept_one(placement: str) -> None:
    source = MemorySource(MemorySourceConfig(cache_size=1, placement=placement), ids() | {"text": np.array(["a"] * 10)})
    for _ in range(3):
        batch = source.get_batch_at(0, 4)
        np.testing.assert_array_equal(batch["id"], np.arange(4))
        assert batch.pop("text").tolist() == ["a"] * 4
        if placement == "host":
            batch["id"][:] = -1
        batch["id"] = None


def test_track_metadata_makes_metadata_available() -> None:
    assert MemorySource(MemorySourceConfig(track_metadata=True), ids()).has_metadata
    assert not MemorySource(MemorySourceConfig(), ids()).has_metadata


def test_shard_id_and_num_workers_select_the_records() -> None:
    assert list(MemorySource(MemorySourceConfig(num_workers=3, shard_id=1), np.arange(10))) == [1, 4, 7]


@pytest.mark.parametrize(("placement", "kind"), [("device", jax.Array), ("host", np.ndarray), ("auto", jax.Array)])
def test_placement_is_where_batches_are_gathered(placement: str, kind: type) -> None:
    source = MemorySource(MemorySourceConfig(placement=placement), ids())
    assert isinstance(source.get_batch(4)["id"], kind)
    assert source.access == ("host" if placement == "host" else "device")


def test_batch_stats_fn_and_precomputed_stats_are_the_statistics() -> None:
    computed = MemorySource(MemorySourceConfig(batch_stats_fn=lambda batch: {"mean": batch["id"].mean()}), ids())
    assert computed.get_statistics() is None
    assert computed.compute_statistics(ids()) == computed.get_statistics() == {"mean": 4.5}
    known = MemorySource(MemorySourceConfig(precomputed_stats={"mean": 1.0}), ids())
    assert known.get_statistics() == {"mean": 1.0}
    known.reset_statistics()
    assert known.get_statistics() is None


# -- from config files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    np.savez(tmp_path / "configs" / "digits.npz", id=np.arange(6))
    (tmp_path / "configs" / "train.yaml").write_text(
        "seed: 3\nbatch_size: 4\nsource: {type: memory, path: digits.npz, shuffle: true}\n"
    )
    return tmp_path


def test_a_path_in_a_config_file_is_relative_to_that_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    pipeline = Pipeline.from_config("configs/train.yaml")
    assert sorted(np.concatenate([batch["id"] for batch in pipeline]).tolist()) == list(range(6))


def test_a_path_in_python_is_relative_to_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "configs")
    assert len(MemorySource(MemorySourceConfig(path="digits.npz"))) == 6
    assert len(MemorySource(MemorySourceConfig(path=Path("digits.npz")))) == 6


def test_a_source_from_a_config_serves_the_same_as_one_built_in_python(folder: Path) -> None:
    config = {"type": "memory", "path": str(folder / "configs" / "digits.npz"), "shuffle": True}
    built = build_source(config, seed=3)
    by_hand = MemorySource(MemorySourceConfig(**config), rngs=nnx.Rngs(3))
    assert list(built) == list(by_hand)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "a memory source in a config needs a 'path': an .npz file, or a folder of .npy files"),
        ({"path": "x.npz", "shard_id": 4}, r"source\.shard_id: shard_id=4 is out of range"),
        ({"path": "x.npz", "num_workers": 2}, r"source\.shard_id: num_workers=2 needs a shard_id"),
        ({"paths": "x.npz"}, r"source\.paths: unknown field 'paths'; did you mean 'path'\?"),
    ],
)
def test_a_bad_source_in_a_config_is_refused_with_its_place(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Pipeline.from_config({"batch_size": 4, "source": {"type": "memory", **source}})
