"""Bad records of TFDS data sets: an error, substituted by the next one, listed, or excluded."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tfds_data
import tfrecords
from array_record.python.array_record_module import ArrayRecordWriter
from tfds_records import example, stored

from datarax_core import Pipeline
from datarax_core.errors import ConfigError, RecordError
from datarax_tfds import TFDSEagerConfig, TFDSEagerSource, TFDSStreamingConfig, TFDSStreamingSource, from_tfds

BAD = (4, 5, 31)
"""Damaged records of pairs, which has 60 in two files of 30."""

NUM = tfds_data.NUM_SMALL


@pytest.fixture(params=tfds_data.FORMATS)
def data_dir(data_dirs: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A data_dir with pairs, some of whose records are no Examples, or lack a field; one has a wrong checksum."""
    file_format = request.param
    shutil.copytree(data_dirs / file_format / "pairs", tmp_path / "pairs")
    records = stored(data_dirs / "array_record", "pairs")
    for number in BAD:
        records[number] = b"\xff no example" if number % 2 else example(signal=[0.0, 1.0])
    files = sorted((tmp_path / "pairs/1.0.0").glob("pairs-train*"))
    for path, contents in zip(files, (records[:30], records[30:]), strict=True):
        if file_format == "tfrecord":
            tfrecords.write(path, contents)
        else:
            path.unlink()
            writer = ArrayRecordWriter(str(path), "group_size:1")
            for content in contents:
                writer.write(content)
            writer.close()
    if file_format == "tfrecord":
        tfrecords.flip(files[0], tfrecords.begin_of(records, 4) + 14)
    return tmp_path


def opened(data_dir: Path, eager: bool = False, split: str = "train", **options: Any) -> Any:  # noqa: FBT001, FBT002
    given = {"name": "pairs", "split": split, "data_dir": data_dir, **options}
    if eager:
        return TFDSEagerSource(TFDSEagerConfig(**given))
    return TFDSStreamingSource(TFDSStreamingConfig(**given))


def numbers(source: Any) -> list[int]:
    return np.asarray(source.get_records(np.arange(len(source)))["noise"]).astype(int).tolist()


SUBSTITUTED = [{4: 6, 5: 6, 31: 32}.get(number, number) for number in range(NUM)]
GOOD = [number for number in range(NUM) if number not in BAD]


@pytest.mark.parametrize("eager", [False, True])
def test_a_bad_record_is_an_error_that_names_its_file(data_dir: Path, eager: bool) -> None:  # noqa: FBT001
    with pytest.raises(
        RecordError, match=r"record 4 of .*/pairs-train.*-00000-of-00002 cannot be (read|decoded): "
    ) as caught:
        numbers(opened(data_dir, eager))
    assert (caught.value.record, caught.value.row) == (4, 4)
    assert ("TFDSEagerSource" if eager else "TFDSStreamingSource") in str(caught.value)


@pytest.mark.parametrize("eager", [False, True])
def test_bad_records_are_substituted_listed_and_excluded(data_dir: Path, tmp_path: Path, eager: bool) -> None:  # noqa: FBT001
    listed = tmp_path / "bad.jsonl"
    lenient = opened(data_dir, eager, on_error="substitute", quarantine=str(listed), max_errors=3)
    assert numbers(lenient) == SUBSTITUTED
    assert lenient.get_operation_stats()["skipped_count"] == len(BAD)
    assert [json.loads(line)["record"] for line in listed.read_text().splitlines()] == [4, 5, 1]
    without = opened(data_dir, eager, exclude=str(listed))
    assert numbers(without) == GOOD
    assert len(without) == without.get_dataset_info()["num_records"] == NUM - len(BAD)
    with pytest.raises(ValueError, match=r"excluded|length"):
        without.set_state(lenient.get_state())
    assert numbers(opened(data_dir, eager, "train[3:33]", exclude=str(listed))) == [n for n in GOOD if 3 <= n < 33]
    assert numbers(opened(data_dir, eager, "train[40:]", exclude=str(listed))) == list(range(40, NUM))
    with pytest.raises(RecordError, match=r"max_errors=2 allows 2 of 60"):
        numbers(opened(data_dir, eager, on_error="substitute", quarantine=str(listed), max_errors=2))


def test_every_route_serves_the_same_substitutes(data_dir: Path, tmp_path: Path) -> None:
    options = {"on_error": "substitute", "quarantine": str(tmp_path / "bad.jsonl")}
    for source in (
        opened(data_dir, **options),
        opened(data_dir, eager=True, **options),
        from_tfds("pairs", "train", data_dir=data_dir, **options),
    ):
        assert [int(element["noise"]) for element in source] == SUBSTITUTED
        again = pickle.loads(pickle.dumps(source))  # noqa: S301
        batches = [np.asarray(batch["noise"]) for batch in Pipeline(source=again, batch_size=8)]
        assert np.concatenate(batches).astype(int).tolist() == SUBSTITUTED
    stream = opened(data_dir, **options)
    assert np.concatenate([stream.get_batch(6)["noise"] for _ in range(10)]).astype(int).tolist() == SUBSTITUTED
    assert stream.get_operation_stats()["skipped_count"] == len(BAD)


def test_verifying_finds_what_would_be_substituted(data_dir: Path, tmp_path: Path) -> None:
    source = opened(data_dir, on_error="substitute", quarantine=str(tmp_path / "bad.jsonl"))
    assert [error.record for error in source.verify_records(np.arange(NUM)).errors] == list(BAD)


def test_a_list_of_other_files_is_refused(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"file": "/other/file", "record": 3, "cause": ""}\n')
    with pytest.raises(ConfigError, match=r"none of its 1 lines names a file of this source, such as .*/pairs-train"):
        opened(data_dir, exclude=str(tmp_path / "bad.jsonl"))


def test_options_for_bad_records_take_random_access(data_dir: Path) -> None:
    with pytest.raises(
        ValueError, match=r"backend 'tf\.data' reads forward only, where on_error='substitute' has no use"
    ):
        TFDSStreamingConfig(name="pairs", split="train", data_dir=data_dir, backend="tf.data", on_error="substitute")
    with pytest.raises(ValueError, match=r"backend 'tf\.data' reads forward only, where exclude has no use"):
        TFDSEagerConfig(name="pairs", split="train", data_dir=data_dir, backend="tf.data", exclude="bad.jsonl")
    with pytest.raises(ValueError, match=r"quarantine has no use without on_error='substitute'"):
        TFDSEagerConfig(name="pairs", split="train", data_dir=data_dir, quarantine="bad.jsonl")
