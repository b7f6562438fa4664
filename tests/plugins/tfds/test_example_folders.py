"""Folders of images and of translated lines: the values, splits and order of TFDS's own builders, read by index."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tensorflow_datasets as tfds
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import Pipeline, StateError, build_source
from datarax_core.errors import DataFileError, RecordError
from datarax_tfds import (
    TFDSConfig,
    TFDSEagerConfig,
    TFDSEagerSource,
    TFDSStreamingConfig,
    TFDSStreamingSource,
    from_tfds,
)
from datarax_tfds.unprepared.translations import line_spans

LABELS = ("cat", "dog", "owl")
PER_LABEL = {"test": 2, "train": 5}


def write_images(root: Path, size: tuple[int, int] | None = None) -> Path:
    """Write images of differing sizes, or of one; a third of them grey; some names end in capitals."""
    rng = np.random.default_rng(0)
    for split, count in PER_LABEL.items():
        for label in LABELS:
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                height, width = size or rng.integers(3, 12, 2)
                pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
                made = pixels[..., 0].copy() if label == "owl" else pixels
                suffix = ("png", "PNG", "png")[number % 3]
                (folder / f"{label}{number}.{suffix}").write_bytes(imagecodecs.png_encode(made))
    (root / "train/cat/notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images; tests must not change it."""
    return write_images(tmp_path_factory.mktemp("folders") / "photos")


@pytest.fixture
def own_photos(photos: Path, tmp_path: Path) -> Path:
    """A copy of the folder, which a test may change."""
    return Path(shutil.copytree(photos, tmp_path / "photos"))


