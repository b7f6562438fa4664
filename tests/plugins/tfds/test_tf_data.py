"""The tf.data backend: the same records as without TensorFlow, in an order that can be resumed at any position."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from tfds_data import FORMATS, NUM_SMALL, SPLITS
from tfrecords import opened, whole, write

from datarax_core import Pipeline, RecordError, StateError
from datarax_core.records import Ragged
from datarax_tfds import TFDSStreamingConfig, TFDSStreamingSource

Make = Callable[..., TFDSStreamingSource]


@pytest.fixture(scope="module")
def make(data_dirs: Path) -> Make:
    """Function that makes a source over a data set of TFRecord files, by default on the tf.data backend."""

    def made(name: str = "nested", *, split: str = "train", seed: int = 0, **options: Any) -> TFDSStreamingSource:
        given = {"backend": "tf.data", "data_dir": data_dirs / "tfrecord", **options}
        config = TFDSStreamingConfig(name=name, split=split, **given)
        return TFDSStreamingSource(config, rngs=nnx.Rngs(seed))

    return made


def ids(source: Any, size: int = 16, **options: Any) -> list[int]:
    """Return the field ``id`` of the records of one loop over a pipeline."""
    return np.concatenate([batch["id"] for batch in Pipeline(source=source, batch_size=size, **options)]).tolist()


def alike(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Ragged):
        return ours.equals(theirs)
    if ours.dtype == object:
        return [repr(value) for value in ours] == [repr(value) for value in theirs]
    return ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


# -- records ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("name", ["digits", "digits_png", "captions", "nested", "episodes", "pairs"])
def test_records_equal_those_read_without_tensorflow(make: Make, data_dirs: Path, name: str, file_format: str) -> None:
    data_dir = data_dirs / file_format
    by_tensorflow, by_index = make(name, data_dir=data_dir), make(name, data_dir=data_dir, backend=file_format)
    assert isinstance(by_tensorflow, TFDSStreamingSource)
    assert (by_tensorflow.access, by_index.access) == ("stream", "host")
    assert by_tensorflow.element_spec() == by_index.element_spec()
    assert by_tensorflow.length == len(by_tensorflow) == len(by_index)
    for _ in range(3):
        assert jax.tree.all(jax.tree.map(alike, by_tensorflow.get_batch(25), by_index.get_batch(25)))


@pytest.mark.parametrize("split", ["train[:200]", "train[10%:]", "test+train[-7:]", "train[501:502]"])
def test_a_sub_split_is_as_long_and_holds_the_same_records(make: Make, split: str) -> None:
    by_tensorflow, by_index = make("digits", split=split), make("digits", split=split, backend="tfrecord")
    assert len(by_tensorflow) == len(by_index) < sum(SPLITS.values())
    size = len(by_index)
    assert jax.tree.all(jax.tree.map(alike, by_tensorflow.get_batch(size), by_index.get_batch(size)))


def test_options_choose_and_name_the_fields(make: Make) -> None:
    assert set(make(include_keys={"id", "window"}).get_batch(2)) == {"id", "window"}
    assert set(make(exclude_keys={"about", "observation"}).get_batch(2)) == {"id", "window"}
    pairs = make("pairs", as_supervised=True).get_batch(4)
    assert pairs["image"][:, 1].tolist() == [0, 2, 4, 6]
    assert pairs["label"].tolist() == [0, 1, 2, 3]


def test_numbers_are_views_of_aligned_memory(make: Make) -> None:
    batch = make("digits").get_batch(64)
    assert not batch["image"].flags.owndata
    assert batch["image"].ctypes.data % 64 == 0


def test_batches_of_any_size_follow_one_another(make: Make) -> None:
    source = make()
    for size in (0, -1, "4", None):
        with pytest.raises((TypeError, ValueError), match="batch_size is"):
            source.get_batch(size)  # type: ignore[arg-type]
    sizes = (3, 20, 1, 40, 7, 60)
    served = np.concatenate([source.get_batch(size)["id"] for size in sizes])
    assert served.tolist() == [index % NUM_SMALL for index in range(sum(sizes))]


def test_a_graph_of_an_old_pickle_decodes(make: Make) -> None:
    source: Any = make("pairs")
    graph, expected = source._graph_reader.graph, source.get_batch(5)
    state = graph.__getstate__()
    old = {**{name: value for name, value in state.items() if name != "decoder"}, "features": graph.decoder._features}
    graph.__dict__.clear()
    graph.__setstate__(old)
    source.close()
    source.reset()
    assert jax.tree.all(jax.tree.map(alike, source.get_batch(5), expected))


def test_the_config_sets_the_number_of_batches_that_are_read_ahead(make: Make) -> None:
    for ahead in (1, 5):
        source: Any = make(prefetch_buffer=ahead)
        graph = source._graph_reader.graph.batches(0, 4, source.config.prefetch_buffer, None)
        assert int(graph._input_dataset._buffer_size) == ahead
    assert ids(make(prefetch_buffer=0)) == list(range(NUM_SMALL))


def test_steps_alone_are_served_and_resumed(make: Make) -> None:
    """The graph then decodes nothing; steps are decoded from the bytes of the records."""
    options: dict[str, Any] = {"name": "episodes", "include_keys": {"steps"}, "shuffle": True, "shuffle_buffer_size": 9}
    source, by_index = make(**options), make("episodes", backend="tfrecord")
    assert source.element_spec() == {"steps": by_index.element_spec()["steps"]}
    first = source.get_batch(33)["steps"]
    resumed = make(**options)
    resumed.set_state(json.loads(json.dumps(source.get_state())))
    rest = resumed.get_batch(27)["steps"]
    assert alike(rest, source.get_batch(27)["steps"])
    whole = by_index.get_batch(NUM_SMALL)["steps"]
    assert sorted(map(repr, [*first, *rest])) == sorted(map(repr, whole))


@pytest.mark.parametrize("backend", ["tf.data", "tfrecord"])
def test_features_in_steps_that_nothing_reads_back_are_refused_by_name(
    make: Make, data_dirs: Path, tmp_path: Path, backend: str
) -> None:
    shutil.copytree(data_dirs / "tfrecord" / "episodes", tmp_path / "episodes")
    path = tmp_path / "episodes/1.0.0/features.json"
    content = json.loads(path.read_text())
    steps = content["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    steps["seen"]["sequence"]["length"] = "2"
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"field 'steps' has a sequence of 2 in steps, 'steps\.seen', .* \(exclude_keys={'steps'}\)"
    ):
        make("episodes", data_dir=tmp_path, backend=backend)
    assert set(make("episodes", data_dir=tmp_path, backend=backend, exclude_keys={"steps"}).get_batch(2)) == {
        "id",
        "about",
    }


# -- order --------------------------------------------------------------------------------------------------------------


def test_a_shuffled_epoch_serves_each_record_once_and_no_two_are_alike(make: Make) -> None:
    source = make(shuffle=True, shuffle_buffer_size=7)
    epochs = np.asarray(ids(source, num_epochs=3)).reshape(3, NUM_SMALL)
    assert [sorted(epoch) for epoch in epochs.tolist()] == [list(range(NUM_SMALL))] * 3
    orders = {tuple(epoch) for epoch in epochs.tolist()} | {tuple(ids(make(shuffle=True, seed=1)))}
    assert len(orders) == 4
    again = make(shuffle=True, shuffle_buffer_size=7)
    assert ids(again, size=11, num_epochs=3, prefetch=0) == epochs.ravel().tolist()


def test_the_config_sets_the_size_of_the_shuffled_windows(make: Make) -> None:
    in_files = {tuple(range(30)), tuple(range(30, 60))}
    order = ids(make(shuffle=True, shuffle_buffer_size=1))
    assert {tuple(order[:30]), tuple(order[30:])} == in_files
    windows = np.asarray(ids(make(shuffle=True, shuffle_buffer_size=10))).reshape(6, 10)
    assert all(np.ptp(window) == 9 for window in windows)
    whole = np.asarray(ids(make(shuffle=True, shuffle_buffer_size=1000)))
    assert np.abs(whole - np.arange(NUM_SMALL)).max() > 30


def test_the_seed_of_the_config_selects_the_order(data_dirs: Path) -> None:
    given: dict[str, Any] = {"data_dir": data_dirs / "tfrecord", "backend": "tf.data", "shuffle": True}
    unseeded = [
        TFDSStreamingSource(TFDSStreamingConfig(name="nested", split="train", seed=seed, **given)) for seed in (5, 5, 6)
    ]
    first, again, other = map(ids, unseeded)
    assert first == again != other
    source = unseeded[0]
    source.reset(seed=9)
    assert ids(source) != first


WHOLE: dict[int | None, list[int]] = {}
"""Two epochs of the data set nested, by the size of the shuffled windows."""


@settings(max_examples=12, deadline=None)
@given(
    stop=st.integers(1, 2 * NUM_SMALL - 1),
    size=st.integers(1, 13),
    window=st.sampled_from([None, 1, 7, 1000]),
)
def test_a_stream_resumes_with_the_next_record_from_any_position(
    make: Make, stop: int, size: int, window: int | None
) -> None:
    options = {} if window is None else {"shuffle": True, "shuffle_buffer_size": window}
    source = make(**options)
    if window not in WHOLE:
        WHOLE[window] = ids(make(**options), num_epochs=2)
    whole = WHOLE[window]
    source.get_batch(stop)
    state = json.loads(json.dumps(source.get_state()))
    resumed = make(**options, prefetch_buffer=1)
    resumed.set_state(state)
    count = min(size, 2 * NUM_SMALL - stop)
    assert resumed.get_batch(count)["id"].tolist() == whole[stop : stop + count]
    assert source.get_batch(count)["id"].tolist() == whole[stop : stop + count]


def test_a_pipeline_resumes_in_the_middle_of_an_epoch(make: Make) -> None:
    pipeline = Pipeline(source=make(shuffle=True, shuffle_buffer_size=9), batch_size=8, num_epochs=2)
    loop = iter(pipeline)
    seen = [next(loop) for _ in range(9)]
    state = json.loads(json.dumps(pipeline.get_state()))
    rest = list(loop)
    assert len(seen) + len(rest) == 15
    resumed = Pipeline(source=make(shuffle=True, shuffle_buffer_size=9), batch_size=8, num_epochs=2)
    resumed.set_state(state)
    assert [batch["id"].tolist() for batch in resumed] == [batch["id"].tolist() for batch in rest]


def test_files_before_the_position_are_not_read(make: Make, data_dirs: Path, tmp_path: Path) -> None:
    shutil.copytree(data_dirs / "tfrecord" / "digits", tmp_path / "digits")
    source = make("digits", data_dir=tmp_path)
    source.get_batch(1100)
    state, expected = source.get_state(), source.get_batch(400)
    resumed = make("digits", data_dir=tmp_path)
    resumed.set_state(state)
    for shard in (0, 1):
        (tmp_path / f"digits/1.0.0/digits-train.tfrecord-0000{shard}-of-00003").write_bytes(b"")
    assert jax.tree.all(jax.tree.map(alike, resumed.get_batch(400), expected))


def test_a_state_of_another_order_is_refused(make: Make) -> None:
    state = make(shuffle=True, shuffle_buffer_size=7).get_state()
    with pytest.raises(StateError, match=r"order was 'files shuffled, and windows of 7, rule 1' and is '.* of 8"):
        make(shuffle=True, shuffle_buffer_size=8).set_state(state)
    with pytest.raises(StateError, match="order was 'files shuffled"):
        make().set_state(state)


def test_processes_read_disjoint_parts_that_are_complete(make: Make) -> None:
    for options in ({}, {"shuffle": True, "shuffle_buffer_size": 6}):
        source = make(**options)
        parts = [source.process_part(part, 4) for part in range(4)]
        served = [ids(part) for part in parts]
        assert [len(part) for part in served] == [15] * 4
        assert sorted(np.concatenate(served)) == list(range(NUM_SMALL))
    assert make().process_part(0, 7) is None


def test_compiled_code_refuses_a_stream(make: Make) -> None:
    with pytest.raises(NotImplementedError, match="is a stream, which compiled code cannot reach"):
        Pipeline(source=make("digits"), batch_size=4).scan(lambda batch: batch["label"], length=2)
    with pytest.raises(NotImplementedError, match="is a stream without random access"):
        make().get_batch_at(0, 4)


# -- damage -------------------------------------------------------------------------------------------------------------


def damaged(data_dirs: Path, folder: Path, damage: Callable[[bytearray], Any]) -> Path:
    """Copy nested and change its second file; the first file holds the records 0 .. 29."""
    shutil.copytree(data_dirs / "tfrecord" / "nested", folder / "nested")
    path = folder / "nested/1.0.0/nested-train.tfrecord-00001-of-00002"
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("options", [{}, {"shuffle": True, "shuffle_buffer_size": 8}], ids=["in sequence", "shuffled"])
def test_a_damaged_record_is_named_with_its_file(make: Make, data_dirs: Path, tmp_path: Path, options: Any) -> None:
    def flip(content: bytearray) -> None:
        content[len(content) // 2] ^= 0x55

    path = damaged(data_dirs, tmp_path, flip)
    with pytest.raises(
        RecordError, match=rf"record \d+ of {path} cannot be read: .*corrupted.* \(record \d+ of"
    ) as raised:
        ids(make(data_dir=tmp_path, **options))
    error = raised.value
    assert (error.path, error.record - 30) == (str(path), error.row)
    assert 10 <= error.row <= 20


def test_a_truncated_file_is_named_with_the_record_that_is_missing(make: Make, data_dirs: Path, tmp_path: Path) -> None:
    path = damaged(data_dirs, tmp_path, lambda content: content.__delitem__(slice(len(content) - 5, None)))
    with pytest.raises(RecordError, match=rf"record 29 of {path} cannot be read: .*truncated.* \(record 59 of"):
        ids(make(data_dir=tmp_path))


def test_a_file_with_too_few_records_is_named(make: Make, data_dirs: Path, tmp_path: Path) -> None:
    short = (data_dirs / "tfrecord/nested/1.0.0/nested-train.tfrecord-00000-of-00002").read_bytes()
    (length,) = np.frombuffer(short[:8], np.int64)
    two = 2 * (
        int(length) + 16
    )  # the description is held against the size of the file: there is room for 30 short records
    path = damaged(data_dirs, tmp_path, lambda content: content.__delitem__(slice(two, None)))
    with pytest.raises(RecordError, match=rf"record \d+ of {path} cannot be read"):
        ids(make(data_dir=tmp_path))


@pytest.mark.parametrize("options", [{}, {"shuffle": True, "shuffle_buffer_size": 8}], ids=["in sequence", "shuffled"])
def test_a_damaged_array_record_is_named_with_its_file(
    make: Make, data_dirs: Path, tmp_path: Path, options: Any
) -> None:
    shutil.copytree(data_dirs / "array_record" / "nested", tmp_path / "nested")
    path = tmp_path / "nested/1.0.0/nested-train.array_record-00001-of-00002"
    content = bytearray(path.read_bytes())
    place = content.index(b"record 41")  # in the chunk of the record, whether compressed or not
    content[place] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(RecordError, match=rf"record \d+ of {path} cannot be read: .* \(record \d+ of") as raised:
        ids(make(data_dir=tmp_path, **options))
    assert raised.value.path == str(path)


@pytest.mark.parametrize("options", [{}, {"shuffle": True, "shuffle_buffer_size": 8}], ids=["in sequence", "shuffled"])
def test_a_damaged_frame_of_a_step_is_named_with_its_file(
    make: Make, data_dirs: Path, tmp_path: Path, options: Any
) -> None:
    """The record is whole: its checksums are right, and its frame is no image."""
    shutil.copytree(data_dirs / "tfrecord" / "episodes", tmp_path / "episodes")
    path = tmp_path / "episodes/1.0.0/episodes-train.tfrecord-00001-of-00002"
    with opened(whole(path, 30)) as files:
        records = files.read(np.arange(30))
    records[11] = records[11].replace(b"\x89PNG", b"\x89PNX")
    write(path, records)
    with pytest.raises(
        RecordError, match=rf"record 11 of {path} cannot be decoded: field 'steps' has .* \(record 41 of"
    ) as raised:
        ids(make("episodes", data_dir=tmp_path, **options))
    assert (raised.value.record, raised.value.row, raised.value.path) == (41, 11, str(path))
