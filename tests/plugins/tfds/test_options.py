"""Configs of TFDS sources: values that they accept or refuse, and their form in files."""

import json
from typing import Any

import pytest
import tensorflow_datasets as tfds
import yaml
from pydantic import ValidationError

from datarax_core.registry.pipeline_config import load_config
from datarax_tfds import TFDSConfig, TFDSEagerConfig, TFDSStreamingConfig

CONFIGS = [TFDSConfig, TFDSEagerConfig, TFDSStreamingConfig]
Config = type[TFDSConfig] | type[TFDSEagerConfig] | type[TFDSStreamingConfig]


@pytest.mark.parametrize("config_type", CONFIGS)
def test_only_name_and_split_are_required(config_type: Config) -> None:
    config = config_type(name="mnist", split="train")
    assert (config.data_dir, config.include_keys, config.exclude_keys) == (None, None, None)
    assert (config.try_gcs, config.shuffle, config.as_supervised, config.local_files_only) == (False,) * 4
    assert (config.download_and_prepare_kwargs, config.beam_num_workers, config.backend) == (None, None, "auto")
    assert config.seed == 42
    with pytest.raises(ValidationError, match="split"):
        config_type(name="mnist")  # type: ignore[call-arg]  # the test


def test_a_streaming_config_has_its_buffers() -> None:
    config = TFDSStreamingConfig(name="mnist", split="train")
    assert (config.shuffle_buffer_size, config.prefetch_buffer) == (1000, 2)


@pytest.mark.parametrize("config_type", CONFIGS)
def test_shuffling_draws_from_a_stream_of_its_own(config_type: Config) -> None:
    config = config_type(name="mnist", split="train", shuffle=True)
    assert (config.stochastic, config.stream_name) == (True, "shuffle")


@pytest.mark.parametrize(
    "keys", [{"b", "a"}, ["a", "b"], ("b", "a"), frozenset("ab")], ids=lambda keys: type(keys).__name__
)
def test_keys_are_a_set_or_a_list(keys: Any) -> None:
    config = TFDSEagerConfig(name="mnist", split="train", include_keys=keys)
    assert config.include_keys == {"a", "b"}
    assert config.model_dump()["include_keys"] == ["a", "b"]  # sorted: each process writes the same text


EVERYTHING: dict[str, Any] = {
    "name": "mnist:3.0.1",
    "split": "train[:200]",
    "exclude_keys": {"b", "a", "c"},
    "shuffle": True,
    "seed": 7,
    "try_gcs": True,
    "beam_num_workers": 4,
    "backend": "tf.data",
    "shuffle_buffer_size": 10,
    "prefetch_buffer": 0,
}


def test_a_config_survives_json_and_yaml(tmp_path: Any) -> None:
    download = tfds.download.DownloadConfig(num_shards=3, manual_dir=tmp_path)
    arguments = {"download_dir": tmp_path, "download_config": download, "file_format": "tfrecord"}
    config = TFDSStreamingConfig(**EVERYTHING, download_and_prepare_kwargs=arguments)
    plain = {"download_dir": str(tmp_path), "download_config": {"manual_dir": str(tmp_path), "num_shards": 3}}
    assert config.download_and_prepare_kwargs == {**plain, "file_format": "tfrecord"}
    text = config.model_dump_json()
    assert TFDSStreamingConfig.model_validate_json(text) == config
    assert TFDSStreamingConfig.model_validate_json(text).model_dump_json() == text
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({"batch_size": 4, "source": json.loads(text)}))
    assert load_config(path).source == config


def test_a_data_dir_is_relative_to_the_config_file(tmp_path: Any) -> None:
    path = tmp_path / "train.yaml"
    source = {"type": "tfds_eager", "name": "mnist", "split": "train", "data_dir": "data"}
    path.write_text(yaml.safe_dump({"batch_size": 4, "source": source}))
    assert load_config(path).source == TFDSEagerConfig(name="mnist", split="train", data_dir=tmp_path / "data")