TEXT = "one\ntwo\r\nthree\rfour\x0bfive\x0csix\x1cseven\u2028eight\u2029nine\x85ten\n\n \u00e4\u00a8 \u0928\u20a8\nlast"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of translations; tests must not change it."""
    root = tmp_path_factory.mktemp("folders") / "lines"
    root.mkdir()
    (root / "en.train.txt").write_bytes(TEXT.encode())
    (root / "de.train.txt").write_text("".join(f"{'x' * n}\n" for n in range(len(TEXT.splitlines()))))
    (root / "en.test.txt").write_text("yes\nno\n")
    (root / "de.test.txt").write_text("ja\nnein")
    return root


def streamed(name: Any, split: str = "train", **options: Any) -> TFDSStreamingSource:
    return TFDSStreamingSource(TFDSStreamingConfig(name=name, split=split, **options))


def filenames(source: Any) -> list[str]:
    return [Path(os.fsdecode(name)).stem for name in source.get_records(np.arange(len(source)))["image/filename"]]


# -- the values of TFDS --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_are_those_of_tfds_in_its_order(photos: Path, split: str) -> None:
    builder = tfds.ImageFolder(str(photos))
    source = from_tfds(builder, split)
    theirs = list(builder.as_dataset(split).as_numpy_iterator())
    assert len(source) == len(theirs) == PER_LABEL[split] * len(LABELS)
    names = source.get_dataset_info().features["label"].names
    for number, wanted in enumerate(theirs):
        ours = source[number]
        assert ours.keys() == wanted.keys()
        assert np.array_equal(ours["image"], wanted["image"])
        assert ours["label"] == wanted["label"]
        assert ours["image/filename"] == wanted["image/filename"]
        assert f"/{split}/{names[int(ours['label'])]}/" in os.fsdecode(ours["image/filename"])


def test_declared_shapes_and_dtypes_are_those_of_the_builder(tmp_path: Path) -> None:
    root = write_images(tmp_path / "photos", size=(6, 5))
    builder = tfds.ImageFolder(str(root), shape=(6, 5, 1), dtype=np.uint16)
    shutil.rmtree(root / "train/cat")  # colors become no grey
    shutil.rmtree(root / "train/dog")
    source = from_tfds(builder, "train")
    assert type(source).__name__ == "TFDSEagerSource"
    assert source.config.builder_kwargs.model_dump() == {"shape": (6, 5, 1), "dtype": "uint16"}
    assert source.data["image"].shape == (5, 6, 5, 1)
    named = from_tfds("image_folder", "train", data_dir=root, builder_kwargs={"shape": (6, 5, 1), "dtype": "uint16"})
    theirs = tfds.ImageFolder(str(root), shape=(6, 5, 1), dtype=np.uint16).as_dataset("train").as_numpy_iterator()
    for number, wanted in enumerate(theirs):
        assert np.array_equal(named[number]["image"], wanted["image"])
    small = streamed("image_folder", data_dir=root, builder_kwargs={"shape": [4, 4, 3]})
    with pytest.raises(RecordError, match=r"record 0 of .*/owl\d\.(png|PNG) cannot be decoded: .* 6 x 5 pixels"):
        small[0]


@pytest.mark.parametrize("split", ["train", "test"])
def test_lines_are_those_of_tfds(lines: Path, split: str) -> None:
    builder = tfds.TranslateFolder(str(lines))
    theirs = list(builder.as_dataset(split).as_numpy_iterator())
    for source in (from_tfds(builder, split), streamed("TranslateFolder", split, data_dir=lines)):
        assert [source[number] for number in range(len(source))] == theirs
        assert source.get_dataset_info()["splits"]["test"]["num_files"] == 2


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029\u00a8\u0928\u20a9"), max_size=12))
def test_lines_are_those_of_splitlines(text: str) -> None:
    stored = text.encode()
    starts, stops = line_spans(stored)
    assert [stored[start:stop].decode() for start, stop in zip(starts, stops, strict=True)] == text.splitlines()


def test_blocks_end_with_lines(lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datarax_tfds.unprepared.translations._BLOCK", 3)
    source = streamed("translate_folder", data_dir=lines)
    assert [source[number]["en"].decode() for number in range(len(source))] == TEXT.splitlines()


# -- splits, orders, states ----------------------------------------------------------------------------------------------


def test_sub_splits_are_parts_of_the_splits(photos: Path, lines: Path) -> None:
    builder = tfds.ImageFolder(str(photos))
    train, test = (filenames(streamed(builder, split)) for split in ("train", "test"))
    for split, wanted in {
        "train[:80%]": train[:12],
        "train[80%:]": train[12:],
        "train[2:-3]+test": [*train[2:-3], *test],
        "all": [*test, *train],
    }.items():
        assert filenames(streamed(builder, split)) == wanted
    thirds = [filenames(from_tfds(builder, part)) for part in tfds.even_splits("train", 3)]
    assert sum(thirds, []) == train  # noqa: RUF017 - three lists
    joined = streamed("translate_folder", "test[1:]+train[:2]", data_dir=lines)
    assert joined.get_records(np.asarray([2, 0]))["en"].tolist() == [b"two", b"no"]


def test_a_shuffled_loop_resumes_and_serves_each_image_once_an_epoch(photos: Path) -> None:
    def pipeline() -> Pipeline:
        source = from_tfds(tfds.ImageFolder(str(photos)), "train", shuffle=True, rngs=nnx.Rngs(0))
        return Pipeline(source=source, batch_size=4, num_epochs=2, rngs=nnx.Rngs(0))

    whole = [name for batch in pipeline() for name in batch["image/filename"].tolist()]
    assert len(set(whole[:15])) == len(set(whole[15:])) == 15
    assert whole[:15] != whole[15:]
    first = pipeline()
    loop = iter(first)
    begun = [name for _ in range(3) for name in next(loop)["image/filename"].tolist()]
    state = json.loads(json.dumps(first.get_state()))
    second = pipeline()
    second.set_state(state)
    assert begun + [name for batch in second for name in batch["image/filename"].tolist()] == whole


def test_a_state_of_other_files_is_refused(own_photos: Path) -> None:
    def pipeline() -> Pipeline:
        return Pipeline(source=streamed("image_folder", data_dir=own_photos), batch_size=4, rngs=nnx.Rngs(0))

    state = pipeline().get_state()
    pipeline().set_state(state)
    changed = own_photos / "train/dog/dog0.png"
    content = bytearray(changed.read_bytes())
    content[-20] ^= 1  # of equal size
    changed.write_bytes(content)
    with pytest.raises(StateError, match="content"):
        pipeline().set_state(state)
    changed.rename(changed.with_name("dog9.png"))
    with pytest.raises(StateError, match="parts"):
        pipeline().set_state(state)


def test_copies_pickles_and_workers_serve_the_same(photos: Path, lines: Path) -> None:
    for source in (streamed("image_folder", data_dir=photos), streamed("translate_folder", data_dir=lines)):
        wanted = source.get_records(np.asarray([3, 0, 3]))
        for twin in (source.copy(), pickle.loads(pickle.dumps(source))):  # noqa: S301
            assert repr(twin.get_records(np.asarray([3, 0, 3]))) == repr(wanted)
            assert twin.fingerprint() == source.fingerprint()


def test_many_files_are_looked_at_by_several_threads(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = streamed("image_folder", data_dir=photos)
    monkeypatch.setattr("datarax_tfds.unprepared.images._MANY", 2)
    source = streamed("image_folder", data_dir=photos)
    assert source.fingerprint() == wanted.fingerprint()
    assert source.records.table.stamps == wanted.records.table.stamps
    assert source.data_set.num_bytes == sum(path.stat().st_size for path in photos.glob("train/*/*.[pP]*"))


def test_a_config_reads_a_folder_without_tensorflow(photos: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(
        f"batch_size: 4\nsource: {{type: tfds, name: image_folder, split: 'train[:5]', data_dir: {photos}}}\n"
    )
    program = f"""
