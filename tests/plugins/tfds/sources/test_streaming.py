"""The streaming source over files with random access: TFDS's own records, in core's order, by every route."""

import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tfds_data import FORMATS, NUM_SMALL, SPLITS, caption, digit_images, digit_labels, nested, pair

from datarax_core import Pipeline, StateError
from datarax_core.pipeline.build import build_source
from datarax_core.records.spec import spec_of
from datarax_tfds import TFDSStreamingConfig, TFDSStreamingSource

Make = Callable[..., Any]


@pytest.fixture(params=FORMATS)
def make(data_dirs: Path, request: pytest.FixtureRequest) -> Make:
    """Function that makes a source over a data set of each format."""

    def made(name: str = "digits_png", split: str = "train", *, rngs: nnx.Rngs | None = None, **options: Any) -> Any:
        given = {"data_dir": data_dirs / str(request.param), **options}
        return TFDSStreamingSource(TFDSStreamingConfig(name=name, split=split, **given), rngs=rngs)

    return made


@pytest.fixture(scope="module")
def digits(data_dirs: Path) -> TFDSStreamingSource:
    """A shuffled source over digits; tests may change nothing but its position."""
    config = TFDSStreamingConfig(name="digits_png", split="train", data_dir=data_dirs / "tfrecord", shuffle=True)
    return TFDSStreamingSource(config, rngs=nnx.Rngs(0))


def same(ours: Any, theirs: Any) -> bool:
    """Return whether two values are equal; TFDS returns some as Python's numbers and bytes."""
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[name], theirs[name]) for name in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    wanted = np.asarray(theirs)
    return np.shape(ours) == wanted.shape and (np.asarray(ours) == wanted).all().item()


def equal(first: Any, second: Any) -> bool:
    return bool(jax.tree.all(jax.tree.map(np.array_equal, first, second)))


# -- records ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "digits_png", "captions", "nested", "pairs"])
def test_records_are_those_that_tfds_reads(make: Make, data_dirs: Path, name: str) -> None:
    source = make(name)
    theirs = tfds.builder_from_directory(data_dirs / "array_record" / name / "1.0.0").as_data_source("train")
    assert len(source) == source.length == len(theirs)
    for number in (0, 1, 29, len(theirs) - 1):
        assert same(source[number], theirs[number])


def test_records_are_those_that_were_written(make: Make) -> None:
    digits = make("digits", "test").get_records(np.arange(SPLITS["test"]))
    assert np.array_equal(digits["image"], digit_images()[SPLITS["train"] :])
    assert np.array_equal(digits["label"], digit_labels()[SPLITS["train"] :])
    for name, record in (("nested", nested), ("pairs", pair)):
        assert same(make(name)[7], jax.tree.map(lambda v: v.encode() if isinstance(v, str) else v, record(7)))
    captions = make("captions")
    assert captions[9]["text"].decode() == caption(9)["text"]
    assert captions[9]["numbers"].tolist() == caption(9)["numbers"]
    assert captions[9]["image"].shape == (4, 5, 3)


@pytest.mark.parametrize("split", ["train[:200]", "train[10%:]", "test+train[-7:]", "train[501:502]"])
def test_a_part_of_a_split_is_as_long_as_it_is(make: Make, data_dirs: Path, split: str) -> None:
    source = make(split=split)
    theirs = tfds.builder_from_directory(data_dirs / "array_record/digits_png/1.0.0").as_data_source(split)
    assert len(source) == source.length == len(theirs) == source.get_dataset_info()["num_records"]
    assert source.get_records(np.arange(len(source)))["label"].tolist() == [record["label"] for record in theirs]


def test_fields_are_chosen_by_name(make: Make) -> None:
    assert list(make("nested", include_keys={"id", "window"}).element_spec()) == ["id", "window"]
    assert list(make("nested", exclude_keys={"id", "window"})[0]) == ["about", "observation"]
    source = make("pairs", as_supervised=True)
    assert source.element_spec() == {
        "image": jax.ShapeDtypeStruct((2,), np.float32),
        "label": jax.ShapeDtypeStruct((), np.int64),
    }
    assert same(source[3], {"image": pair(3)["signal"], "label": pair(3)["answer"]})


def test_an_element_spec_is_from_the_declarations(make: Make) -> None:
    source = make("nested")
    spec = source.element_spec()
    assert spec["observation"]["image"] == jax.ShapeDtypeStruct((8, 8, 1), np.uint8)
    assert spec["about"] == {
        "text": jax.ShapeDtypeStruct((), object),
        "weight": jax.ShapeDtypeStruct((), np.float64),
    }
    assert spec_of(source.get_records(np.arange(3))) == spec


