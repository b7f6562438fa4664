"""Builders in place of names, TFDS's own mocks, and steps: data sets within records."""

import pickle
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tensorflow_datasets as tfds
from flax import nnx
from tfds_records import example, same

from datarax_core import Pipeline, build_source
from datarax_tfds import TFDSEagerSource, TFDSStreamingConfig, TFDSStreamingSource, from_tfds
from datarax_tfds.features import FeatureDecoder, UndecodableRecord

f = tfds.features


def test_a_builder_of_a_prepared_data_set_stands_for_its_name_and_folder(data_dirs: Path) -> None:
    for builder in (
        tfds.builder("pairs", data_dir=data_dirs / "tfrecord"),
        tfds.builder_from_directory(data_dirs / "tfrecord/pairs/1.0.0"),
    ):
        source = from_tfds(builder, "train[:7]")
        assert len(source) == 7
        assert (source.config.name, source.config.data_dir) == ("pairs:1.0.0", str(data_dirs / "tfrecord/pairs/1.0.0"))
    with pytest.raises(ValueError, match=r"the builder pairs:1\.0\.0 has its own data_dir, .*; leave data_dir out"):
        from_tfds(builder, "train", data_dir=data_dirs)


def mocked_examples(name: str, split: str = "train") -> list[Any]:
    mocked = tfds.builder(name).as_data_source(split=split)
    return [mocked[number] for number in range(len(mocked))]


@pytest.mark.parametrize("type_", ["tfds", "tfds_eager", "tfds_streaming"])
@pytest.mark.parametrize("name", ["mnist", "glue/cola", "coco/2017"])
def test_within_mock_data_the_mocked_examples_are_served(name: str, type_: str) -> None:
    with tfds.testing.mock_data(num_examples=3):
        source = build_source({"type": type_, "name": name, "split": "train[:80%]"})
        theirs = mocked_examples(name)
    assert len(source) == len(theirs) == 3
    for number, wanted in enumerate(theirs):
        assert same(source[number], _as_bytes(wanted))
    batch = source.get_batch(5)
    assert len(batch["image" if "image" in batch else "idx"]) == 5
    assert source.get_dataset_info()["backend"] == "mock_data"
    assert source.get_dataset_info()["splits"]["train[:80%]"]["num_records"] == 3


def _as_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_bytes(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return np.char.encode(value).astype(object)
    return value.encode() if isinstance(value, str) else value


def test_a_mock_has_options_states_and_copies_as_data_sets_have(data_dirs: Path) -> None:
    with tfds.testing.mock_data(num_examples=12):
        source = from_tfds(tfds.builder("mnist"), "train", as_supervised=True, shuffle=True, rngs=nnx.Rngs(0))
        stream = TFDSStreamingSource(TFDSStreamingConfig(name="mnist", split="test", include_keys={"label"}))
        other = TFDSStreamingSource(TFDSStreamingConfig(name="fashion_mnist", split="test", include_keys={"label"}))
    assert isinstance(source, TFDSEagerSource)
    (batch,) = Pipeline(source=source, batch_size=12)
    assert batch["image"].shape == (12, 28, 28, 1)
    twin = pickle.loads(pickle.dumps(stream))  # noqa: S301
    assert list(stream.element_spec()) == ["label"]
    assert twin.get_batch(12)["label"].tolist() == stream.get_batch(12)["label"].tolist()
    assert twin.fingerprint() == stream.fingerprint() != other.fingerprint()
    assert len(from_tfds("pairs", "train", data_dir=data_dirs / "tfrecord")) == 60  # of files, without the mock


def test_what_a_mock_cannot_serve_is_refused(data_dirs: Path) -> None:
    with tfds.testing.mock_data(num_examples=3):
        with pytest.raises(ValueError, match=r"mock_data\(\) is active, and TFDS has no data set 'pairs' to mock"):
            from_tfds("pairs", "train", data_dir=data_dirs / "tfrecord")
        with pytest.raises(ValueError, match=r"backend 'tf\.data' has no use for mocked data, which has no files"):
            from_tfds("mnist", "train", backend="tf.data")


def test_a_damaged_frame_of_an_episode_is_an_error_of_its_record() -> None:
    """TFDS decodes the steps of an episode when they are looked at."""
    frame = imagecodecs.png_encode(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    cut = frame[:45] + b"\xff" * 9 + frame[54:]
    decoder = FeatureDecoder(f.FeaturesDict({"steps": f.Dataset({"image": f.Image(shape=(4, 4, 3))})}), ["steps"])
    good, bad = (example(steps__image=[frame, second]) for second in (frame, cut))
    assert len(decoder.decode([good])["steps"][0]) == 2
    with pytest.raises(
        UndecodableRecord, match=r"record 1 of the batch: field 'steps' has a value that its own decoder"
    ):
        decoder.decode([good, bad])


def test_steps_in_steps_are_refused_by_name() -> None:
    features = f.FeaturesDict({"steps": f.Dataset({"inner": f.Dataset({"x": np.int64})})})
    with pytest.raises(
        ValueError, match=r"field 'steps' has steps in steps, 'steps\.inner', .* \(exclude_keys={'steps'}\)"
    ):
        FeatureDecoder(features, ["steps"])