def test_a_data_dir_may_be_in_the_home_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "train.yaml"
    path.write_text("batch_size: 4\nsource: {type: tfds, name: mnist, split: train, data_dir: ~/data}\n")
    source: Any = load_config(path).source
    assert (
        source.data_dir == TFDSConfig(name="mnist", split="train", data_dir="~/data").data_dir == str(tmp_path / "data")
    )


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"name": " mnist"},
        r"' mnist' is no name of a data set: it has spaces; a name is digits, digits/config, digits:1\.0\.0",
    ),
    (
        {"name": "/data/mnist"},
        "'/data/mnist' is no name of a data set: it is a path; give the folder as data_dir, and as name",
    ),
    ({"name": "gs://x/mnist"}, "it is a path; give the folder as data_dir"),
    (
        {"name": "kaggle:mnist"},
        "data sets of a namespace are not taken; prepare it with TFDS, and give its folder as data_dir",
    ),
    (
        {"name": "mnist:1.0"},
        r"'mnist:1\.0' is no name of a data set: its version is not three numbers, such as 1\.0\.0",
    ),
    ({"name": "mnist/a=1"}, "arguments of a builder are not taken"),
    ({"name": "mnist//x"}, r"'mnist//x' is no name of a data set: a name is digits, digits/config"),
    ({"split": ""}, "split"),
    ({"split": ["train", "test"]}, "split"),
    (
        {"split": "train[a:b]"},
        r"'train\[a:b\]' is no split, nor a slice of one; write train, train\[:200\], train\[10%:90%\]",
    ),
    ({"split": "train[::2]"}, r"'train\[::2\]' is no split, nor a slice of one"),
    ({"split": "train++test"}, r"'', in 'train\+\+test', is no split, nor a slice of one"),
    ({"split": "train[:]"}, r"'train\[:\]' is no split, nor a slice of one"),
    ({"split": "train[10]"}, r"'train\[10\]' is one record, not a slice; write train\[a:b\]"),
    ({"split": "all[:10]"}, r"'all\[:10\]': all cannot be sliced; slice what it joins: train\[:10%\]\+test\[:10%\]"),
    (
        {"split": "train[10:50%]"},
        r"'train\[10:50%\]' counts its two ends in different units; write both in records, in %",
    ),
    ({"split": "train[:101%]"}, r"'train\[:101%\]' goes beyond 100%"),
    ({"split": "train[1.5:3]"}, r"'train\[1\.5:3\]' is not in whole records; only a percentage may have a fraction"),
    ({"split": "even_splits('train')[0]"}, r"is no even split; write even_splits\('train', n=3\)\[0\]"),
    ({"split": "even_splits('train', n=3, m=1)[0]"}, "is no even split"),
    ({"split": "even_splits('train', n=3)[3]"}, r"takes number 3 of 3, which are counted from 0"),
    ({"split": "even_splits('train[a]', n=3)[0]"}, r"'train\[a\]' is no split"),
    (
        {"split": tfds.core.ReadInstruction("t", to=1, unit="%", rounding="pct1_dropremainder")},
        "cannot be written as a text",
    ),
    (
        {"split": tfds.even_splits("train", n=2)[0] + "test"},
        "cannot be written as a text, as a config has it; write train",
    ),
    (
        {"data_dir": "gs://bucket/data"},
        "'gs://bucket/data' is not on this machine, and files are read in place only; copy the data set",
    ),
    ({"include_keys": ["a"], "exclude_keys": ["b"]}, "include_keys and exclude_keys exclude each other"),
    ({"include_keys": []}, "include_keys"),
    (
        {"as_supervised": True, "include_keys": ["a"]},
        "as_supervised serves .* pair, so that include_keys has nothing to choose",
    ),
    (
        {"as_supervised": True, "exclude_keys": ["a"]},
        "as_supervised serves .* pair, so that exclude_keys has nothing to choose",
    ),
    ({"shuffle": 1}, "shuffle"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**32}, "seed"),
    ({"beam_num_workers": 0}, "beam_num_workers"),
    ({"backend": "tf"}, "backend"),
    (
        {"local_files_only": True, "try_gcs": True},
        "try_gcs has no use with local_files_only=True, which forbids to prepare",
    ),
    ({"local_files_only": True, "beam_num_workers": 2}, "beam_num_workers has no use with local_files_only=True"),
    (
        {"backend": "array_record", "try_gcs": True},
        "the bucket of try_gcs has tfrecord files, which backend 'array_record' does",
    ),
    ({"shufle": True}, "unknown field 'shufle'; did you mean 'shuffle'?"),
]

BAD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"fileformat": "x"}, "'fileformat' is not an argument of download_and_prepare; did you mean 'file_format'?"),
    (
        {"zzz": 1},
        "'zzz' is not an argument of download_and_prepare; there are download_dir, download_config, file_format",
    ),
    ({"file_format": "hdf5"}, "hdf5 is not a valid FileFormat! Valid file formats: .*'tfrecord'"),
    (
        {"permissions": {"mode": 1}},
        "permissions are ignored by TFDS: files are written as the umask of the process says",
    ),
    ({"download_config": 3}, "download_config is a mapping, or TFDS's DownloadConfig, not 3"),
    (
        {"download_config": {"num_shard": 3}},
        "'num_shard' is not a field of download_config; did you mean 'num_shards'?",
    ),
    (
        {"download_config": {"try_download_gcs": True}},
        "has try_download_gcs, which TFDS ignores; set the config's try_gcs",
    ),
    (
        {"download_config": {"download_mode": "force_redownload"}},
        "a data set that is on disk is read as it is; delete its",
    ),
]


@pytest.mark.parametrize(("options", "match"), BAD, ids=[str(options) for options, _ in BAD])
def test_values_that_cannot_work_are_refused_when_a_config_is_built(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        TFDSStreamingConfig(**{"name": "mnist", "split": "train", **options})


@pytest.mark.parametrize(("arguments", "match"), BAD_ARGUMENTS, ids=[str(arguments) for arguments, _ in BAD_ARGUMENTS])
def test_arguments_of_tfds_are_checked_when_a_config_is_built(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        TFDSEagerConfig(name="mnist", split="train", download_and_prepare_kwargs=arguments)


def test_a_file_format_that_the_backend_does_not_read_is_refused() -> None:
    with pytest.raises(
        ValidationError, match="download_and_prepare_kwargs writes tfrecord files, which backend 'array_record'"
    ):
        TFDSConfig(
            name="mnist", split="train", backend="array_record", download_and_prepare_kwargs={"file_format": "tfrecord"}
        )


def test_the_number_of_beam_workers_can_be_given_only_once() -> None:
    arguments = {"download_config": {"beam_options": object()}}
    with pytest.raises(ValidationError, match="the beam_options of download_config set the number of workers already"):
        TFDSConfig(name="mnist", split="train", beam_num_workers=2, download_and_prepare_kwargs=arguments)
