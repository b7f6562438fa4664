"""Errors of records that are not as declared: they name row and field, and the found and the expected value."""

import functools
import pickle
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tensorflow_datasets as tfds
import tfds_zoo
from tfds_records import example, row_of, same, stored

from datarax_tfds.backends import NeedsTensorFlow
from datarax_tfds.features import FeatureDecoder, UndecodableRecord

f = tfds.features

PNG = imagecodecs.png_encode(tfds_zoo.pixels(4, 4, 3))
JPEG = imagecodecs.jpeg8_encode(tfds_zoo.pixels(32, 32, 3))


def decoder_of(feature: Any) -> FeatureDecoder:
    return FeatureDecoder(f.FeaturesDict({"a": {"it": feature}}), ["a"])


MISTAKES: dict[str, tuple[Any, Any, list[Any] | dict[str, list[Any]], str]] = {
    # the feature, values that fit, values that do not fit, and the error
    "missing": (f.Tensor(shape=(2,), dtype=np.int32), [1, 2], {}, "has no value where int32[2] is expected"),
    "no text": (f.Text(), [b"x"], {}, "has no value where bytes[] is expected"),
    "few numbers": (f.Tensor(shape=(2,), dtype=np.int32), [1, 2], [1], "has 1 value where int32[2] is expected"),
    "no numbers": (f.Scalar(np.float32, optional=True), [1.0], [], "has integers where float32[] is expected"),
    "many numbers": (f.Scalar(np.float32), [1.0], [1.0, 2.0], "has 2 values where float32[] is expected"),
    "no unit": (
        f.Tensor(shape=(None, 2), dtype=np.int8),
        [1, 2],
        [1, 2, 3],
        "has 3 values where int8[any, 2] is expected",
    ),
    "floats": (f.Scalar(np.int64), [1], [1.0], "has floats where int64[] is expected"),
    "integers": (f.Scalar(np.float32), [1.0], [1], "has integers where float32[] is expected"),
    "bytes": (f.Scalar(np.int64), [1], [b"x"], "has bytes where int64[] is expected"),
    "no bytes": (f.Text(), [b"x"], [1], "has integers where bytes[] is expected"),
    "several texts": (f.Text(), [b"x"], [b"x", b"y"], "has 2 values where bytes[] is expected"),
    "few texts": (f.Sequence(f.Text(), length=2), [b"x", b"y"], [b"x"], "has 1 value where bytes[2] is expected"),
    "too great": (f.Scalar(np.uint8), [255], [256], "has the value 256 where uint8[] is expected"),
    "too small": (
        f.Tensor(shape=(2,), dtype=np.uint16),
        [1, 2],
        [1, -1],
        "has the value -1 where uint16[2] is expected",
    ),
    "no bool": (f.Scalar(np.bool_), [1], [2], "has the value 2 where bool[] is expected"),
    "too great a float": (f.Scalar(np.float16), [1.5], [1e6], "has the value 1e+06 where float16[] is expected"),
    "few bytes": (
        f.Tensor(shape=(2,), dtype=np.int16, encoding="bytes"),
        [b"abcd"],
        [b"abc"],
        "has 3 bytes where int16[2]",
    ),
    "odd bytes": (
        f.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),
        [b"ab"],
        [b"abc"],
        "has 3 bytes where int16[any]",
    ),
    "no byte of a bool": (
        f.Tensor(shape=(1,), dtype=np.bool_, encoding="bytes"),
        [b"\1"],
        [b"\2"],
        "has the byte 2 where bool[1] is expected",
    ),
    "not deflated": (
        f.Tensor(shape=(1,), dtype=np.uint8, encoding="zlib"),
        [zlib.compress(b"x")],
        [b"x"],
        "has bytes that do not inflate (",
    ),
    "another shape": (
        f.Tensor(shape=(None, None, 1), dtype=np.uint8, encoding="bytes"),
        {"it__value": [b"ab"], "it__shape": [1, 2, 1]},
        {"it__value": [b"ab"], "it__shape": [1, 1, 2]},
        "has the shape [1, 1, 2] where uint8[any, any, 1] is expected",
    ),
    "a huge shape": (
        f.Tensor(shape=(None, None, 1), dtype=np.uint8, encoding="bytes"),
        {"it__value": [b"ab"], "it__shape": [1, 2, 1]},
        {"it__value": [b"ab"], "it__shape": [2**31 - 1, 2**31 - 1, 1]},
        "has 2 bytes where uint8[any, any, 1] is expected",
    ),
    "no shape": (
        f.Tensor(shape=(None, None), dtype=np.uint8, encoding="bytes"),
        {"it__value": [b"ab"], "it__shape": [1, 2]},
        {"it__value": [b"ab"]},
        "has no value where uint8[any, any] is expected",
    ),
    "rows and values": (
        f.Sequence(f.Sequence(np.int32)),
        {"it__ragged_flat_values": [1, 2, 3], "it__ragged_row_lengths_0": [1, 2]},
        {"it__ragged_flat_values": [1, 2, 3], "it__ragged_row_lengths_0": [1, 3]},
        "has 3 values in rows of 4 where int32[any, any] is expected",
    ),
    "negative rows": (
        f.Sequence(f.Sequence(np.int32)),
        {"it__ragged_flat_values": [1], "it__ragged_row_lengths_0": [1]},
        {"it__ragged_flat_values": [1], "it__ragged_row_lengths_0": [2, -1]},
        "has rows of [2, -1] values where int32[any, any] is expected",
    ),
    "rows of another length": (
        f.Sequence(f.Sequence(np.int32, length=2), length=1),
        {"it__ragged_flat_values": [1, 2], "it__ragged_row_lengths_0": [2]},
        {"it__ragged_flat_values": [1, 2, 3, 4], "it__ragged_row_lengths_0": [2, 2]},
        "has 2 rows where int32[1, 2] is expected",
    ),
    "few images": (
        f.Sequence(f.Image(shape=(4, 4, 3)), length=2),
        [PNG, PNG],
        [PNG],
        "has 1 value where uint8[2, 4, 4, 3] is expected",
    ),
    "no image": (
        f.Image(),
        [PNG],
        [b"nothing"],
        "has the bytes b'nothing' instead of an image as PNG, JPEG, BMP or WebP",
    ),
    "a GIF": (f.Image(), [PNG], [b"GIF89a..."], "has a GIF instead of an image"),
    "another size": (
        f.Image(shape=(4, 4, 3)),
        [PNG],
        [JPEG],
        "has an image of 32 x 32 pixels where uint8[4, 4, 3] is expected",
    ),
    "another height": (
        f.Image(shape=(4, None, 3)),
        [PNG],
        [JPEG],
        "has an image of 32 x 32 pixels where uint8[4, any, 3]",
    ),
    "colors": (
        f.Image(shape=(4, 4, 1)),
        [imagecodecs.png_encode(tfds_zoo.pixels(4, 4))],
        [PNG],
        "has an image of 3 channels",
    ),
    "a shallow image": (
        f.Image(dtype=np.uint16),
        [PNG],
        [JPEG],
        "has an image of uint8 where uint16[any, any, 3] is expected",
    ),
    "a broken image": (f.Image(), [PNG], [PNG[:50]], "has an image that cannot be decoded (PngError: "),
    "half a BMP": (
        f.Image(),
        [tfds_zoo.pictures()["bmp"]],
        [tfds_zoo.pictures()["bmp"][:-9]],
        "has an image that cannot be decoded (ValueError: 165 bytes for 7 x 5",
    ),
    "a head of a BMP": (
        f.Image(),
        [PNG],
        [b"BM" + bytes(40)],
        "has an image that cannot be decoded (ValueError: a header of 42 bytes)",
    ),
    "a BMP of a palette": (
        f.Image(),
        [PNG],
        [b"BM" + bytes(60)],
        "has an image that cannot be decoded (ValueError: 0 x 0 pixels of 0 bits, compression 0)",
    ),
    "half a JPEG": (f.Image(), [JPEG], [JPEG[:-200]], f"has a JPEG that is cut off after {len(JPEG) - 200} bytes"),
    "an unfinished JPEG": (f.Image(shape=(32, 32, 3)), [JPEG], [JPEG[:-1]], "has a JPEG that is cut off after"),
}


