"""Decoding of records to batches, equal to TFDS's own for every type of feature."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
import tfds_data
import tfds_zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tfds_records import example, row_of, same, stored

from datarax_core.records.spec import describe, named_fields
from datarax_tfds.features import FeatureDecoder

f = tfds.features
ANIMALS = tfds_zoo.animals()
DATA_SETS = ("digits", "digits_png", "captions", "nested", "pairs")


def built(data_dirs: Path, name: str) -> Any:
    return tfds.builder_from_directory(str(data_dirs / "array_record" / name / "1.0.0"))


def decoder_of(features: Any) -> FeatureDecoder:
    return FeatureDecoder(features, list(features))


# -- as TFDS does -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATA_SETS)
def test_records_equal_those_of_a_tfds_data_source(data_dirs: Path, name: str) -> None:
    builder = built(data_dirs, name)
    batch = decoder_of(builder.info.features).decode(stored(data_dirs / "array_record", name))
    elements = builder.as_data_source("train")
    assert all(same(row_of(batch, row), element) for row, element in enumerate(elements))
    assert len(elements) in (tfds_data.SPLITS["train"], tfds_data.NUM_SMALL)


@pytest.mark.parametrize("name", ANIMALS)
def test_features_are_decoded_as_tensorflow_decodes_them(zoo: dict[str, Any], name: str) -> None:
    cage = zoo[name]
    if name in tfds_zoo.DECODED_THERE:
        column = cage["ours"]
    else:
        column = decoder_of(tfds_zoo.features_of(ANIMALS[name])).decode(cage["records"])["it"]
    for row, (by_tensorflow, by_numpy) in enumerate(zip(cage["tensorflow"], cage["numpy"], strict=True)):
        # It does not decode uint32 from bytes, which TFDS writes.
        expected = by_numpy if isinstance(by_tensorflow, type) else by_tensorflow
        assert same(row_of(column, row), expected)


@pytest.mark.parametrize("name", sorted(ANIMALS.keys() - set(tfds_zoo.DECODED_THERE)))
def test_batches_fit_the_element_spec(zoo: dict[str, Any], name: str) -> None:
    decoder = decoder_of(tfds_zoo.features_of(ANIMALS[name]))
    batch, count = decoder.decode(zoo[name]["records"]), len(zoo[name]["records"])
    specs, columns = named_fields(decoder.spec), named_fields(batch)
    assert {field: (s.dtype, (count, *s.shape)) for field, s in specs.items()} == {
        field: (column.dtype, column.shape) for field, column in columns.items()
    }
    info = ANIMALS[name].feature().get_tensor_info()
    if not isinstance(info, dict) and None not in info.shape:
        assert specs["it"] == jax.ShapeDtypeStruct(info.shape, info.np_dtype)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[Any, list[np.ndarray]]:
    dtype = draw(st.sampled_from(tfds_zoo.FIXED_DTYPES))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    encoding = draw(st.sampled_from(["none", "bytes", "zlib"]))
    values = draw(st.lists(hnp.arrays(dtype, shape), min_size=1, max_size=4))
    if encoding == "none" and np.dtype(dtype) == np.float64:  # TFDS stores float64 as float32
        with np.errstate(all="ignore"):
            values = [value.astype(np.float32).astype(np.float64) for value in values]
    return f.Tensor(shape=shape, dtype=dtype, encoding=encoding), values


@settings(deadline=None, max_examples=150)
@given(tensors())
def test_tensors_of_any_dtype_and_shape_are_decoded_to_the_bit(drawn: tuple[Any, list[np.ndarray]]) -> None:
    tensor, values = drawn
    features = f.FeaturesDict({"it": tensor})
    records = [features.serialize_example({"it": value}) for value in values]
    column = decoder_of(features).decode(records)["it"]
    assert same(column, np.stack(values))
    assert column.dtype == values[0].dtype


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40), min_size=1, max_size=30))
def test_integers_of_any_count_and_size_are_decoded_exactly(rows: list[list[int]]) -> None:
    features = f.FeaturesDict({"it": f.Sequence(np.int64)})
    column = decoder_of(features).decode([example(it=row) for row in rows])["it"]
    assert same(column, rows)


def test_a_batch_of_many_long_rows_equals_its_rows(subtests_rng: np.random.Generator) -> None:
    images = subtests_rng.integers(0, 256, (40, 32, 32, 3), np.uint8)
    images[::3] //= 2  # values below 128 take one byte
    features = f.FeaturesDict({"it": f.Tensor(shape=(32, 32, 3), dtype=np.uint8)})
    records = [features.serialize_example({"it": image}) for image in images]
    assert np.array_equal(decoder_of(features).decode(records)["it"], images)


@pytest.fixture
def subtests_rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_numbers_that_are_not_packed_are_read_too() -> None:
    numbers = b"\x1a\x05\x08\x05\x08\xac\x02"  # the field value twice, as proto2 writes it: 5 and 300
    entry = b"\x0a\x02it\x12" + bytes([len(numbers)]) + numbers
    features = b"\x0a" + bytes([len(entry)]) + entry
    record = b"\x0a" + bytes([len(features)]) + features
    declared = f.FeaturesDict({"it": f.Tensor(shape=(2,), dtype=np.int32)})
    assert same(decoder_of(declared).decode([record])["it"], [[5, 300]])
    assert same(declared.deserialize_example_np(record)["it"], [5, 300])


def test_numbers_in_pieces_are_read_too() -> None:
    pieces = b"\x1a\x06\x0a\x01\x05\x0a\x02\xac\x02"[:2] + b"\x0a\x01\x05\x0a\x02\xac\x02"
    pieces = b"\x1a" + bytes([len(pieces) - 2]) + pieces[2:]
    entry = b"\x0a\x02it\x12" + bytes([len(pieces)]) + pieces
    features = b"\x0a" + bytes([len(entry)]) + entry
    record = b"\x0a" + bytes([len(features)]) + features
    declared = f.FeaturesDict({"it": f.Tensor(shape=(2,), dtype=np.int32)})
    assert same(decoder_of(declared).decode([record])["it"], [[5, 300]])


# -- the decoder ------------------------------------------------------------------------------------------------------------


def test_the_spec_comes_from_the_declarations(data_dirs: Path) -> None:
    decoder = decoder_of(built(data_dirs, "captions").info.features)
    assert describe(decoder.spec) == {
        "boxes.tag": "object[None]",
        "boxes.x": "float32[None]",
        "id": "int64[]",
        "image": "uint8[None, None, 3]",
        "numbers": "int32[None]",
        "text": "object[]",
        "words": "object[None]",
    }
    assert decoder.text == {"boxes.tag": "bytes[any]", "text": "bytes[]", "words": "bytes[any]"}
    assert decoder.varying == {
        "boxes.tag": "bytes[any]",
        "boxes.x": "float32[any]",
        "image": "uint8[any, any, 3]",
        "numbers": "int32[any]",
        "words": "bytes[any]",
    }


def test_a_dot_in_a_name_is_part_of_the_name() -> None:
    """Data sets of robots have names such as observation.state."""
    features = tfds.features.FeaturesDict(
        {
            "observation.state": tfds.features.Tensor(shape=(2,), dtype=np.int64),
            "observation": {"state": np.int64, "a.b": np.int64},
        }
    )
    decoder = decoder_of(features)
    record = example(**{"observation.state": [1, 2], "observation__state": [3], "observation__a.b": [4]})
    batch = decoder.decode([record])
    assert same(
        batch, {"observation.state": np.array([[1, 2]]), "observation": {"state": np.array([3]), "a.b": np.array([4])}}
    )
    assert jax.tree.structure(decoder.spec) == jax.tree.structure(batch)
    assert decoder_of_old_pickle(decoder).decode([record]).keys() == batch.keys()


def decoder_of_old_pickle(decoder: FeatureDecoder) -> FeatureDecoder:
    """Return a decoder as unpickled from version 0.1.0, whose fields had one name with dots."""
    old = copy.deepcopy(decoder)
    (plain,) = (field for field in old._fields if field.key == "observation/state")
    plain.__setstate__({**{k: v for k, v in vars(plain).items() if k != "path"}, "name": "observation.state"})
    assert plain.path == ("observation", "state")
    return old


def test_only_the_features_that_are_kept_are_decoded(data_dirs: Path) -> None:
    features = built(data_dirs, "nested").info.features
    batch = FeatureDecoder(features, ["window", "about"]).decode(stored(data_dirs / "array_record", "nested")[:2])
    assert batch.keys() == {"window", "about"}


def test_records_are_decoded_into_given_arrays(data_dirs: Path) -> None:
    decoder, records = (
        decoder_of(built(data_dirs, "nested").info.features),
        stored(data_dirs / "array_record", "nested"),
    )
    whole = decoder.decode(records)
    out = jax.tree.map(np.zeros_like, whole)
    decoder.decode_into(records[10:20], out, 10)
    assert all(same(column[10:20], out_column[10:20]) for column, out_column in _pairs(whole, out))
    assert not any(column[:10].any() or column[20:].any() for column in jax.tree.leaves(out))


def _pairs(first: Any, second: Any) -> Iterator[tuple[Any, Any]]:
    return zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)


def test_no_records_decode_to_an_empty_batch(data_dirs: Path) -> None:
    decoder = decoder_of(built(data_dirs, "captions").info.features)
    columns, specs = (named_fields(tree) for tree in (decoder.decode([]), decoder.spec))
    assert {name: column.shape for name, column in columns.items()} == {n: (0, *s.shape) for n, s in specs.items()}


def test_memoryviews_of_records_are_decoded(data_dirs: Path) -> None:
    decoder, records = (
        decoder_of(built(data_dirs, "captions").info.features),
        stored(data_dirs / "array_record", "captions"),
    )
    batch = decoder.decode([memoryview(record) for record in records])
    assert same(batch, decoder.decode(records))


def test_a_device_can_use_a_batch_without_a_copy(data_dirs: Path) -> None:
    decoder = decoder_of(built(data_dirs, "digits").info.features)
    image = decoder.decode(stored(data_dirs / "array_record", "digits")[:3])["image"]
    assert image.ctypes.data % 64 == 0
    assert image.flags.c_contiguous


def test_a_pickled_decoder_decodes_alike(data_dirs: Path) -> None:
    decoder, records = (
        decoder_of(built(data_dirs, "captions").info.features),
        stored(data_dirs / "array_record", "captions"),
    )
    assert same(pickle.loads(pickle.dumps(decoder)).decode(records), decoder.decode(records))  # noqa: S301
    assert same(copy.deepcopy(decoder).decode(records), decoder.decode(records))


def test_threads_share_a_decoder(data_dirs: Path) -> None:
    decoder, records = (
        decoder_of(built(data_dirs, "captions").info.features),
        stored(data_dirs / "array_record", "captions"),
    )
    alone = decoder.decode(records)
    with ThreadPoolExecutor(4) as pool:
        assert all(same(batch, alone) for batch in pool.map(decoder.decode, [records] * 16))


def test_neither_import_nor_decoding_loads_tensorflow(data_dirs: Path) -> None:
    record = stored(data_dirs / "array_record", "captions")[0]
    code = f"""
import sys, datarax_tfds, datarax_tfds.features
assert not {{"tensorflow", "tensorflow_datasets"}} & sys.modules.keys()
import tensorflow_datasets as tfds
features = tfds.builder_from_directory({str(data_dirs / "array_record" / "captions" / "1.0.0")!r}).info.features
datarax_tfds.features.FeatureDecoder(features, list(features)).decode([{record!r}])
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
