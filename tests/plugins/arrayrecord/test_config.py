"""Every field of the config has an effect, and invalid values are refused with the field named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_records import DECODER, TOTAL, source_of, write_files
from flax import nnx

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule
from datarax_arrayrecord.decoders import ArrayDecoder, RawDecoder
from datarax_core import ConfigError, Pipeline, SourceRegistry, build_source, load_config

REFUSED = {
    "unknown field": ({"path": "x"}, r"unknown field 'path'; did you mean 'paths'"),
    "no paths": ({"paths": []}, r"paths\n.*at least 1 item"),
    "a path that is none": ({"paths": ["a", 3]}, r"paths\.1"),
    "unknown decoder": ({"decoder": "arrray"}, r"decoder.*unknown decoder 'arrray'; did you mean 'array'"),
    "decoder of no kind": ({"decoder": 3}, r"a decoder is a name, such as 'raw', or a mapping with a `type`"),
    "decoder without type": (
        {"decoder": {"fields": {}}},
        r"the decoder's `type` is missing; name an installed decoder",
    ),
    "no epochs": ({"num_epochs": 0}, r"a loop serves 1 epoch or more, or -1 for no end, not 0"),
    "on_error": ({"on_error": "skip"}, r"on_error\n.*'raise' or 'substitute'"),
    "max_errors alone": ({"max_errors": 3}, r"max_errors has no use without on_error='substitute'"),
    "quarantine alone": ({"quarantine": "bad.jsonl"}, r"quarantine has no use without on_error='substitute'"),
    "max_errors below 0": ({"on_error": "substitute", "max_errors": -1}, r"is a number of records from 0, or a share"),
    "max_errors no share": ({"on_error": "substitute", "max_errors": 1.5}, r"or a share of them below 1, not 1.5"),
    "remote": (
        {"paths": ["gs://b/x"], "local_files_only": True},
        r"local_files_only=True forbids 'gs://b/x', which is not",
    ),
    "open files": ({"max_open_files": 0}, r"max_open_files"),
}


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED)
def test_invalid_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        ArrayRecordSourceConfig(**fields)


def test_the_defaults_are_the_documented_ones() -> None:
    config = ArrayRecordSourceConfig()
    assert (config.seed, config.num_epochs, config.shuffle_files, config.local_files_only) == (42, -1, False, False)
    assert (config.paths, config.decoder, config.shuffle, config.on_error) == (None, None, False, "raise")


def test_a_config_goes_to_json_and_back() -> None:
    config = ArrayRecordSourceConfig(
        paths=["a", "b"], decoder=DECODER, shuffle=True, exclude="bad.jsonl", max_open_files=3
    )
    assert ArrayRecordSourceConfig.model_validate(json.loads(config.model_dump_json())) == config
    assert hash(ArrayRecordSourceConfig(decoder=DECODER)) == hash(ArrayRecordSourceConfig(decoder=DECODER))


def test_a_decoder_is_named_in_any_of_four_ways(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    assert isinstance(source_of(files, decoder="raw").decoder, RawDecoder)
    assert isinstance(source_of(files, decoder=DECODER).decoder, ArrayDecoder)
    assert source_of(files, decoder=ArrayDecoder(fields=DECODER["fields"])) is not None  # type: ignore[arg-type]
    source = source_of(files, decoder=lambda record: {"id": int.from_bytes(record[:4], "little"), "rest": record[4:]})
    batch = source.get_batch_at(38, 3)
    assert batch["id"].tolist() == [38, 39, 0]
    assert batch["rest"].tolist()[0] == bytes([38, 1, 2, 3])


def test_paths_of_a_config_file_are_relative_to_it_and_build_a_source(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_files(tmp_path / "data")
    file = tmp_path / "train.yaml"
    file.write_text(
        "batch_size: 10\nsource:\n  type: arrayrecord\n  paths: data/x.array_record-*\n  shuffle: true\n"
        "  decoder: {type: array, fields: {id: {dtype: int32, shape: []}, image: {dtype: uint8, shape: [2, 2]}}}\n",
        encoding="utf-8",
    )
    pipeline = Pipeline.from_config(file)
    assert sorted(number for batch in pipeline for number in np.asarray(batch["id"]).tolist()) == list(range(TOTAL))
    config = load_config(file).source
    assert isinstance(config, ArrayRecordSourceConfig)
    assert config.paths == (f"{tmp_path}/data/x.array_record-*",)


def test_problems_of_a_config_file_have_line_numbers(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(
        "batch_size: 10\nsource:\n  type: arrayrecord\n  paths: [a, 3]\n  decoder: {type: array, fields: {x: {dtype: intt}}}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    lines = str(caught.value).splitlines()
    assert "source.paths[1]" in lines[0]
    assert any("source.decoder.fields.x.dtype" in line for line in lines)


def test_the_registry_lists_the_source_and_its_decoders() -> None:
    registry = SourceRegistry.from_environment()
    assert registry.get("arrayrecord") is ArrayRecordSourceModule
    assert registry.config_type("arrayrecord") is ArrayRecordSourceConfig


def test_paths_are_given_by_argument_or_config_and_not_by_both(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    assert (
        len(ArrayRecordSourceModule(ArrayRecordSourceConfig(paths=files)))
        == len(source_of(files))
        == len(source_of(tmp_path))
        == TOTAL
    )
    with pytest.raises(ValueError, match="ArrayRecordSourceModule was given no paths; pass paths, or name them"):
        ArrayRecordSourceModule(ArrayRecordSourceConfig())
    with pytest.raises(ValueError, match="was given paths besides those of its config; pass paths, or name them"):
        ArrayRecordSourceModule(ArrayRecordSourceConfig(paths=files), files)
    with pytest.raises(ValueError, match="was given an empty list of paths"):
        source_of([])
    with pytest.raises(TypeError, match=r"takes a path or a list of paths, not 3"):
        source_of(3)
    with pytest.raises(
        ConfigError, match="an arrayrecord source in a config needs 'paths': files, folders or patterns"
    ):
        build_source({"type": "arrayrecord"})
    with pytest.raises(TypeError, match=r"ArrayRecordSourceModule needs an ArrayRecordSourceConfig, not \{\}"):
        ArrayRecordSourceModule({}, files)  # type: ignore[arg-type]


def test_local_files_only_refuses_remote_addresses_before_any_attempt(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match="local_files_only=True, which forbids 'gs://bucket/x': it is not on this"
    ):
        source_of(["gs://bucket/x"], local_files_only=True)
    assert len(source_of(write_files(tmp_path), local_files_only=True)) == TOTAL


def test_a_copy_with_another_config_reads_the_same_files(tmp_path: Path) -> None:
    source = source_of(write_files(tmp_path), rngs=nnx.Rngs(0))
    undecoded = source.copy(config=ArrayRecordSourceConfig(decoder="raw", shuffle=True))
    assert isinstance(undecoded.get_batch(3)[0], bytes)
    assert undecoded.is_random_order
    assert undecoded.paths == source.paths
