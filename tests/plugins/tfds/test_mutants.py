"""Mutated data sets: each is served, or refused by an error that names its file, in little memory and time."""

import json
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from tfds_records import example

from datarax_core.errors import DataFileError, RecordError
from datarax_tfds import TFDSEagerConfig, TFDSEagerSource, TFDSStreamingConfig, TFDSStreamingSource


def declared(folder: Path, field: str, change: dict[str, Any]) -> None:
    """Declare a field of a data set anew."""
    path = folder / "features.json"
    features = json.loads(path.read_text())
    old = features["featuresDict"]["features"][field]
    (kind,) = old.keys() - {"pythonClassName", "description"}
    old[kind] = {**old[kind], **change}
    path.write_text(json.dumps(features))


def described(folder: Path, lengths: list[str]) -> None:
    """Give the first split of a data set other lengths of shards."""
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    info["splits"][0]["shardLengths"] = lengths
    path.write_text(json.dumps(info))


@pytest.fixture
def pairs(data_dirs: Path, tmp_path: Path) -> Path:
    shutil.copytree(data_dirs / "tfrecord/pairs", tmp_path / "pairs")
    return tmp_path / "pairs/1.0.0"


LARGE: list[tuple[list[str], type[Exception], str]] = [
    (
        ["1000000", "100000"],
        RecordError,
        r"record 0 of .*/pairs-train\.tfrecord-0.* 'signal' has 2 values or fewer",
    ),
    (
        ["100000000000000"],
        DataFileError,
        r"/pairs/1\.0\.0/features\.json is damaged: .* 'signal' has the shape \[1000000000",
    ),
    (
        ["-7"],
        DataFileError,
        r"TFDS cannot read what .*/features\.json say of their data set: .*-7",
    ),
    (["1"] * 40, DataFileError, r"features\.json is damaged: the field 'signal' has the shape \[1, 1"),
]


@pytest.mark.parametrize(("sizes", "error", "match"), LARGE, ids=["large", "larger", "negative", "many axes"])
@pytest.mark.parametrize("eager", [True, False])
def test_a_declared_shape_is_held_against_the_records_before_anything_is_allocated(
    pairs: Path, sizes: list[str], error: type[Exception], match: str, *, eager: bool
) -> None:
    declared(pairs, "signal", {"shape": {"dimensions": sizes}})
    options: dict[str, Any] = {"name": "pairs", "split": "train", "data_dir": pairs.parents[1]}

    def read() -> Any:
        if eager:
            return TFDSEagerSource(TFDSEagerConfig(**options))
        return TFDSStreamingSource(TFDSStreamingConfig(**options)).get_records([0, 1])

    with pytest.raises(error, match=match):
        read()


COUNTS = [
    (
        ["1000000000000", "30"],
        r"00-of-00002 has \d+ bytes, which cannot be the 1000000000000 records that .*/dataset_info\.json",
    ),
    (["31", "29"], r"tfrecord-00000-of-00002 has 30 records, where the data set's own description says 31"),
    (["-1", "30"], r"/dataset_info\.json is damaged: split 'train' has a file of -1 records; copy"),
]


@pytest.mark.parametrize(("lengths", "match"), COUNTS)
def test_declared_numbers_of_records_are_held_against_the_files(pairs: Path, lengths: list[str], match: str) -> None:
    described(pairs, lengths)
    with pytest.raises(DataFileError, match=match):
        TFDSStreamingSource(TFDSStreamingConfig(name="pairs", split="train", data_dir=pairs.parents[1]))


def test_a_description_names_no_file_of_another_folder(pairs: Path) -> None:
    path = pairs / "dataset_info.json"
    info = json.loads(path.read_text())
    info["splits"][0]["filepathTemplate"] = "../../other/{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    path.write_text(json.dumps(info))
    with pytest.raises(DataFileError, match=r"it names the file '.*/other/pairs-train.*', which is not in the folder"):
        TFDSStreamingSource(TFDSStreamingConfig(name="pairs", split="train", data_dir=pairs.parents[1]))


def png(height: int, width: int) -> bytes:
    """Return a small PNG whose header says that it is of this size."""
    small = imagecodecs.png_encode(np.zeros((8, 8, 3), np.uint8))
    header = b"IHDR" + struct.pack(">II", width, height) + small[24:29]
    return bytes(small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:])


def jpeg(height: int, width: int) -> bytes:
    """Return a small JPEG whose header says that it is of this size."""
    small = bytearray(imagecodecs.jpeg8_encode(np.zeros((8, 8, 3), np.uint8)))
    at = small.index(b"\xff\xc0") + 5
    small[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(small)


@pytest.mark.parametrize("encode", [png, jpeg])
@pytest.mark.parametrize("shape", [(8, 8, 3), (None, None, 3)])
def test_an_image_that_says_it_is_huge_is_not_decoded(
    tmp_path: Path, encode: Any, shape: tuple[int | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow_datasets as tfds  # noqa: PLC0415 - slow to import

    from datarax_tfds.features import FeatureDecoder, UndecodableRecord, images  # noqa: PLC0415

    del tmp_path
    decoder = FeatureDecoder(tfds.features.FeaturesDict({"it": tfds.features.Image(shape=shape)}), ["it"])
    assert decoder.decode([example(it=[encode(8, 8)])])["it"][0].shape == (8, 8, 3)
    monkeypatch.setattr(images, "_decoded", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UndecodableRecord, match=r"an image of 20000 x 30000 pixels where uint8"):
        decoder.decode([example(it=[encode(20_000, 30_000)])])


def test_a_tensor_is_inflated_no_further_than_its_shape() -> None:
    import tensorflow_datasets as tfds  # noqa: PLC0415 - slow to import

    from datarax_tfds.features import FeatureDecoder, UndecodableRecord  # noqa: PLC0415

    tensor = tfds.features.Tensor(shape=(4,), dtype=np.uint8, encoding=tfds.features.Encoding.ZLIB)
    decoder = FeatureDecoder(tfds.features.FeaturesDict({"it": tensor}), ["it"])
    with pytest.raises(UndecodableRecord, match=r"field 'it' has more than 4 bytes where uint8\[4\] is expected"):
        decoder.decode([example(it=[zlib.compress(bytes(1 << 20))])])