def test_the_source_describes_its_data_set(make: Make) -> None:
    source = make(split="train[:90]", include_keys={"label"}, local_files_only=True)
    assert (source.dataset_name, source.split_name, source.as_supervised) == ("digits_png", "train[:90]", False)
    assert (source.include_keys, source.exclude_keys) == ({"label"}, None)
    assert (source.length, source.index, source.epoch, source.is_random_order) == (90, 0, 0, False)
    assert source.access == "host"
    assert source.capabilities.random_access
    assert source.local_files_only
    source.get_batch(100)
    assert (source.index, source.epoch) == (10, 1)
    info = source.get_dataset_info()
    assert info["full_name"] == "digits_png/1.0.0"
    assert info["element_spec"] == source.element_spec()
    assert source.title == "TFDSStreamingSource"
    assert source.get_operation_stats() == {"applied_count": 1, "skipped_count": 0}


# -- order --------------------------------------------------------------------------------------------------------------


def test_every_method_serves_the_same_order(make: Make) -> None:
    def source() -> Any:
        return make(split="train[:230]", shuffle=True, rngs=nnx.Rngs(3))

    epoch = np.concatenate([source().get_batch_at(0, 230, source().order_key_data())["image"]])
    elements = np.stack([element["image"] for element in source()])
    batches = [batch["image"] for batch in Pipeline(source=source(), batch_size=64)]
    one = source()
    own = [one.get_batch(64)["image"] for _ in range(3)]
    assert np.array_equal(elements, epoch)
    assert np.array_equal(np.concatenate(batches), epoch)
    assert np.array_equal(np.concatenate(own), epoch[:192])
    step = Pipeline(source=source(), batch_size=64, num_epochs=None)
    assert np.array_equal(step.step()["image"], epoch[:64])
    scanned = Pipeline(source=source(), batch_size=64, num_epochs=None).scan(lambda batch: batch["image"], length=3)
    assert np.array_equal(np.concatenate(scanned), epoch[:192])


def test_the_seed_of_the_config_selects_the_order(make: Make) -> None:
    def labels(**options: Any) -> list[int]:
        batch = make(split="train[:64]", shuffle=True, **options).get_batch(64)
        found: list[int] = batch["label"].tolist()
        return found

    assert labels() == labels(rngs=nnx.Rngs(42)) == labels(seed=42)
    orders = [labels(), labels(seed=1), labels(seed=2), labels(rngs=nnx.Rngs(1)), labels(rngs=nnx.Rngs(2), seed=1)]
    assert len({tuple(order) for order in orders}) == len(orders)
    assert sorted(orders[1]) == sorted(orders[0])


def test_epochs_are_shuffled_differently_and_serve_each_record_once(digits: TFDSStreamingSource) -> None:
    digits.reset()
    first, second = ([element["label"] for element in digits] for _ in range(2))
    assert sorted(first) == sorted(second) == sorted(digit_labels()[: SPLITS["train"]])
    assert first != second


@pytest.mark.parametrize("prefetch_buffer", [0, 1, 5])
def test_reading_ahead_does_not_change_the_records(make: Make, prefetch_buffer: int) -> None:
    plain, ahead = (make(shuffle=True, prefetch_buffer=depth) for depth in (0, prefetch_buffer))
    for size in (40, 40, 40, 7, 40, 40):
        assert equal(plain.get_batch(size), ahead.get_batch(size))
    for each in (plain, ahead):
        each.set_random_order(False)
    assert equal(plain.get_batch(40), ahead.get_batch(40))
    state = plain.get_state()
    for _ in range(3):
        assert equal(plain.get_batch(40), ahead.get_batch(40))
    for each in (plain, ahead):
        each.set_state(state)
        each.set_random_order(True)
    for _ in range(3):
        assert equal(plain.get_batch(40), ahead.get_batch(40))
    ahead.close()