import sys
from datarax_core import Pipeline
(first, second) = Pipeline.from_config({str(config)!r})
assert len(second["label"]) == 1
print(first["image"][0].shape, first["label"].tolist())
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    builder = tfds.ImageFolder(str(photos))
    theirs = list(builder.as_dataset("train").take(4).as_numpy_iterator())
    assert done.stdout.strip() == f"{theirs[0]['image'].shape} {[int(record['label']) for record in theirs]}"


def test_options_of_every_source_apply(photos: Path) -> None:
    builder = tfds.ImageFolder(str(photos))
    pair = streamed(builder, as_supervised=True)
    assert list(pair.element_spec()) == ["image", "label"]
    assert list(streamed(builder, exclude_keys={"image"}).element_spec()) == ["image/filename", "label"]


# -- damaged and changed files -------------------------------------------------------------------------------------------


def test_bad_images_are_named_substituted_and_excluded(own_photos: Path, tmp_path: Path) -> None:
    order = filenames(streamed("image_folder", data_dir=own_photos))
    bad = next(own_photos.glob(f"train/*/{order[2]}.*"))
    bad.write_bytes(bad.read_bytes()[:40])
    source = streamed("image_folder", data_dir=own_photos)
    with pytest.raises(RecordError, match=rf"record 0 of {bad} cannot be decoded: field 'image' has an image"):
        source.get_records(np.arange(4))
    listed = tmp_path / "bad.jsonl"
    kept = streamed("image_folder", data_dir=own_photos, on_error="substitute", quarantine=listed)
    assert filenames(kept)[1:4] == [order[1], order[3], order[3]]
    assert json.loads(listed.read_text())["file"] == str(bad)
    given = {"name": "image_folder", "split": "train", "data_dir": own_photos, "on_error": "substitute"}
    with pytest.warns(UserWarning, match=r"record 0 of .* is served in its place"):
        eager = TFDSEagerSource(TFDSEagerConfig(**given))
    assert filenames(eager)[1:4] == [order[1], order[3], order[3]]
    assert eager.get_records(np.arange(15))["image"] == kept.get_records(np.arange(15))["image"]
    excluded = streamed("image_folder", "train[:5]", data_dir=own_photos, exclude=listed)
    assert filenames(excluded) == [order[0], order[1], order[3], order[4]]
    assert len(streamed("image_folder", "train[8:]", data_dir=own_photos, exclude=listed)) == 7


def test_files_that_change_under_a_source_are_errors(own_photos: Path, lines: Path, tmp_path: Path) -> None:
    source = streamed("image_folder", data_dir=own_photos)
    path = Path(os.fsdecode(source[0]["image/filename"]))
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataFileError, match=rf"{path} changed while a source read it"):
        source.get_records(np.zeros(1, np.int64))
    path.unlink()
    with pytest.raises(DataFileError, match=rf"{path} is gone"):
        source.get_records(np.zeros(1, np.int64))
    own = Path(shutil.copytree(lines, tmp_path / "lines"))
    texts = streamed("translate_folder", "test", data_dir=own)
    (own / "de.test.txt").write_text("oh\nnein")
    with pytest.raises(DataFileError, match=r"de\.test\.txt changed while a source read it"):
        texts.get_records(np.zeros(1, np.int64))


