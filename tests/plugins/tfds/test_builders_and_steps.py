"""Builders in place of names, TFDS's own mocks, and steps: data sets within records."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tensorflow_datasets as tfds
from tfds_records import example

from datarax_tfds import from_tfds
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


def test_within_mock_data_sources_say_that_they_do_not_take_part(data_dirs: Path) -> None:
    with (
        tfds.testing.mock_data(num_examples=3),
        pytest.raises(RuntimeError, match=r"mock_data\(\) is active: it replaces TFDS's own readers, .* from_sequence"),
    ):
        from_tfds("pairs", "train", data_dir=data_dirs / "tfrecord")
    assert len(from_tfds("pairs", "train", data_dir=data_dirs / "tfrecord")) == 60


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
