"""Catalogue of errors: requests that no data set fits, and damaged data sets on disk."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tfds_made

from datarax_core.errors import DataFileError
from datarax_tfds import TFDSStreamingConfig
from datarax_tfds.backends import TensorFlowMissing, choose_reader
from datarax_tfds.dataset import DataSet


def opened(data_dir: Path, name: str = "digits", split: str = "train", **options: Any) -> DataSet:
    return DataSet.open(TFDSStreamingConfig(name=name, split=split, data_dir=data_dir, **options), "source")


@pytest.fixture
def copied(data_dirs: Path, tmp_path: Path) -> Path:
    """A data_dir with digits only, which tests damage."""
    shutil.copytree(data_dirs / "tfrecord/digits", tmp_path / "digits")
    return tmp_path


NOT_HERE = [
    (
        "mnist",
        r"data set 'mnist' is not on this machine and local_files_only=True .*; missing: .*/tfrecord/mnist/3\.0\.1",
    ),
    ("glue", r"data set 'glue' .*; missing: .*/tfrecord/glue/cola/2\.0\.0"),  # its default config
    ("glue/sst2:2.0.0", r"data set 'glue/sst2:2\.0\.0' .*; missing: .*/tfrecord/glue/sst2/2\.0\.0"),
    (
        "qm9",
        r"data set 'qm9' is not on this machine .*/tfrecord/qm9",
    ),  # TFDS's code imports a package that is not installed
    ("mnsit", r"missing: .*/tfrecord/mnsit; did you mean 'mnist' or"),
    ("digit", r"data set 'digit' .*/tfrecord/digit; did you mean 'digits' or 'digits_png'\?"),
    ("digits:2.0.0", r"data set 'digits:2\.0\.0' .*/tfrecord/digits/2\.0\.0; there are the versions 1\.0\.0"),
    ("digits/large", r"data set 'digits/large' .*/tfrecord/digits/large; there is digits without a config"),
]


@pytest.mark.parametrize(("name", "match"), NOT_HERE, ids=[name for name, _ in NOT_HERE])
def test_a_data_set_that_is_not_on_this_machine_is_named_with_its_folder(
    data_dirs: Path, name: str, match: str
) -> None:
    with pytest.raises(FileNotFoundError, match=match) as caught:
        opened(data_dirs / "tfrecord", name, local_files_only=True)
    assert len(str(caught.value)) < 400


UNKNOWN = [
    ("mnsit", r"there is no data set 'mnsit', neither in .*/tfrecord nor among those of TFDS; did you mean 'mnist'"),
    ("digit", r"there is no data set 'digit', .*; did you mean 'digits' or 'digits_png'\?"),
    ("qqqqqq", r"there is no data set 'qqqqqq', neither in .*/tfrecord nor among those of TFDS\n"),
    ("digits:2.0.0", r"there is no data set 'digits:2\.0\.0', .*; there are the versions 1\.0\.0"),
    ("mnist/large", r"data set 'mnist' has no config 'large'; it has none"),
    ("glue/colla", r"data set 'glue' has no config 'colla'; did you mean 'cola'\?"),
    ("mnist:1.0.0", r"data set 'mnist:1\.0\.0' cannot be prepared: .* only: 3\.0\.1"),
]


@pytest.mark.parametrize(("name", "match"), UNKNOWN, ids=[name for name, _ in UNKNOWN])
def test_unknown_data_sets_are_refused_at_once(data_dirs: Path, tmp_path: Path, name: str, match: str) -> None:
    data_dir = tmp_path / "tfrecord"
    data_dir.mkdir()
    for there in (data_dirs / "tfrecord").iterdir():
        (data_dir / there.name).symlink_to(there)
    with pytest.raises(ValueError, match=match):
        opened(data_dir, name)


SPLITS = [
    ("trian", r"digits/1\.0\.0 has no split 'trian'; did you mean 'train'\? \(train has 1500 records, test has 297\)"),
    ("validation", r"digits/1\.0\.0 has no split 'validation' \(train has 1500 records, test has 297\)"),
    ("train+tset", r"digits/1\.0\.0 has no split 'tset'; did you mean 'test'\?"),
    ("even_splits('trian', n=2)[0]", r"has no split 'trian'; did you mean 'train'\?"),
    ("train[:2000]", r"split 'train\[:2000\]' goes beyond the records of digits/1\.0\.0: train has 1500 records"),
    ("test+train[:2000]", r"'train\[:2000\]', in the split 'test\+train\[:2000\]', goes beyond the records"),
    ("train[200:100]", r"split 'train\[200:100\]' of digits/1\.0\.0 has no records: train has 1500 records"),
    ("train[700:300]", r"split 'train\[700:300\]' of digits/1\.0\.0 has no records"),
    ("train[:0]", r"split 'train\[:0\]' of digits/1\.0\.0 has no records"),
    ("train[:0]+test", r"'train\[:0\]', in the split 'train\[:0\]\+test', of digits/1\.0\.0 has no records"),
    ("train[3shard:]", r"split 'train\[3shard:\]' of digits/1\.0\.0 has no records"),
]


@pytest.mark.parametrize(("split", "match"), SPLITS, ids=[split for split, _ in SPLITS])
def test_the_error_of_an_unknown_split_names_the_splits(data_dirs: Path, split: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        opened(data_dirs / "array_record", split=split)


FIELDS: list[tuple[str, dict[str, Any], str]] = [
    (
        "digits",
        {"include_keys": ["imag"]},
        r"include_keys names 'imag', which 'digits' does not have; did you mean 'image'\?",
    ),
    (
        "digits",
        {"exclude_keys": ["x"]},
        r"exclude_keys names 'x', .* does not have \(its fields are 'image', 'label'\)",
    ),
    ("digits", {"exclude_keys": ["image", "label"]}, r"exclude_keys leaves no field of 'digits'; its fields are"),
    (
        "captions",
        {"as_supervised": True},
        r"as_supervised has no use for captions/1\.0\.0, which does not say .* target",
    ),
]


@pytest.mark.parametrize(("name", "options", "match"), FIELDS)
def test_unknown_fields_are_refused(data_dirs: Path, name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        opened(data_dirs / "tfrecord", name, **options)


def test_pairs_of_other_than_two_fields_are_refused(copied: Path) -> None:
    path = copied / "digits/1.0.0/dataset_info.json"
    info = json.loads(path.read_text())
    keys = [{"featureKey": "image"}, {"dict": {"dict": {"a": {"featureKey": "label"}}}}]
    path.write_text(json.dumps({**info, "supervisedKeys": {"tuple": {"items": keys}}}))
    match = r"as_supervised serves an input and a target that are a field each, but .* are \('image', \{'a': 'label'\}\); leave"
    with pytest.raises(ValueError, match=match):
        opened(copied, as_supervised=True)
    assert opened(copied).info()["supervised_keys"] == ["image", {"a": "label"}]


def test_records_without_names_for_their_fields_are_refused(copied: Path) -> None:
    path = copied / "digits/1.0.0/features.json"
    inner = json.loads(path.read_text())
    kind = "tensorflow_datasets.core.features.dataset_feature.Dataset"
    content = {"pythonClassName": kind, "sequence": {"feature": inner, "length": "-1"}}
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"the records of digits/1\.0\.0 are of Dataset, without names for their fields"
    ):
        opened(copied)


def _missing(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _written(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def _left_incomplete(folder: Path) -> None:
    folder.rename(folder.with_name("incomplete.ABC123_1.0.0"))


HALF: list[tuple[str, Callable[[Path], None], type[Exception], str]] = [
    (
        "no dataset_info.json",
        _missing("dataset_info.json"),
        FileNotFoundError,
        r"data set 'digits' is incomplete in .*/digits/1\.0\.0: dataset_info\.json is missing, .* interrupted; delete the",
    ),
    (
        "no features.json",
        _missing("features.json"),
        FileNotFoundError,
        r"incomplete in .*/digits/1\.0\.0: features\.json is missing, as if TFDS prepared it before its version 4\.0; delete",
    ),
    (
        "a shard is missing",
        _missing("digits-train.tfrecord-00001-of-00003"),
        FileNotFoundError,
        r"is incomplete in .*/1\.0\.0, which lacks 1 of the 3 files of the split: digits-train\.tfrecord-00001-of-00003; fetch",
    ),
    (
        "interrupted",
        _left_incomplete,
        FileNotFoundError,
        r"missing: .*/digits; its preparation was interrupted, which left .*/digits/incomplete\.ABC123_1\.0\.0 behind",
    ),
    (
        "truncated description",
        _written("dataset_info.json", '{"name": "dig'),
        DataFileError,
        r"/digits/1\.0\.0/dataset_info\.json is damaged: .*; prepare the data set again",
    ),
    (
        "foreign description",
        _written("dataset_info.json", '{"nom": "digits"}'),
        DataFileError,
        r"TFDS cannot read what .*/digits/1\.0\.0/dataset_info\.json and .* say of their data set: .*nom",
    ),
    (
        "truncated features",
        _written("features.json", "{"),
        DataFileError,
        r"/digits/1\.0\.0/features\.json is damaged",
    ),
    (
        "unknown feature",
        _written("features.json", '{"pythonClassName": "acme_features.Smell"}'),
        DataFileError,
        r"features\.json names the feature class 'acme_features\.Smell', which is none of TFDS's own",
    ),
]


@pytest.mark.parametrize(("damage", "error", "match"), [case[1:] for case in HALF], ids=[case[0] for case in HALF])
def test_the_error_of_an_incomplete_data_set_names_missing_files(
    copied: Path, damage: Callable[[Path], None], error: type[Exception], match: str
) -> None:
    damage(copied / "digits/1.0.0")
    with pytest.raises(error, match=match):
        opened(copied, local_files_only=True)


def test_a_file_of_another_split_may_be_missing(copied: Path) -> None:
    _missing("digits-train.tfrecord-00001-of-00003")(copied / "digits/1.0.0")
    assert opened(copied, split="test").num_records == 297
    assert opened(copied, split="train[:500]+train[1000:]").num_records == 1000


def test_a_name_that_fits_several_configs_is_refused(data_dirs: Path, tmp_path: Path) -> None:
    for config in ("small", "large"):
        shutil.copytree(data_dirs / "tfrecord/digits", tmp_path / "digits" / config)
    with pytest.raises(
        ValueError, match=r"holds several configs of data set 'digits': large, small; name one, as in 'digits/"
    ):
        opened(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"missing: .*/digits/smal; there are the configs large, small; did you mean"
    ):
        opened(tmp_path, "digits/smal", local_files_only=True)


READERS: list[tuple[Any, list[str], str]] = [
    (
        "array_record",
        ["tfrecord"],
        r"backend 'array_record' .* files of d/1\.0\.0, which are tfrecord; .* 'tfrecord' or 'tf.data'",
    ),
    (
        "tfrecord",
        ["array_record"],
        r"backend 'tfrecord' does not read .* are array_record; leave backend out, or name 'array_rec",
    ),
    (
        "tf.data",
        ["bagz"],
        r"backend 'tf\.data' does not read the files of d/1\.0\.0, which are bagz; leave backend out",
    ),
    (
        "tfrecord",
        ["riegeli"],
        r"backend 'tfrecord' does not read the files of d/1\.0\.0, which are riegeli; .* name 'tf\.data'",
    ),
]


@pytest.mark.parametrize(("backend", "formats", "match"), READERS)
def test_a_backend_that_does_not_fit_the_files_is_refused(backend: Any, formats: list[str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        choose_reader(backend, formats, "d/1.0.0")


def test_the_error_of_a_format_that_only_tensorflow_reads_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_reader("auto", ["parquet"], "d/1.0.0") == ("tf.data", "parquet")
    assert choose_reader("tf.data", ["array_record"], "d/1.0.0") == ("tf.data", "array_record")
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr(sys, "meta_path", [tfds_made.NotInstalled("tensorflow")])
    match = (
        r"reading the parquet files of d/1\.0\.0 .* needs TensorFlow, .*; pip install \"datarax-tfds\[tensorflow\]\""
    )
    with pytest.raises(TensorFlowMissing, match=match):
        choose_reader("auto", ["parquet"], "d/1.0.0")


OLD_PROTOBUF = """
import sys
import google.protobuf
import google.protobuf.runtime_version as runtime
from datarax_tfds.backends import tensorflow_datasets
google.protobuf.__version__ = "5.29.5"
runtime.MAJOR, runtime.MINOR, runtime.PATCH = 5, 29, 5
for _ in range(2):  # the first attempt leaves an empty module behind
    try:
        tensorflow_datasets()
    except ImportError as error:
        print("error:", error)
"""


def test_a_protobuf_that_is_too_old_for_tfds_is_named() -> None:
    ran = subprocess.run([sys.executable, "-c", OLD_PROTOBUF], capture_output=True, text=True, check=False)  # noqa: S603
    errors = [
        line for line in ran.stdout.splitlines() if line.startswith("error: tensorflow_datasets cannot be imported")
    ]
    assert len(errors) == 2, ran.stderr
    for line in errors:
        assert "; protobuf 5.29.5 is installed, which is too old for it, though it does not say so: pip install" in line
        assert line.endswith('"protobuf>=6.31.1"')
