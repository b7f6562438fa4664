"""Descriptions of data sets on disk: the folder that is found, and the content of its description."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import tfds_data

from datarax_tfds import TFDSEagerConfig, TFDSStreamingConfig
from datarax_tfds.dataset import DataSet


def opened(data_dir: Path, name: str = "digits", split: str = "train", **options: Any) -> DataSet:
    config = TFDSStreamingConfig(name=name, split=split, data_dir=data_dir, local_files_only=True, **options)
    return DataSet.open(config, "source")


def test_a_data_set_lists_the_parts_of_files_of_its_split(data_dir: Path) -> None:
    found = opened(data_dir)
    folder = data_dir / "digits" / "1.0.0"
    assert (found.name, found.full_name, found.split) == ("digits", "digits/1.0.0", "train")
    assert (found.folder, found.file_format, found.backend) == (str(folder), data_dir.name, data_dir.name)
    assert found.num_records == tfds_data.SPLITS["train"]
    files = [folder / f"digits-train.{data_dir.name}-0000{shard}-of-00003" for shard in range(3)]
    assert [(part.path, part.start, part.stop, part.records_in_file) for part in found.parts] == [
        (str(file), 0, 500, 500) for file in files
    ]
    assert found.num_bytes == sum(file.stat().st_size for file in files)


def test_a_part_of_a_file_counts_with_its_share_of_the_bytes(data_dir: Path) -> None:
    whole, part = opened(data_dir), opened(data_dir, split="train[:250]")
    assert part.num_bytes == Path(whole.parts[0].path).stat().st_size // 2


def test_a_data_set_pickles_and_compares_as_a_value(data_dir: Path) -> None:
    found = opened(data_dir, "nested")
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own
    assert (again, hash(again)) == (found, hash(found))
    assert repr(again.features) == repr(found.features)
    assert opened(data_dir, "nested", "train[:10]") != found


@pytest.mark.parametrize(
    "name", ["digits:1.0.0", "digits/1.0.0", "digits:1.*.*", "Digits", "digits"], ids=lambda name: name
)
def test_names_are_those_of_tfds_and_the_full_names_it_prints(data_dirs: Path, name: str) -> None:
    assert opened(data_dirs / "tfrecord", name).full_name == "digits/1.0.0"


def test_a_data_dir_may_be_the_folder_of_the_data_set_itself(data_dirs: Path) -> None:
    assert opened(data_dirs / "tfrecord/digits/1.0.0").full_name == "digits/1.0.0"
    with pytest.raises(
        ValueError, match=r"data_dir .*/digits/1\.0\.0 is the folder of data set 'digits:1\.0\.0', not of 'p'"
    ):
        opened(data_dirs / "tfrecord/digits/1.0.0", "p")


def test_of_several_versions_the_newest_is_taken(data_dirs: Path, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.2.0", "1.10.0"):
        folder = tmp_path / "digits" / version
        shutil.copytree(data_dirs / "tfrecord/digits/1.0.0", folder)
        info = json.loads((folder / "dataset_info.json").read_text())
        (folder / "dataset_info.json").write_text(json.dumps({**info, "version": version}))
    assert opened(tmp_path).full_name == "digits/1.10.0"
    assert opened(tmp_path, "digits:1.2.*").full_name == "digits/1.2.0"
    assert opened(tmp_path, "digits:1.0.0").full_name == "digits/1.0.0"


def test_the_data_dir_is_tfds_own_unless_one_is_given(data_dirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow_datasets as tfds  # noqa: PLC0415 - slow to import

    monkeypatch.setattr(
        tfds.core.constants, "DATA_DIR", str(data_dirs / "tfrecord")
    )  # TFDS reads TFDS_DATA_DIR only once
    found = DataSet.open(TFDSEagerConfig(name="digits", split="test", local_files_only=True), "source")
    assert found.folder == str(data_dirs / "tfrecord/digits/1.0.0")


def test_a_data_set_in_two_formats_is_read_in_the_format_of_the_backend(data_dirs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "digits/1.0.0"
    shutil.copytree(data_dirs / "tfrecord/digits/1.0.0", folder)
    for file in (data_dirs / "array_record/digits/1.0.0").glob("*array_record*"):
        shutil.copy(file, folder)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "alternativeFileFormats": ["array_record"]}))
    for backend, file_format in (
        ("auto", "array_record"),
        ("array_record", "array_record"),
        ("tfrecord", "tfrecord"),
        ("tf.data", "tfrecord"),
    ):
        found = opened(tmp_path, backend=backend)
        assert found.backend == (backend if backend != "auto" else "array_record")
        assert found.file_format == file_format
        assert all(f".{file_format}-" in part.path and Path(part.path).is_file() for part in found.parts)
        filenames = found.builder().info.splits["train"].filenames
        assert filenames == [Path(part.path).name for part in found.parts]


def test_fields_are_all_or_those_that_the_config_keeps(data_dir: Path) -> None:
    assert opened(data_dir).kept == ("image", "label")
    assert opened(data_dir, include_keys={"label"}).fields == (("label", "label"),)
    assert opened(data_dir, "captions", exclude_keys=["image", "boxes"]).kept == ("id", "numbers", "text", "words")


def test_supervised_data_sets_are_served_as_image_and_label_whatever_their_names(data_dir: Path) -> None:
    found = opened(data_dir, "pairs", as_supervised=True)
    assert found.fields == (("image", "signal"), ("label", "answer"))
    assert (found.supervised_keys, found.kept) == (("signal", "answer"), ("signal", "answer"))
    assert opened(data_dir, "pairs").supervised_keys is None


def test_the_info_of_a_data_set_can_be_written_as_json(data_dir: Path) -> None:
    info = opened(data_dir, "pairs", "train[:10]").info()
    assert json.loads(json.dumps(info)) == info
    assert info["name"] == "pairs"
    assert info["full_name"] == "pairs/1.0.0"
    assert (info["config"], info["version"]) == (None, "1.0.0")
    assert info["description"] == "pairs, made for tests."
    assert (info["citation"], info["supervised_keys"]) == ("", ["signal", "answer"])
    assert info["splits"]["train"] == {
        "num_records": 60,
        "num_bytes": info["splits"]["train"]["num_bytes"],
        "num_files": 2,
    }
    assert "'signal': Tensor(shape=(2,), dtype=float32)" in info["features"]
    assert (info["file_format"], info["backend"]) == (data_dir.name, data_dir.name)
    assert (info["split"], info["num_records"]) == ("train[:10]", 10)
    assert info["folder"] == str(data_dir / "pairs/1.0.0")