def test_the_config_sets_the_number_of_batches_that_are_read_ahead(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for depth in (0, 1, 3):
        source = make(shuffle=True, prefetch_buffer=depth)
        read: list[int] = []
        batch_of = source.records.batch_of

        def noted(indices: np.ndarray, by: Any, batch_of: Any = batch_of, read: list[int] = read) -> Any:
            read.append(len(indices))
            return batch_of(indices, by)

        monkeypatch.setattr(source.records, "batch_of", noted)
        for _ in range(4):
            source.get_batch(30)
        _until(lambda read=read, depth=depth: len(read) >= 4 + depth)
        assert read == [30] * (4 + depth)
        source.close()


def test_a_loop_that_is_left_leaves_no_thread(make: Make) -> None:
    before = set(threading.enumerate())
    source = make(shuffle=True)
    for _ in range(3):
        source.get_batch(30)
    readers = [thread for thread in set(threading.enumerate()) - before if thread.name == "datarax-tfds"]
    assert readers
    del source
    _until(lambda: not any(reader.is_alive() for reader in readers))


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    assert holds()


# -- resuming -----------------------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(before=st.lists(st.integers(1, 700), max_size=4), after=st.lists(st.integers(1, 200), min_size=1, max_size=3))
def test_a_restored_source_continues_at_the_saved_position(
    digits: TFDSStreamingSource, before: list[int], after: list[int]
) -> None:
    digits.reset()
    for size in before:
        digits.get_batch(size)
    state = digits.get_state()
    expected = [digits.get_batch(size) for size in after]
    other = digits.copy()
    other.set_state(state)
    assert equal([other.get_batch(size) for size in after], expected)


def test_a_pipeline_resumes_in_the_middle_of_an_epoch(make: Make) -> None:
    def pipeline() -> Pipeline:
        return Pipeline(source=make(shuffle=True), batch_size=128, num_epochs=2, rngs=nnx.Rngs(0))

    whole = [batch["label"].tolist() for batch in pipeline()]
    stopped = pipeline()
    batches = iter(stopped)
    for _ in range(13):
        next(batches)
    resumed = pipeline()
    resumed.set_state(stopped.get_state())
    assert [batch["label"].tolist() for batch in resumed] == whole[13:]


def test_a_state_of_other_data_is_refused(make: Make) -> None:
    state = make(split="train[:100]").get_state()
    make(split="train[:100]").set_state(state)
    with pytest.raises(StateError, match=r"length|split"):
        make(split="train[:101]").set_state(state)
    with pytest.raises(StateError, match=r"data_set|digits/1\.0\.0"):
        make("digits", "train[:100]").set_state(state)


def test_copies_share_files_and_serve_alike(make: Make) -> None:
    source = make(shuffle=True, rngs=nnx.Rngs(7))
    source.get_batch(10)
    copied, cloned, pickled = source.copy(), source.clone(), pickle.loads(pickle.dumps(source))  # noqa: S301
    assert copied.records is source.records
    assert copied.cursor.position == 0
    expected = source.get_batch(50)
    for twin in (cloned, pickled):
        assert type(twin) is type(source)
        assert equal(twin.get_batch(50), expected)
    copied.get_batch(10)
    assert equal(copied.get_batch(50), expected)
    other = source.copy(config=source.config.model_copy(update={"split": "test"}))
    assert len(other) == SPLITS["test"]


# -- pipelines ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_sharded_over_devices(digits: TFDSStreamingSource) -> None:
    mesh = Mesh(np.asarray(jax.devices()[:1]), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    sharded = Pipeline(source=digits.copy(), batch_size=128, sharding=sharding)
    plain = Pipeline(source=digits.copy(), batch_size=128)
    for ours, theirs in zip(sharded, plain, strict=True):
        assert ours["image"].sharding == sharding
        assert equal(ours, theirs)


def test_shards_are_disjoint_and_complete(make: Make) -> None:
    source = make(shuffle=True)
    parts = source.split(train=0.8, test=0.2)
    served = [np.asarray(batch["image"]) for part in parts.values() for batch in Pipeline(source=part, batch_size=100)]
    images = np.concatenate(served).reshape(SPLITS["train"], -1)
    assert np.array_equal(_sorted(images), _sorted(digit_images()[: SPLITS["train"]].reshape(SPLITS["train"], -1)))


def _sorted(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T)]


def test_text_is_a_host_field(make: Make) -> None:
    source = make("captions", include_keys={"id", "text", "numbers"})
    (batch,) = Pipeline(source=source, batch_size=NUM_SMALL)
    assert isinstance(batch["id"], jax.Array)
    assert batch["text"].dtype == object
    assert [text.decode() for text in batch["text"]] == [caption(k)["text"] for k in range(NUM_SMALL)]
    assert [numbers.tolist() for numbers in batch["numbers"]] == [caption(k)["numbers"] for k in range(NUM_SMALL)]


def test_a_cacheable_source_reads_its_files_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(shuffle=True, split="train[:300]", cacheable=True)
    first = [source.get_batch(50) for _ in range(6)]
    assert sorted(np.concatenate([batch["label"] for batch in first])) == sorted(digit_labels()[:300])
    source.close()
    monkeypatch.setattr(source.records.files, "read", lambda _: pytest.fail("files are read"))
    second = np.concatenate([source.get_batch(50)["label"] for _ in range(6)])
    assert sorted(second) == sorted(digit_labels()[:300])
    monkeypatch.undo()
    source.reset_cache()
    source.reset()
    assert equal([source.get_batch(50) for _ in range(6)], first)


def test_a_source_is_built_from_a_config(data_dirs: Path) -> None:
    source = build_source(
        {"type": "tfds_streaming", "name": "digits", "split": "test", "data_dir": str(data_dirs / "tfrecord")}
    )
    assert isinstance(source, TFDSStreamingSource)
    assert len(source) == SPLITS["test"]


# -- imports ------------------------------------------------------------------------------------------------------------


LOADED = """
    import sys

    def loaded():
        return [name for name in ("tensorflow", "tensorflow_datasets") if name in sys.modules]

    import datarax_tfds
    print(loaded())
    for name in ("digits_png", "captions", "nested"):
        config = datarax_tfds.TFDSStreamingConfig(name=name, split="train", data_dir=sys.argv[1])
        datarax_tfds.TFDSStreamingSource(config).get_batch(8)
    print(loaded())
"""


def test_the_plugin_loads_tfds_when_a_data_set_is_opened_and_tensorflow_never(data_dirs: Path) -> None:
    command = [sys.executable, "-c", dedent(LOADED), str(data_dirs / "tfrecord")]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    assert ran.stdout.splitlines() == ["[]", "['tensorflow_datasets']"]