def test_a_link_to_an_image_that_is_gone_is_named(own_photos: Path) -> None:
    (own_photos / "train/cat/away.png").symlink_to("/nowhere/cat.png")
    with pytest.raises(DataFileError, match=r"away\.png is a link to /nowhere/cat\.png, which does not exist"):
        streamed("image_folder", data_dir=own_photos)


# -- mistakes ------------------------------------------------------------------------------------------------------------


class Albums(tfds.ImageFolder):
    """A builder of a user, which may read other files than its base class."""


def test_a_builder_that_reads_files_in_its_own_way_is_refused(photos: Path) -> None:
    with pytest.raises(ValueError, match=r"Albums reads its files in a way of its own, .*store_as_tfds_dataset"):
        TFDSConfig(name=Albums(str(photos)), split="train")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(
        ValueError, match=r"the builder image_folder:1\.0\.0 has its own data_dir, .*; leave data_dir out"
    ):
        from_tfds(tfds.ImageFolder(str(photos)), "train", data_dir="elsewhere")
    wide = tfds.ImageFolder(str(photos), shape=(4, 4, 3))
    with pytest.raises(ValueError, match="has its own builder_kwargs"):
        from_tfds(wide, "train", builder_kwargs={"shape": [5, 5, 3]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_dir": None}, "image_folder reads the files of a folder; name it by data_dir: it has split/label/image"),
        ({"split": "trian"}, r"image_folder/1\.0\.0 has no split 'trian'; did you mean 'train'"),
        ({"split": "train[:99]"}, r"goes beyond the records of image_folder/1\.0\.0: test has 6 records, train has 15"),
        (
            {"backend": "tfrecord"},
            r"backend 'tfrecord' has no use for image_folder, whose files, split/label/image\.png",
        ),
        ({"try_gcs": True}, "try_gcs has no use for image_folder, .* are never prepared; leave it out"),
        (
            {"name": "image_folder:2.0.0"},
            "'image_folder:2.0.0' has a config or version that image_folder does not have",
        ),
        ({"include_keys": {"picture"}}, "picture"),
        (
            {"name": "pairs", "builder_kwargs": {"shape": [1, 1, 1]}},
            "builder_kwargs are those of image_folder; 'pairs'",
        ),
        ({"name": "translate_folder", "builder_kwargs": {}}, "builder_kwargs are those of image_folder"),
        ({"builder_kwargs": {"shape": [4, 4]}}, "builder_kwargs.shape"),
        ({"builder_kwargs": {"dtype": "int32"}}, "builder_kwargs.dtype"),
        ({"name": "translate_folder"}, r"'test' in .* is none of the files of translations, language\.split\.txt"),
    ],
)
def test_mistakes_are_named(photos: Path, options: dict[str, Any], message: str) -> None:
    given = {"type": "tfds", "name": "image_folder", "split": "train", "data_dir": str(photos), **options}
    with pytest.raises(ValueError, match=message):
        build_source({name: value for name, value in given.items() if value is not None})


def test_folders_of_other_files_are_refused_with_the_expected_ones(tmp_path: Path, photos: Path) -> None:
    def opened(name: str, root: Path) -> None:
        streamed(name, data_dir=root)

    with pytest.raises(FileNotFoundError, match=r"no such folder: .*away; data_dir is the folder of split/label/image"):
        opened("image_folder", tmp_path / "away")
    with pytest.raises(
        ValueError, match=r"there are no images in .*train: they are expected at split/label/image\.png"
    ):
        opened("image_folder", photos / "train")
    with pytest.raises(ValueError, match=r"there are no files in .*: language\.split\.txt is expected"):
        opened("translate_folder", tmp_path)
    (tmp_path / "en.train.txt").write_text("a\nb\n")
    (tmp_path / "de.train.txt").write_text("a\n")
    with pytest.raises(ValueError, match=r"differ in their numbers of lines: de\.train\.txt has 1 lines, en\.train"):
        opened("translate_folder", tmp_path)
    (tmp_path / "de.train.txt").rename(tmp_path / "de.test.txt")
    with pytest.raises(ValueError, match=r"split 'test' in .* lacks the file en\.test\.txt"):
        opened("translate_folder", tmp_path)
    (tmp_path / "de.test.txt").write_bytes(b"fine\n\xff\n")
    with pytest.raises(DataFileError, match=r"de\.test\.txt is no text in UTF-8: invalid start byte at byte 5"):
        opened("translate_folder", tmp_path)
