"""Errors of the streaming source: damaged files, and options that cannot work."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tfds_data import FORMATS
from tfrecords import flip, opened, whole, write

from datarax_core import DataFileError, Pipeline, RecordError
from datarax_tfds import TFDSConfig, TFDSStreamingConfig, TFDSStreamingSource


@pytest.fixture
def damaged(data_dirs: Path, tmp_path: Path) -> Path:
    """A data_dir of TFRecord files whose data set digits a test may damage."""
    return Path(shutil.copytree(data_dirs / "tfrecord" / "digits_png", tmp_path / "digits_png")).parent


def test_a_bad_record_is_named_wherever_it_is_read(damaged: Path) -> None:
    config = TFDSStreamingConfig(name="digits_png", split="train", data_dir=damaged)
    source = TFDSStreamingSource(config)
    (path,) = damaged.glob("*/*/*train*-00001-of-*")
    flip(path, path.stat().st_size // 2)
    verified = source.verify_records(np.arange(1500))
    (error,) = verified.errors
    assert (error.path, error.record) == (str(path), error.row + 500)
    text = rf"record {error.row} of {path} cannot be read: its \w+ does not have the checksum.*\(record {error.record} of TFDS"
    source.reset()
    for read in (
        lambda: source.get_records([error.record]),
        lambda: source[error.record],
        lambda: [source.get_batch(100) for _ in range(15)],
        lambda: list(Pipeline(source=source.copy(), batch_size=128)),
        lambda: list(source.copy()),
    ):
        with pytest.raises(RecordError, match=text):
            read()


def test_a_record_that_does_not_decode_is_named(damaged: Path) -> None:
    (path,) = damaged.glob("*/*/*test*-00000-of-*")
    _with_another_record(path)
    source = TFDSStreamingSource(TFDSStreamingConfig(name="digits_png", split="test", data_dir=damaged))
    text = rf"record 3 of {path} cannot be decoded: .+ \(record 3 of TFDSStreamingSource\)"
    with pytest.raises(RecordError, match=text):
        source.get_batch(10)
    assert len(source.get_records(np.asarray([0, 1, 2, 4]))["label"]) == 4


def _with_another_record(path: Path) -> None:
    """Replace record 3 by other content with right checksums."""
    records = opened(whole(path, 99)).read(np.arange(99))
    write(path, [*records[:3], b"no example", *records[4:]])


def test_a_truncated_file_is_named_when_the_source_is_built(damaged: Path) -> None:
    (path,) = damaged.glob("*/*/*train*-00002-of-*")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)
    with pytest.raises(DataFileError, match=rf"{path} is truncated: it ends in record 499"):
        TFDSStreamingSource(TFDSStreamingConfig(name="digits_png", split="train", data_dir=damaged))


def test_a_subclass_of_a_user_is_refused(data_dirs: Path) -> None:
    class Mine(TFDSStreamingSource):
        pass

    config = TFDSStreamingConfig(name="digits", split="train", data_dir=data_dirs / "tfrecord")
    with pytest.raises(
        TypeError, match="Mine derives from TFDSStreamingSource, whose instances are of the class that can"
    ):
        Mine(config)


def test_tf_data_keeps_no_records(data_dirs: Path) -> None:
    options = {"data_dir": data_dirs / "tfrecord", "backend": "tf.data", "cacheable": True}
    config = TFDSStreamingConfig(name="digits", split="train", **options)
    with pytest.raises(
        ValueError, match=r"digits/1\.0\.0 by tf\.data, forward only, which keeps no records: cacheable has no use"
    ):
        TFDSStreamingSource(config)


@pytest.mark.parametrize("config_class", [TFDSStreamingConfig, TFDSConfig])
@pytest.mark.parametrize("backend", FORMATS)
def test_a_shuffle_buffer_is_refused_for_backends_with_random_access(config_class: Any, backend: str) -> None:
    text = f"shuffle_buffer_size\n.*backend '{backend}' has random access and shuffles all records, without a buffer; leave"
    with pytest.raises(ValidationError, match=text):
        config_class(name="digits", split="train", backend=backend, shuffle_buffer_size=500)
    config_class(name="digits", split="train", backend="tf.data", shuffle_buffer_size=500)


def test_another_config_is_refused() -> None:
    with pytest.raises(TypeError, match="TFDSStreamingSource 'x' needs a TFDSStreamingConfig, not 'digits'"):
        TFDSStreamingSource("digits", name="x")  # type: ignore[arg-type]
