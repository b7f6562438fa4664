"""Places of features in many records, found together: what protobuf finds one by one, for any order, length and damage."""

import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2
from tfds_records import example

from datarax_tfds.features import FeatureDecoder, UndecodableRecord, layouts
from datarax_tfds.features.layouts import RecordsOfOneLayout
from datarax_tfds.features.stored import BYTES, FLOATS, INTEGERS

TYPES = {BYTES: "bytes_list", FLOATS: "float_list", INTEGERS: "int64_list"}


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "_LEAST_RECORDS", 1)


def mixed(lengths: list[int]) -> list[bytes]:
    rng = np.random.default_rng(0)
    return [
        example(image=[rng.bytes(length)], label=[number * 7 % 300], sizes=[1.5] * (length % 50 + 1))
        for number, length in enumerate(lengths)
    ]


@pytest.mark.parametrize(
    "lengths", [[2000] * 40, [0, 1, 5], [100, 119, 120, 126, 127, 128, 129, 130], [10, 200, 16380, 16384, 60000], [7]]
)
def test_values_are_those_that_protobuf_finds(lengths: list[int]) -> None:
    records = mixed(lengths)
    found = RecordsOfOneLayout.found_in(records)
    assert found is not None
    parsed = [tf_example_pb2.Example.FromString(record).features.feature for record in records]
    images = found.values("image", BYTES)
    assert images is not None
    assert list(images) == [features["image"].bytes_list.value[0] for features in parsed]
    assert images.size == sum(lengths)
    assert [images[row] for row in range(len(images))] == list(images)
    assert list(images[1:3]) == list(images)[1:3]
    sizes = found.values("sizes", FLOATS)
    assert sizes is not None
    assert [np.frombuffer(value, "<f4").tolist() for value in sizes] == [
        list(features["sizes"].float_list.value) for features in parsed
    ]
    assert found.values("image", INTEGERS) is None
    assert found.values("other", BYTES) is None


@pytest.mark.parametrize(
    "odd",
    [
        example(label=[1], sizes=[1.5]),
        example(image=[b"x"], labels=[1], sizes=[1.5]),
        example(image=[b"x"], label=[1], sizes=[1.5], zebra=[1]),
        example(image=[1], label=[1], sizes=[1.5]),
        example(image=[b"x", b"y"], label=[1], sizes=[1.5]),
        example(image=[], label=[1], sizes=[1.5]),
        b"",
        b"no example",
        bytes(100_000),
    ],
    ids=["fewer", "another key", "more", "another type", "two values", "none", "empty", "damaged", "large"],
)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_records_of_several_layouts_are_left_to_protobuf(odd: bytes, place: int) -> None:
    records = mixed([20, 30, 200, 40])
    assert RecordsOfOneLayout.found_in(records) is not None
    assert RecordsOfOneLayout.found_in([*records[:place], odd, *records[place:]]) is None


def test_features_twice_and_lengths_over_ends_are_left_to_protobuf() -> None:
    whole = example(it=[b"abc"])
    assert RecordsOfOneLayout.found_in([whole] * 3) is not None
    twice = bytes([0x0A, 2 * (len(whole) - 2)]) + whole[2:] * 2
    assert tf_example_pb2.Example.FromString(twice)
    assert RecordsOfOneLayout.found_in([twice] * 3) is None
    assert RecordsOfOneLayout.found_in([whole + whole] * 3) is None
    no_text = example(it=[b"abc"]).replace(b"it", b"\xff\xfe")
    assert RecordsOfOneLayout.found_in([no_text] * 3) is None


def test_mutants_decode_to_what_protobuf_makes_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    f, rng = tfds.features, np.random.default_rng(0)
    features = f.FeaturesDict({"it": f.Text(), "label": np.int64, "sizes": f.Tensor(shape=(2,), dtype=np.float32)})
    decode = FeatureDecoder(features, ["it", "label", "sizes"]).decode
    good = example(it=[b"some text"], label=[300], sizes=[1.5, 2.5])

    def outcome(records: list[bytes]) -> Any:
        try:
            return {name: column.tolist() for name, column in decode(records).items()}
        except UndecodableRecord as error:
            return str(error)

    mutants = [
        good[:at] + bytes([value]) + good[at + 1 :] for at in range(len(good)) for value in rng.integers(0, 256, 3)
    ]
    mutants += [good[:at] for at in range(len(good))]
    batches = [[mutant, good, good] for mutant in mutants] + [[good, mutant] for mutant in mutants]
    together = [outcome(batch) for batch in batches]
    monkeypatch.setattr(layouts, "_LEAST_RECORDS", 100)
    alone = [outcome(batch) for batch in batches]
    assert [batch for batch, one, other in zip(batches, together, alone, strict=True) if repr(one) != repr(other)] == []
    assert 100 < sum(isinstance(found, str) for found in alone) < len(batches)


def test_every_order_of_features_is_a_layout() -> None:
    whole = {name: example(**{name: [value]})[2:] for name, value in (("a", b"x" * 300), ("b", 5), ("c", 0.5))}
    for order in itertools.permutations(whole):
        body = b"".join(whole[name][1:] if len(whole[name]) > 200 else whole[name] for name in order)
        length = len(body)
        record = bytes([0x0A, length & 0x7F | 0x80, length >> 7]) + body
        found = RecordsOfOneLayout.found_in([record] * 4)
        assert found is not None
        values = found.values("a", BYTES)
        assert values is not None
        assert list(values) == [b"x" * 300] * 4
