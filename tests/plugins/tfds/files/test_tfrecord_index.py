"""The index of a TFRecord file: how it is found and cached, and errors of damaged files and caches."""

import gzip
import logging
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfrecords import begin_of, contents, flip, opened, record, whole, write

from datarax_core import DataFileError, RecordError
from datarax_tfds.files import tfrecord_index
from datarax_tfds.files.tfrecord_index import length_checksums

FEW = contents(12)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("DATARAX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tfrecord"


# -- found --------------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.one_of(st.integers(0, 300), st.sampled_from([4096, 70_000, 1 << 20, 3 << 20])), max_size=24),
    data=st.data(),
)
def test_records_of_any_size_are_found_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], data: st.DataObject
) -> None:
    records = [bytes([number]) * length for number, length in enumerate(lengths)]
    path = write(tmp_path_factory.mktemp("any") / "x.tfrecord", records)
    with opened(whole(path, len(records))) as files:
        assert files.num_records == len(records)
        numbers = data.draw(st.lists(st.sampled_from(range(len(records))), max_size=30) if records else st.just([]))
        assert files.read(np.asarray(numbers, np.int64)) == [records[number] for number in numbers]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_checksums_of_many_lengths_are_those_of_each(lengths: list[int]) -> None:
    stored = [struct.unpack("<Q", struct.pack("<Q", length)) for length in lengths]
    found = length_checksums(np.asarray(lengths, np.uint64))
    expected = [_stored_checksum(length) for (length,) in stored]
    assert found.tolist() == expected


def _stored_checksum(length: int) -> int:
    crc: int = tfrecord_index.google_crc32c.value(struct.pack("<Q", length))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_file_without_records_has_an_index(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    files = opened(whole(write(tmp_path / "x", FEW), len(FEW)), whole(tmp_path / "empty", 0))
    assert files.num_records == len(FEW)


# -- damaged ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cut", "needs", "there"),
    [(1, 30, 29), (4, 30, 26), (18, 30, 12), (25, 12, 5)],
    ids=["end", "data", "none", "head"],
)
def test_a_truncated_file_is_named_with_the_record_in_which_it_ends(
    tmp_path: Path, cut: int, needs: int, there: int
) -> None:
    records = [*FEW[:5], b"the last one.."]
    path = write(tmp_path / "x.tfrecord", records)
    begin = begin_of(records, 5)
    os.truncate(path, os.stat(path).st_size - cut)  # noqa: PTH116 - the path is text
    what = "the header of a record needs" if needs == 12 else "the record needs"
    text = (
        rf"x\.tfrecord is truncated: it ends in record 5, which begins at byte {begin}; {what} {needs} bytes and {there} are "
        "there; copy the file again, or prepare the data set anew"
    )
    with pytest.raises(DataFileError, match=text) as caught:
        opened(whole(path, 6))
    assert caught.value.path == path


@pytest.mark.parametrize("place", [0, 3, 8, 11])
def test_a_length_whose_checksum_is_wrong_ends_the_index(tmp_path: Path, place: int) -> None:
    path = write(tmp_path / "x.tfrecord", FEW)
    flip(path, begin_of(FEW, 7) + place)
    text = (
        r"x\.tfrecord is damaged: the length of record 7 does not have the checksum that is stored with it, and records "
        "behind it cannot be found; copy the file again"
    )
    with pytest.raises(DataFileError, match=text):
        opened(whole(path, len(FEW)))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            gzip.compress(record(b"x" * 100)),
            r"is compressed \(GZIP\), which TFDS does not write and which has no random",
        ),
        (zlib.compress(record(b"x" * 100)), r"is compressed \(ZLIB\), which TFDS does not write"),
        (
            b"PK\3\4 and so on, for a while",
            r"is no TFRecord file: it begins with b'PK\\x03\\x04 and', which is no length",
        ),
        (bytes(4096), r"is no TFRecord file: it begins with b'\\x00\\x00.*prepare the data set anew"),
    ],
    ids=["gzip", "zlib", "zip", "zeros"],
)
def test_files_of_another_format_are_refused_by_name(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataFileError, match=text):
        opened(whole(tmp_path / "x", 1))


@pytest.mark.parametrize("declared", [11, 13])
def test_a_file_has_as_many_records_as_the_data_set_says(tmp_path: Path, declared: int) -> None:
    path = write(tmp_path / "x", FEW)
    text = (
        f"has 12 records, where the data set's own description says {declared}: one of them is of another version; copy the "
        "folder of the data set again, or prepare it anew"
    )
    with pytest.raises(DataFileError, match=text):
        opened(whole(path, declared))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="is no ordinary file, but a folder, a pipe or a device"):
        opened(whole(tmp_path, 1))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*gone\.tfrecord; prepare the data set anew"):
        opened(whole(tmp_path / "gone.tfrecord", 1))