def record(values: list[Any] | dict[str, list[Any]]) -> bytes:
    features = values if isinstance(values, dict) else {"it": values}
    return example(**{f"a__{name}": of_it for name, of_it in features.items()})


@pytest.mark.parametrize("name", MISTAKES)
def test_a_record_that_does_not_fit_is_named_with_its_field(name: str) -> None:
    feature, right, wrong, message = MISTAKES[name]
    decoder, good = decoder_of(feature), record(right)
    decoder.decode([good])
    with pytest.raises(UndecodableRecord, match=f"record 2 of the batch: field 'a.it' {re.escape(message)}") as caught:
        decoder.decode([good, good, record(wrong), good])
    assert (caught.value.row, caught.value.field) == (2, "a.it")
    assert str(caught.value).endswith(caught.value.reason)


def test_bytes_that_are_no_record_are_named_by_their_row() -> None:
    with pytest.raises(
        UndecodableRecord, match=r"record 1 of the batch: its 4 bytes are no tf\.train\.Example"
    ) as caught:
        decoder_of(f.Text()).decode([record([b"x"]), b"\xff\xff\xff\xff"])
    assert (caught.value.row, caught.value.field) == (1, None)


def test_an_empty_record_lacks_its_fields() -> None:
    with pytest.raises(UndecodableRecord, match=r"field 'a\.it' has no value where bytes\[\] is expected"):
        decoder_of(f.Text()).decode([b""])


