"""The conformance kit on all TFDS sources: eager, streaming by record index, and streaming by tf.data."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import tfds_data

from datarax_core.testing import Damaged, Shows, SourceConformance


class OfPairs(SourceConformance):
    """Declarations that all sources share, over the data set ``pairs`` in TFRecord files."""

    type: str
    data_dirs: Path
    expected_length = tfds_data.NUM_SMALL
    expected_records = {7: {"signal": [7, 14], "answer": 2, "noise": 7}}
    shown_elsewhere = {
        "try_gcs": "dataset/test_preparing.py",
        "download_and_prepare_kwargs": "dataset/test_preparing.py",
        "beam_num_workers": "dataset/test_preparing.py",
        "builder_kwargs": "test_example_folders.py",
        "as_objects": "test_ragged_fields.py",
        "local_files_only": "dataset/test_bad_data_sets.py",
        **dict.fromkeys(("on_error", "max_errors", "quarantine", "exclude"), "test_bad_records.py"),
    }
    common = {
        "name": "digits",
        "include_keys": ["noise"],
        "exclude_keys": ["noise"],
        "split": "train[:40]",
    }

    @pytest.fixture(autouse=True)
    def _written(self, data_dirs: Path) -> None:
        type(self).data_dirs = data_dirs

    def make_config(self, folder: Path) -> dict[str, Any]:
        shutil.copytree(self.data_dirs / "tfrecord/digits", folder / "other/pairs")  # another data set of that name
        self.effective = {**self.common, **self.own()}
        return {
            "type": self.type,
            "name": "pairs",
            "split": "train",
            "data_dir": str(self.data_dirs / "tfrecord"),
            "shuffle": True,
        }

    def own(self) -> dict[str, Any]:
        return {
            "data_dir": Shows(value=str(self.data_dirs / "array_record"), at=lambda source: source.data_set.folder),
            "backend": Shows(value="tf.data", at=lambda source: source.data_set.backend),
        }

    def damaged(self, folder: Path, **options: Any) -> Damaged:
        shutil.copytree(self.data_dirs / "tfrecord/pairs", folder / "pairs")
        path = folder / "pairs/1.0.0/pairs-train.tfrecord-00000-of-00002"
        content = bytearray(path.read_bytes())
        content[len(content) * 10 // 30 + 40] ^= 0x55
        path.write_bytes(content)
        return Damaged(
            config={"type": self.type, "name": "pairs", "split": "train", "data_dir": str(folder), **options},
            record=10,
            path=path,
        )


class TestEager(OfPairs):
    type = "tfds_eager"
    shown_elsewhere = {
        **OfPairs.shown_elsewhere,
        "cacheable": "sources/test_from_tfds.py::test_an_eager_source_is_cacheable_and_has_no_buffers",
    }


class TestByIndex(OfPairs):
    type = "tfds_streaming"
    shown_elsewhere = {
        **OfPairs.shown_elsewhere,
        "prefetch_buffer": "sources/test_streaming.py::test_so_many_batches_are_read_ahead_as_the_config_says",
    }

    def own(self) -> dict[str, Any]:
        refused = Shows(value=7, needs={"backend": "tf.data"}, at=lambda source: source.fingerprint()["order"])
        return {**super().own(), "shuffle_buffer_size": refused}

    def make_damaged(self, folder: Path) -> Damaged:
        return self.damaged(folder)


class TestForwardOnly(OfPairs):
    type = "tfds_streaming"
    expected_records = {}  # a shuffled stream: positions are not record indices
    shown_elsewhere = {
        **OfPairs.shown_elsewhere,
        "prefetch_buffer": "test_tf_data.py::test_as_many_batches_are_read_ahead_as_the_config_says",
    }

    def own(self) -> dict[str, Any]:
        return {**super().own(), "backend": Shows(value="auto", at=lambda source: source.data_set.backend)}

    def make_config(self, folder: Path) -> dict[str, Any]:
        return {**super().make_config(folder), "backend": "tf.data", "shuffle_buffer_size": 10}


del OfPairs