@pytest.fixture
def unreadable(shared_folder: Path) -> Path:
    """A file that only root may read."""
    (shared_folder / "x").touch(mode=0)
    return shared_folder / "x"


@pytest.mark.usefixtures("unreadable", "ordinary_user")  # in this order
def test_a_file_that_may_not_be_read_is_named(unreadable: Path) -> None:
    with pytest.raises(PermissionError, match=r"permission denied: .*x; make the file readable for this user"):
        opened(whole(unreadable, 1))


# -- kept ---------------------------------------------------------------------------------------------------------------


def kept(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())


def test_an_index_is_found_once_and_kept(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "x", FEW)
    opened(whole(path, len(FEW)))
    (index,) = kept(cache)
    flip(path, begin_of(FEW, 7))  # finding the index again would raise an error
    files = opened(whole(path, len(FEW)))
    assert files.read(np.asarray([11, 0])) == [FEW[11], FEW[0]]
    assert kept(cache) == [index]


def test_an_index_is_used_only_for_an_unchanged_file(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "x", FEW)
    opened(whole(path, len(FEW)))
    others = [content[::-1] for content in reversed(FEW)]
    write(tmp_path / "x", others)
    os.utime(path, ns=(0, 0))
    files = opened(whole(path, len(FEW)))
    assert files.read(np.arange(len(FEW))) == others
    assert len(kept(cache)) == 1


@pytest.mark.parametrize("place", [0, 9, 20, 30, 40, -1])
def test_a_damaged_index_is_found_anew(tmp_path: Path, cache: Path, place: int) -> None:
    path = write(tmp_path / "x", FEW)
    opened(whole(path, len(FEW)))
    (index,) = kept(cache)
    good = index.read_bytes()
    flip(index, place % len(good))
    assert opened(whole(path, len(FEW))).read(np.arange(len(FEW))) == FEW
    assert index.read_bytes() == good
    index.write_bytes(good[:place])
    assert opened(whole(path, len(FEW))).read(np.arange(len(FEW))) == FEW
    assert index.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DATARAX_CACHE_DIR", str(tmp_path / "file"))
    path = write(tmp_path / "x", FEW)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert opened(whole(path, len(FEW))).read(np.asarray([3])) == [FEW[3]]
    (message,) = (entry.getMessage() for entry in caplog.records)
    assert message.startswith(f"indices of TFRecord files cannot be kept in {tmp_path / 'file' / 'tfrecord'} (")
    assert message.endswith("set DATARAX_CACHE_DIR to a folder that can be written to")


def test_the_cache_folder_is_the_user_s_unless_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATARAX_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere/cache")
    assert tfrecord_index.cache_folder().parts[-2:] == ("datarax", "tfrecord")


def test_threads_may_find_the_same_index_at_once(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "x", FEW)

    def find(_: int) -> list[bytes]:
        return opened(whole(path, len(FEW))).read(np.arange(len(FEW)))

    with ThreadPoolExecutor(8) as threads:
        assert all(found == FEW for found in threads.map(find, range(64)))
    assert len(kept(cache)) == 1


def test_a_stale_index_is_found_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "x", FEW)
    before = os.stat(path)  # noqa: PTH116 - the path is text
    opened(whole(path, len(FEW)))
    write(tmp_path / "x", [FEW[1], FEW[0], *FEW[2:]])  # the file keeps its size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        files = opened(whole(path, len(FEW)))
        assert files.read(np.asarray([2, 0])) == [FEW[2], FEW[1]]


def test_checksums_detect_an_index_that_is_wrong_for_a_record_that_was_not_looked_at(tmp_path: Path) -> None:
    many = [bytes([number % 251]) * (number % 7) for number in range(1000)]
    path = write(tmp_path / "x", many)
    before = os.stat(path)  # noqa: PTH116 - the path is text
    opened(whole(path, len(many)))
    many[100], many[101] = many[101], many[100]
    write(tmp_path / "x", many)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    files = opened(whole(path, len(many)))
    assert files.read(np.asarray([2])) == [many[2]]
    with pytest.raises(
        RecordError, match=r"record 100 of .*x cannot be read: its length does not have the checksum, or the"
    ):
        files.read(np.asarray([2, 100]))


def test_what_is_in_the_place_of_an_index_makes_way_and_unfinished_ones_are_removed(
    tmp_path: Path, cache: Path
) -> None:
    path = write(tmp_path / "x", FEW)
    opened(whole(path, len(FEW)))
    (index,) = kept(cache)
    good = index.read_bytes()
    index.unlink()
    index.mkdir()
    (cache / ".tmpold").touch()
    os.utime(cache / ".tmpold", (0, 0))
    (cache / ".tmpnew").touch()
    assert opened(whole(path, len(FEW))).read(np.arange(len(FEW))) == FEW
    assert index.read_bytes() == good
    assert kept(cache) == [cache / ".tmpnew", index]