def test_integers_whose_order_is_lost_are_refused() -> None:
    mixed = b"\x1a\x05\x0a\x01\x05\x08\x07"  # a packed 5 and an unpacked 7, whose order is lost
    entry = b"\x0a\x04a/it\x12" + bytes([len(mixed)]) + mixed
    features = b"\x0a" + bytes([len(entry)]) + entry
    with pytest.raises(UndecodableRecord, match="integers of which some are packed and some are not"):
        decoder_of(f.Tensor(shape=(2,), dtype=np.int64)).decode([b"\x0a" + bytes([len(features)]) + features])


@pytest.mark.parametrize("packed", [b"\x85", b"\xff" * 10 + b"\x01", b"\x05\x85"])
def test_integers_that_do_not_end_are_refused(packed: bytes) -> None:
    numbers = b"\x1a" + bytes([len(packed) + 2]) + b"\x0a" + bytes([len(packed)]) + packed
    entry = b"\x0a\x04a/it\x12" + bytes([len(numbers)]) + numbers
    features = b"\x0a" + bytes([len(entry)]) + entry
    with pytest.raises(UndecodableRecord, match=r"has an integer (that ends before its last byte|of 11 bytes)"):
        decoder_of(f.Scalar(np.int64)).decode([b"\x0a" + bytes([len(features)]) + features])


def test_errors_pickle() -> None:
    error = UndecodableRecord(3, "a.it", "it is wrong")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (again.row, again.field, again.reason, str(again)) == (3, "a.it", "it is wrong", str(error))
    need = pickle.loads(pickle.dumps(NeedsTensorFlow("a", "because")))  # noqa: S301
    assert (need.field, need.reason) == ("a", "because")


# -- damaged bytes ----------------------------------------------------------------------------------------------------------


@functools.cache
def declared(data_dirs: Path, name: str) -> Any:
    return tfds.builder_from_directory(str(data_dirs / "array_record" / name / "1.0.0")).info.features


def check_damaged(features: Any, whole: bytes, damaged: bytes) -> bool:
    """Return whether bytes decode; assert that they then decode to the whole record's values, or to those that TFDS reads."""
    decoder = FeatureDecoder(features, list(features))
    try:
        found = row_of(decoder.decode([damaged]), 0)
    except UndecodableRecord:
        return False
    if same(found, row_of(decoder.decode([whole]), 0)):
        return True
    try:
        with warnings.catch_warnings(action="ignore"):  # casts of NaNs warn
            expected = features.deserialize_example_np(damaged)
    except (KeyError, ValueError, RuntimeError):  # a sequence is missing, which TensorFlow reads as empty
        lacking = [name for name in decoder.varying if name != "image" and not len(value_at(found, name))]
        assert lacking
        return True
    assert same(found, expected)
    return True


def value_at(tree: Any, name: str) -> Any:
    return functools.reduce(lambda inner, part: inner[part], name.split("."), tree)


@pytest.mark.parametrize("name", ["digits_png", "captions", "nested", "pairs"])
def test_a_truncated_record_is_an_error_wherever_it_ends(data_dirs: Path, name: str) -> None:
    whole = stored(data_dirs / "array_record", name)[5]
    assert not any(check_damaged(declared(data_dirs, name), whole, whole[:end]) for end in range(len(whole)))


