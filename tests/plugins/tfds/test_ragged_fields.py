"""Fields of varying shape: ragged columns from every backend, the same in each; objects where asked, and where lengths nest."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
import tfds_zoo
from flax import nnx
from tfds_data import FORMATS, NUM_SMALL, caption
from tfds_records import example, row_of, same

from datarax_core import Pipeline, Ragged
from datarax_core.records import describe, named_fields
from datarax_tfds import (
    TFDSEagerConfig,
    TFDSEagerSource,
    TFDSStreamingConfig,
    TFDSStreamingSource,
    from_tfds,
)
from datarax_tfds.features import FeatureDecoder, UndecodableRecord
from datarax_tfds.tf_data.decoding import GraphDecoder

f = tfds.features
ANIMALS = {name: animal for name, animal in tfds_zoo.animals().items() if name not in tfds_zoo.DECODED_THERE}

RAGGED = {
    "any length": "int16[None, 2]",
    "any width": "float64[2, None]",
    "any length in bytes": "int32[None, 2]",
    "any size": "int32[None, None, 2]",
    "sequence": "int32[None]",
    "sequence of tensors": "uint8[None, 2]",
    "sequence of tensors in bytes": "int16[None, 2]",
    "sequence of images": "uint8[None, 3, 4, 1]",
    "image of any size": "uint8[None, None, 3]",
    "float image of any size": "float32[None, None, 1]",
}
"""Animals whose records are one array of varying shape."""

NESTED = ("sequence of images of one size", "ragged", "ragged thrice", "ragged texts", "ragged images")
"""Animals whose records may have arrays of several shapes within them."""


def decoder_of(name: str, **options: Any) -> FeatureDecoder:
    return FeatureDecoder(tfds_zoo.features_of(ANIMALS[name]), ["it"], **options)


# -- the decoder ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RAGGED)
def test_arrays_of_varying_shape_are_ragged_columns(zoo: dict[str, Any], name: str) -> None:
    decoder, records = decoder_of(name), zoo[name]["records"]
    assert describe(decoder.spec) == {"it": RAGGED[name]}
    column = decoder.decode(records * 2)["it"]
    objects = decoder_of(name, as_objects=True).decode(records * 2)["it"]
    assert isinstance(column, Ragged)
    assert objects.dtype == object
    for row, wanted in zip(column, objects, strict=True):
        assert row.shape == wanted.shape
        assert row.dtype == wanted.dtype
        assert same(row, wanted)
    empty = decoder.decode([])["it"]
    assert empty.shape == (0, *column.shape[1:])
    assert empty.dtype == column.dtype


@pytest.mark.parametrize("name", NESTED)
def test_what_varies_within_a_record_is_objects(zoo: dict[str, Any], name: str) -> None:
    decoder = decoder_of(name)
    assert decoder.spec == {"it": jax.ShapeDtypeStruct((), object)}
    assert list(decoder.varying_objects) == ["it"]
    batch = decoder.decode(zoo[name]["records"])["it"]
    assert repr(batch) == repr(decoder_of(name, as_objects=True).decode(zoo[name]["records"])["it"])


def test_sequences_of_dicts_are_dicts_of_ragged_columns() -> None:
    features = f.FeaturesDict({"it": f.Sequence({"x": f.Sequence(np.int32, length=2), "y": f.Text()})})
    decoder = FeatureDecoder(features, ["it"])
    assert describe(decoder.spec) == {"it.x": "int32[None, 2]", "it.y": "object[None]"}
    records = [
        features.serialize_example({"it": [{"x": [k, n], "y": f"{n}.{k}"} for k in range(n)]}) for n in (2, 0, 3)
    ]
    batch = decoder.decode(records)["it"]
    assert [row.tolist() for row in batch["x"]] == [[[0, 2], [1, 2]], [], [[0, 3], [1, 3], [2, 3]]]
    assert [row.tolist() for row in batch["y"]] == [[b"2.0", b"2.1"], [], [b"3.0", b"3.1", b"3.2"]]


def test_a_bad_row_of_a_ragged_column_is_named() -> None:
    def refused(feature: Any, records: list[bytes], message: str) -> None:
        decoder = FeatureDecoder(f.FeaturesDict({"it": feature}), ["it"])
        with pytest.raises(UndecodableRecord, match=message):
            decoder.decode(records)

    good = example(it=[1, 2])
    refused(f.Sequence(np.int32), [good, example(it=[2.5])], "record 1 of the batch: field 'it' has floats where int32")
    refused(
        f.Tensor(shape=(None, 2), dtype=np.int64), [good, good, example(it=[1])], "record 2 of .* has 1 value where"
    )
    refused(f.Sequence(np.int8), [good, example(it=[300])], "record 1 of the batch: field 'it' has the value 300 where")
    png = pickle.loads(pickle.dumps(tfds_zoo.pictures()["png"]))  # noqa: S301
    refused(f.Image(), [example(it=[png]), example(it=[png[:-30]])], "record 1 of the batch: field 'it' has an image")
    refused(f.Sequence(f.Image(shape=(4, 7, 3))), [example(it=[png])], "record 0 of .* an image of 5 x 7 pixels")


def test_many_numbers_are_joined_over_the_chunks_that_are_unpacked() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(-(2**40), 2**40, size=n) for n in (40_000, 0, 3, 70_000, 1)]
    decoder = FeatureDecoder(f.FeaturesDict({"it": f.Sequence(np.int64)}), ["it"])
    column = decoder.decode([example(it=row.tolist()) for row in rows])["it"]
    assert column.lengths.tolist() == [40_000, 0, 3, 70_000, 1]
    assert all(np.array_equal(row, wanted) for row, wanted in zip(column, rows, strict=True))


# -- tf.data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_objects", [False, True])
def test_both_backends_declare_the_same(*, as_objects: bool) -> None:
    for name, animal in ANIMALS.items():
        features = tfds_zoo.features_of(animal)
        by_index = FeatureDecoder(features, ["it", "also"], as_objects=as_objects)
        assert GraphDecoder(features, "zoo", as_objects=as_objects).spec == by_index.spec, name


@pytest.mark.parametrize("name", [*RAGGED, "ragged tensors", "sequence of dicts"])
def test_a_graph_makes_the_same_ragged_columns(zoo: dict[str, Any], name: str) -> None:
    import tensorflow as tf  # noqa: PLC0415 - takes seconds; only here

    features, records = tfds_zoo.features_of(ANIMALS[name]), zoo[name]["records"]
    for as_objects in (False, True):
        decoder = GraphDecoder(features, "zoo", as_objects=as_objects)
        batches = tf.data.Dataset.from_tensor_slices(records * 2).map(decoder.in_graph)
        (batch,) = batches.ragged_batch(len(records) * 2)
        ours = named_fields(decoder.arrays(batch))
        wanted = named_fields(FeatureDecoder(features, ["it", "also"], as_objects=as_objects).decode(records * 2))
        assert ours.keys() == wanted.keys()
        for field, column in ours.items():
            assert type(column) is type(wanted[field])
            assert column.shape == wanted[field].shape
            assert column.dtype == wanted[field].dtype
            assert same(list(column), list(wanted[field]))


# -- sources -------------------------------------------------------------------------------------------------------------

Make = Callable[..., Any]

KINDS = {
    "array_record": {"streaming": True, "data_dir": "array_record"},
    "tfrecord": {"streaming": True, "data_dir": "tfrecord"},
    "tf.data": {"streaming": True, "data_dir": "tfrecord", "backend": "tf.data"},
    "eager": {"streaming": False, "data_dir": "array_record"},
    "eager by tf.data": {"streaming": False, "data_dir": "tfrecord", "backend": "tf.data"},
}


@pytest.fixture(params=KINDS)
def make(data_dirs: Path, request: pytest.FixtureRequest) -> Make:
    """Function that makes a source over captions in each way."""
    kind = KINDS[request.param]

    def made(*, rngs: nnx.Rngs | None = None, **options: Any) -> Any:
        given = {key: value for key, value in kind.items() if key != "streaming"}
        given = {
            "name": "captions",
            "split": "train",
            **given,
            "data_dir": data_dirs / str(kind["data_dir"]),
            **options,
        }
        if kind["streaming"]:
            return TFDSStreamingSource(TFDSStreamingConfig(**given), rngs=rngs)
        return TFDSEagerSource(TFDSEagerConfig(**given), rngs=rngs)

    return made


def encoded(value: Any) -> Any:
    """Return a record as it was written in the form in which it is served."""
    if isinstance(value, dict):
        return {name: encoded(inner) for name, inner in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {name: encoded([item[name] for item in value]) for name in value[0]}
    if isinstance(value, list):
        return [item.encode() if isinstance(item, str) else item for item in value]
    return value.encode() if isinstance(value, str) else value


SPEC = {
    "boxes.tag": "object[None]",
    "boxes.x": "float32[None]",
    "id": "int64[]",
    "image": "uint8[None, None, 3]",
    "numbers": "int32[None]",
    "text": "object[]",
    "words": "object[None]",
}


def test_every_source_serves_ragged_columns(make: Make) -> None:
    source = make()
    assert describe(source.element_spec()) == SPEC
    seen = 0
    for batch in Pipeline(source=source, batch_size=25, num_epochs=1):
        assert isinstance(batch["image"], Ragged)
        batch = {**batch, "id": np.asarray(batch["id"])}  # noqa: PLW2901 - as a number of NumPy
        for row in range(len(batch["text"])):
            wanted = encoded(caption(seen))
            if not seen % 3:
                wanted["boxes"] = {"x": [], "tag": []}
            assert same(row_of(batch, row), wanted)
            seen += 1
    assert seen == NUM_SMALL


def test_as_objects_serves_objects(make: Make, request: pytest.FixtureRequest) -> None:
    if "eager" in request.node.name:
        message = (
            r"whose values are objects of varying shape: 'boxes\.tag' .*; leave as_objects out, or stream them with "
            "TFDSStreamingSource"
        )
        with pytest.raises(ValueError, match=message):
            make(as_objects=True)
        with pytest.raises(ValueError, match=message):
            make().as_objects()
        return
    source = make(as_objects=True)
    assert set(describe(source.element_spec()).values()) == {"object[]", "int64[]"}
    again = make().as_objects()
    assert again.config.as_objects
    for served in (source.get_batch(7), again.get_batch(7)):
        assert served["image"].dtype == served["words"].dtype == object
        assert [numbers.tolist() for numbers in served["numbers"]] == [caption(k)["numbers"] for k in range(7)]


def test_shuffled_epochs_and_states_hold_for_ragged_columns(make: Make) -> None:
    def pipeline() -> Pipeline:
        return Pipeline(source=make(shuffle=True, rngs=nnx.Rngs(3)), batch_size=16, num_epochs=2, rngs=nnx.Rngs(0))

    whole = list(pipeline())
    for batch in whole:
        for row, number in enumerate(np.asarray(batch["id"]).tolist()):
            assert batch["numbers"][row].tolist() == caption(number)["numbers"]
            assert np.array_equal(batch["image"][row], caption(number)["image"])
    first, second = pipeline(), pipeline()
    loop = iter(first)
    for _ in range(5):
        next(loop)
    second.set_state(first.get_state())
    for batch, wanted in zip(second, whole[5:], strict=True):
        assert jax.tree.all(jax.tree.map(_equal, batch, wanted))


def test_a_state_that_was_saved_of_objects_goes_on_with_ragged_columns(data_dirs: Path) -> None:
    def pipeline(*, as_objects: bool) -> Pipeline:
        source = from_tfds("captions", "train", data_dir=data_dirs / "tfrecord", as_objects=as_objects, shuffle=True)
        return Pipeline(source=source, batch_size=16, rngs=nnx.Rngs(0))

    for saves in (True, False):
        first, second = pipeline(as_objects=saves), pipeline(as_objects=not saves)
        loop = iter(first)
        next(loop)
        second.set_state(first.get_state())
        for batch, again in zip(loop, second, strict=True):
            assert np.array_equal(batch["id"], again["id"])
            assert same([row for row in batch["numbers"]], [row for row in again["numbers"]])  # noqa: C416 - of either form


def _equal(one: Any, other: Any) -> bool:
    return one == other if isinstance(one, Ragged) else bool(np.array_equal(one, other))


def test_ragged_columns_are_padded_by_a_stage_in_a_config(data_dirs: Path) -> None:
    pipeline = Pipeline.from_config(
        {
            "batch_size": 20,
            "source": {
                "type": "tfds",
                "name": "captions",
                "split": "train",
                "data_dir": str(data_dirs / "tfrecord"),
                "include_keys": ["id", "numbers"],
            },
            "stages": [{"type": "pad", "field": "numbers", "length": 4, "value": -1}],
        }
    )
    for batch in pipeline:
        assert isinstance(batch["numbers"], jax.Array)
        for row, number in zip(np.asarray(batch["numbers"]).tolist(), np.asarray(batch["id"]).tolist(), strict=True):
            wanted = caption(number)["numbers"]
            assert row == wanted + [-1] * (4 - len(wanted))


def test_kept_records_and_copies_have_ragged_columns(data_dirs: Path) -> None:
    source = from_tfds("captions", "train", data_dir=data_dirs / "array_record", cacheable=True)
    assert isinstance(source, TFDSStreamingSource)
    once = [source.get_batch(20) for _ in range(6)]
    for batch, again in zip(once[:3], once[3:], strict=True):
        assert jax.tree.all(jax.tree.map(_equal, batch, again))
    for twin in (source.copy(), pickle.loads(pickle.dumps(source))):  # noqa: S301
        assert jax.tree.all(jax.tree.map(_equal, twin.get_records(np.arange(20)), once[0]))
    assert source.get_records(np.empty(0, np.int64))["image"].shape == (0, None, None, 3)
    workers = Pipeline(
        source=from_tfds("captions", "train", data_dir=data_dirs / "array_record"), batch_size=20, workers=1
    )
    for batch, wanted in zip(workers, once, strict=False):
        assert jax.tree.all(jax.tree.map(_equal, batch, wanted))


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_choice_of_a_source_stays(data_dirs: Path, file_format: str) -> None:
    for options in ({}, {"as_objects": True}):
        source = from_tfds("captions", "train", data_dir=data_dirs / file_format, **options)
        assert isinstance(source, TFDSStreamingSource)
        assert (describe(source.element_spec())["image"] == "object[]") == bool(options)
