"""Splits and slices select the records that TFDS itself selects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from datarax_tfds import TFDSStreamingConfig
from datarax_tfds.dataset import DataSet
from datarax_tfds.splits import FilePart

Stretches = list[tuple[str, int, int]]


def parts(data_dir: Path, split: Any) -> tuple[FilePart, ...]:
    config = TFDSStreamingConfig(name="digits", split=split, data_dir=data_dir, local_files_only=True)
    return DataSet.open(config, "source").parts


def stretches(found: tuple[FilePart, ...]) -> Stretches:
    return [(part.path, part.start, part.stop) for part in found]


def by_tfds(data_dir: Path, split: Any) -> Stretches:
    splits = tfds.builder_from_directory(data_dir / "digits/1.0.0").info.splits
    return [(f.filename, f.skip, f.skip + f.take) for f in splits[split].file_instructions]


SPLITS = [
    "train",
    "all",
    "train+test",
    "train + test[:3]",
    "train[:200]",
    "train[600:]",
    "train[-10:]",
    "train[499:501]",
    "train[1_0:2_0]",
    "train[10%:]",
    "train[:50%]+test[-10:]",
    "train[33.3%:66.6%]",
    "train[0:50%]",
    "train[:1shard]",
    "train[1shard]",
    "train[-1shard:]",
    "train+train[:5]",
]


@pytest.mark.parametrize("split", SPLITS)
def test_a_slice_has_the_records_that_tfds_selects(data_dirs: Path, split: str) -> None:
    assert stretches(parts(data_dirs / "tfrecord", split)) == by_tfds(data_dirs / "tfrecord", split) != []


@given(start=st.integers(-1500, 1500), stop=st.integers(-1500, 1500))
def test_a_slice_has_the_records_that_python_slices(data_dirs: Path, start: int, stop: int) -> None:
    wanted = np.arange(1500)[start : stop or None].tolist()  # TFDS takes :-0 as :0
    if stop == 0 or not wanted:
        with pytest.raises(ValueError, match="has no records"):
            parts(data_dirs / "tfrecord", f"train[{start}:{stop}]")
        return
    found = parts(data_dirs / "tfrecord", f"train[{start}:{stop}]")
    shards = [int(part.path[-len("0-of-00003")]) for part in found]
    taken = [
        shard * 500 + row for shard, part in zip(shards, found, strict=True) for row in range(part.start, part.stop)
    ]
    assert taken == wanted


@pytest.mark.parametrize("drop_remainder", [False, True])
def test_even_splits_are_those_of_tfds_as_objects_and_as_texts(data_dirs: Path, *, drop_remainder: bool) -> None:
    folder, taken = data_dirs / "tfrecord", []
    for number, split in enumerate(tfds.even_splits("train[:1001]", n=4, drop_remainder=drop_remainder)):
        drop = ", drop_remainder=True" if drop_remainder else ""
        text = f"even_splits('train[:1001]', n=4{drop})[{number}]"
        assert TFDSStreamingConfig(name="digits", split=split).split == text
        assert stretches(parts(folder, split)) == stretches(parts(folder, text)) == by_tfds(folder, split)
        taken += stretches(parts(folder, text))
    assert sum(stop - start for _, start, stop in taken) == (1000 if drop_remainder else 1001)


def test_even_splits_nest(data_dirs: Path) -> None:
    half = tfds.even_splits("train", n=2)[1]
    (third,) = tfds.even_splits(half, n=3)[1:2]
    assert stretches(parts(data_dirs / "tfrecord", third)) == by_tfds(data_dirs / "tfrecord", third)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (tfds.Split.TRAIN, "train"),
        (tfds.core.ReadInstruction("train"), "train"),
        (tfds.core.ReadInstruction("train", from_=10, unit="%"), "train[10%:]"),
        (tfds.core.ReadInstruction("train", to=-3), "train[:-3]"),
        (tfds.core.ReadInstruction("train", from_=1, to=2, unit="shard"), "train[1shard:2shard]"),
        (tfds.core.ReadInstruction("train") + "test[:10%]", "train+test[:10.0%]"),
        (tfds.core.splits.AbstractSplit.from_spec("all"), "all"),
    ],
    ids=range(7),  # the repr of some holds an address
)
def test_objects_of_tfds_become_texts(given: Any, text: str, data_dirs: Path) -> None:
    config = TFDSStreamingConfig(name="digits", split=given)
    assert config.split == text
    assert type(config.split) is str
    assert stretches(parts(data_dirs / "tfrecord", given)) == by_tfds(data_dirs / "tfrecord", given)