@pytest.mark.parametrize("name", ["digits_png", "captions", "nested", "pairs"])
def test_a_record_with_a_flipped_bit_is_an_error_or_as_tfds_reads_it(data_dirs: Path, name: str) -> None:
    whole = stored(data_dirs / "array_record", name)[5]
    rng, read = np.random.default_rng(0), 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        read += check_damaged(declared(data_dirs, name), whole, bytes(damaged))
    assert read < len(whole)


# -- features that others decode ----------------------------------------------------------------------------------------------


class Doubled(f.Tensor):
    """A feature of a user's own, which stores half of its value."""

    def encode_example(self, example_data: Any) -> Any:
        return super().encode_example(example_data // 2)

    def decode_example_np(self, example_data: Any) -> Any:
        return super().decode_example_np(example_data) * 2


class DoubledByTensorFlow(f.Tensor):
    """Such a feature without a decoder for NumPy."""

    def decode_example(self, tfexample_data: Any) -> Any:
        return super().decode_example(tfexample_data) * 2


class Plain(f.FeaturesDict):
    """A subclass of a feature that consists of others."""


def test_a_feature_class_of_a_user_is_decoded_by_its_own_decoder() -> None:
    features = f.FeaturesDict({"a": Plain({"it": Doubled(shape=(2,), dtype=np.int32), "also": np.int64})})
    records = [features.serialize_example({"a": {"it": np.array([2, 4 * k], np.int32), "also": k}}) for k in range(3)]
    batch = FeatureDecoder(features, ["a"]).decode(records)
    assert same(batch, {"a": {"it": [[2, 0], [2, 4], [2, 8]], "also": [0, 1, 2]}})
    assert batch["a"]["it"].dtype == np.int32


def test_values_of_varying_shape_of_a_user_s_feature_are_kept_as_decoded() -> None:
    features = f.FeaturesDict({"it": Doubled(shape=(None,), dtype=np.int32)})
    records = [features.serialize_example({"it": np.arange(k, dtype=np.int32) * 2}) for k in range(3)]
    decoder = FeatureDecoder(features, ["it"])
    assert same(decoder.decode(records), {"it": [[], [0], [0, 2]]})
    assert decoder.varying == {"it": "int32[any]"}


def test_a_data_set_in_a_record_is_a_list_of_its_records() -> None:
    features = f.FeaturesDict({"steps": f.Dataset({"x": np.int32, "y": f.Text()}), "also": np.int64})
    record = features.serialize_example({"steps": [{"x": 1, "y": "p"}, {"x": 2, "y": "q"}], "also": 0})
    decoder = FeatureDecoder(features, ["steps"])
    (steps,) = decoder.decode([record])["steps"]
    assert same([step["x"] for step in steps], [1, 2])
    assert [step["y"] for step in steps] == [b"p", b"q"]
    assert "steps" in decoder.varying


def test_the_error_of_a_user_s_decoder_is_raised_with_row_and_field() -> None:
    features = f.FeaturesDict({"it": Doubled(shape=(2,), dtype=np.int32)})
    with pytest.raises(
        UndecodableRecord, match=r"record 1 of the batch: field 'it' has a value that its own decoder refuses \(\w+: "
    ):
        FeatureDecoder(features, ["it"]).decode([example(it=[1, 2]), example(it=[1, 2, 3])])


@pytest.mark.parametrize(
    ("feature", "reason"),
    [
        (DoubledByTensorFlow(shape=(2,), dtype=np.int32), "DoubledByTensorFlow has no decoder for NumPy of its own"),
        (f.Image(shape=(None, 4, 4, 3)), r"images of the shape \[None, 4, 4, 3\], which are GIFs"),
    ],
)
def test_a_feature_that_only_tensorflow_decodes_is_refused_when_the_decoder_is_made(feature: Any, reason: str) -> None:
    wanted = rf"field 'a\.it' is decoded by TensorFlow only: {reason}; leave it out \(.*\), or `pip install datarax-tfds\[tens"
    with pytest.raises(NeedsTensorFlow, match=wanted) as caught:
        decoder_of(feature)
    assert caught.value.field == "a.it"
    assert FeatureDecoder(f.FeaturesDict({"a": feature, "b": np.int32}), ["b"]).spec.keys() == {"b"}
