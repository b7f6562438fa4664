"""The eager source: it loads all records, and then serves them as a memory source does."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from flax import nnx
from tfds_data import FORMATS, NUM_SMALL, SPLITS, caption, digit_images, digit_labels, pair
from tfrecords import flip

from datarax_core import Pipeline, RecordError, SpecError
from datarax_core.pipeline.build import build_source
from datarax_core.records.gathers import ALIGNMENT
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_tfds import TFDSEagerConfig, TFDSEagerSource
from datarax_tfds.sources import eager

Make = Callable[..., TFDSEagerSource]

TRAIN = SPLITS["train"]


@pytest.fixture(params=FORMATS)
def make(data_dirs: Path, request: pytest.FixtureRequest) -> Make:
    """Function that makes a source over a data set of each format."""

    def made(name: str = "digits_png", split: str = "train", *, rngs: nnx.Rngs | None = None, **options: Any) -> Any:
        given = {"data_dir": data_dirs / str(request.param), **options}
        return TFDSEagerSource(TFDSEagerConfig(name=name, split=split, **given), rngs=rngs)

    return made


@pytest.fixture
def make_tfrecord(data_dirs: Path) -> Make:
    """Function that makes a source over a data set of TFRecord files."""

    def made(name: str = "digits_png", split: str = "train", *, rngs: nnx.Rngs | None = None, **options: Any) -> Any:
        given = {"data_dir": data_dirs / "tfrecord", **options}
        return TFDSEagerSource(TFDSEagerConfig(name=name, split=split, **given), rngs=rngs)

    return made


def equal(first: Any, second: Any) -> bool:
    return bool(jax.tree.all(jax.tree.map(np.array_equal, first, second)))


# -- records ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "digits_png"])
def test_all_records_are_loaded(make: Make, name: str) -> None:
    source = make(name)
    assert equal(source.data, {"image": digit_images()[:TRAIN], "label": digit_labels()[:TRAIN]})
    assert source.length == len(source) == TRAIN
    assert all(column.ctypes.data % ALIGNMENT == 0 for column in source.data.values())


@pytest.mark.parametrize("split", ["train[:200]", "train[10%:]", "test+train[-7:]"])
def test_records_are_those_that_tfds_reads(make: Make, data_dirs: Path, split: str) -> None:
    theirs = tfds.builder_from_directory(data_dirs / "array_record/digits_png/1.0.0").as_data_source(split)
    source = make(split=split)
    assert source.data["label"].tolist() == [record["label"] for record in theirs]
    assert np.array_equal(source.data["image"], np.stack([record["image"] for record in theirs]))


def test_nested_fields_and_text_keep_their_names(make: Make) -> None:
    source = make("nested", shuffle=True)
    (batch,) = Pipeline(source=source, batch_size=NUM_SMALL)
    ids = np.asarray(batch["id"])
    assert sorted(ids) == list(range(NUM_SMALL))
    assert np.array_equal(batch["observation"]["image"], digit_images()[ids])
    assert [text.decode() for text in batch["about"]["text"]] == [f"record {number}" for number in ids]
    assert source.element_spec()["window"] == jax.ShapeDtypeStruct((3,), np.int64)


def test_fields_of_varying_shape_can_be_left_out(make: Make) -> None:
    source = make("captions", exclude_keys={"boxes", "image", "numbers", "words"})
    assert source.data["id"].tolist() == list(range(NUM_SMALL))
    assert [text.decode() for text in source.data["text"]] == [caption(number)["text"] for number in range(NUM_SMALL)]


def test_a_supervised_pair_is_served_as_image_and_label(make: Make) -> None:
    source = make("pairs", as_supervised=True)
    assert np.array_equal(source.data["image"], np.stack([pair(number)["signal"] for number in range(NUM_SMALL)]))
    assert source.data["label"].tolist() == [pair(number)["answer"] for number in range(NUM_SMALL)]


@pytest.mark.parametrize("name", ["digits_png", "nested", "pairs"])
def test_tensorflow_loads_the_same(make_tfrecord: Make, name: str) -> None:
    by_tensorflow = make_tfrecord(name, backend="tf.data", shuffle=True, seed=3)
    assert by_tensorflow.data_set.backend == "tf.data"
    assert equal(by_tensorflow.data, make_tfrecord(name).data)


def test_the_source_describes_its_data_set(make: Make) -> None:
    source = make(split="train[:90]", include_keys={"label"})
    assert (source.dataset_name, source.split_name, source.as_supervised) == ("digits_png", "train[:90]", False)
    assert (source.include_keys, source.exclude_keys) == ({"label"}, None)
    assert (source.length, source.index, source.epoch, source.is_random_order) == (90, 0, 0, False)
    source.get_batch(100)
    assert (source.index, source.epoch) == (10, 1)
    info = source.get_dataset_info()
    assert (info["full_name"], info["num_records"], info["nbytes"]) == ("digits_png/1.0.0", 90, 720)
    assert info["element_spec"] == {"label": jax.ShapeDtypeStruct((), np.int64)}
    assert info == dict(info)
    assert (info.num_examples, info.splits["train"].num_examples) == (
        90,
        source.data_set.builder().info.splits["train"].num_examples,
    )
    assert (info.description, info.citation) == (info["description"], info["citation"])
    assert info.features["label"].num_classes == 10
    assert isinstance(info["features"], str)


# -- a memory source ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", ["host", "device", "auto"])
def test_it_serves_what_a_memory_source_does(make: Make, placement: str) -> None:
    source = make(shuffle=True, placement=placement, rngs=nnx.Rngs(5))
    config = MemorySourceConfig(shuffle=True, placement=placement)
    memory = MemorySource(config, source.data, rngs=nnx.Rngs(5))
    assert source.access == memory.access
    for ours, theirs in zip(
        Pipeline(source=source, batch_size=128), Pipeline(source=memory, batch_size=128), strict=True
    ):
        assert equal(ours, theirs)
    for each in (source, memory):
        each.reset(seed=9)
    assert equal([source.get_batch(64), source.get_batch(64)], [memory.get_batch(64), memory.get_batch(64)])
    key = jax.random.key(1)
    assert equal(source.get_batch(64, key), memory.get_batch_at(0, 64, key))
    for each in (source, memory):
        each.set_random_order(False)
    assert equal(source.get_batch(8), memory.get_batch(8))
    assert equal(source.collect_to_array(), memory.collect_to_array())


def test_a_scan_trains_on_it(make: Make) -> None:
    source = make(shuffle=True)
    pipeline = Pipeline(source=source, batch_size=100)
    sums = pipeline.scan(lambda batch: batch["label"].sum(), length=TRAIN // 100)
    assert int(sums.sum()) == int(digit_labels()[:TRAIN].sum())


def test_the_seed_of_the_config_selects_the_order(make_tfrecord: Make) -> None:
    def labels(**options: Any) -> list[int]:
        batch = make_tfrecord(split="train[:64]", shuffle=True, **options).get_batch(64)
        return np.asarray(batch["label"]).tolist()

    assert labels() == labels(rngs=nnx.Rngs(42)) == labels(seed=42)
    assert len({tuple(labels(seed=seed)) for seed in (1, 2, 42)}) == 3


def test_copies_share_the_arrays(make: Make) -> None:
    source = make(shuffle=True, rngs=nnx.Rngs(7))
    source.get_batch(10)
    copied, cloned = source.copy(), source.clone()
    assert copied.columns is cloned.columns is source.columns
    assert equal(cloned.get_batch(50), source.get_batch(50))
    pickled = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert equal(pickled.get_batch(50), source.get_batch(50))
    assert source.copy(config=source.config.model_copy(update={"seed": 1})).columns is source.columns
    other = source.copy(config=source.config.model_copy(update={"split": "test"}))
    assert len(other) == SPLITS["test"]


def test_a_state_is_restored(make_tfrecord: Make) -> None:
    source = make_tfrecord(shuffle=True)
    source.get_batch(130)
    state = source.get_state()
    expected = source.get_batch(50)
    other = make_tfrecord(shuffle=True)
    other.set_state(state)
    assert equal(other.get_batch(50), expected)


def test_files_are_not_needed_after_loading(data_dirs: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(data_dirs / "tfrecord" / "digits", tmp_path / "digits"))
    source = TFDSEagerSource(TFDSEagerConfig(name="digits", split="test", data_dir=tmp_path))
    shutil.rmtree(copied)
    assert sum(len(batch["label"]) for batch in Pipeline(source=source.copy(), batch_size=50)) == SPLITS["test"]


def test_a_source_is_built_from_a_config(data_dirs: Path) -> None:
    mapping = {"type": "tfds_eager", "name": "digits", "split": "test", "data_dir": str(data_dirs / "tfrecord")}
    source = build_source(mapping)
    assert isinstance(source, TFDSEagerSource)
    assert len(source) == SPLITS["test"]


# -- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["tfrecord", "tf.data"])
def test_fields_whose_shape_varies_are_no_objects(make_tfrecord: Make, backend: str) -> None:
    text = (
        r"TFDSEagerSource cannot hold fields of captions/1\.0\.0 whose values are objects of varying shape: "
        r"'boxes\.tag' \(.+\), 'boxes\.x' \(float32\[.+\]\), 'image' \(uint8\[.+, .+, 3\]\), 'numbers' \(int32\[.+\]\), "
        r"'words' \(.+\); leave as_objects out, or stream them with TFDSStreamingSource"
    )
    with pytest.raises(ValueError, match=text):
        make_tfrecord("captions", backend=backend, as_objects=True)


def test_steps_are_refused_by_name(make_tfrecord: Make) -> None:
    text = r"whose values are objects of varying shape: 'steps' \(.+\); leave them out with exclude_keys=\['steps'\], or stream"
    with pytest.raises(ValueError, match=text):
        make_tfrecord("episodes")


def test_a_data_set_larger_than_the_memory_is_refused_before_it_is_read(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, "host_memory", lambda: 100_000)
    text = (
        r"TFDSEagerSource would take 105\.5 KiB for the 1500 records of digits_png/1\.0\.0 \(image, label\), and this "
        r"machine has "
        r"97\.7 KiB of memory; take a part of the split, such as split='train\[:10%\]', leave fields out, or stream it"
    )
    with pytest.raises(ValueError, match=text):
        make()
    assert len(make(split="train[:1000]")) == 1000


def test_a_bad_record_is_named(data_dirs: Path, tmp_path: Path) -> None:
    shutil.copytree(data_dirs / "tfrecord" / "digits", tmp_path / "digits")
    (path,) = tmp_path.glob("*/*/*train*-00001-of-*")
    flip(path, path.stat().st_size // 2)
    with pytest.raises(
        RecordError, match=rf"record \d+ of {path} cannot be read: its .* \(record \d+ of TFDSEagerSource 'x'\)"
    ):
        TFDSEagerSource(TFDSEagerConfig(name="digits", split="train", data_dir=tmp_path), name="x")


def test_compiled_code_refuses_text(make_tfrecord: Make) -> None:
    source = make_tfrecord("nested")
    with pytest.raises(SpecError, match=r"TFDSEagerSource has fields that no device has: about\.text"):
        source.collect_to_array()


def test_another_config_is_refused() -> None:
    with pytest.raises(TypeError, match="TFDSEagerSource needs a TFDSEagerConfig, not 'digits'"):
        TFDSEagerSource("digits")  # type: ignore[arg-type]
