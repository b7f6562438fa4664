"""Addresses stand for files as local paths do: objects, folders, patterns and shards, which are complete or refused."""

import re
from typing import TYPE_CHECKING

import pytest

from datarax_core.config import READ_SCHEMES
from datarax_core.errors import DataFileError
from datarax_core.files import FileKind, FileTable, OpenFiles, data_files, require_file

if TYPE_CHECKING:
    from remote_servers import Bucket, HttpServer

    Place = HttpServer | Bucket

ROWS = FileKind("Row", (".rows",), READ_SCHEMES)
SHARDS = [f"d/train.rows-{shard:05d}-of-00003" for shard in range(3)]


@pytest.fixture
def filled(place: "Place") -> "Place":
    for name in (*SHARDS, "d/.hidden.rows", "d/README", "e/train-1.rows", "e/test-1.rows", "e/sub/train-2.rows"):
        place.put(name, b"12345678")
    place.put("f/a-00000-of-00002.rows", b"12345678")
    return place


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (SHARDS[0], SHARDS[:1]),
        ("d/", SHARDS),
        ("d/train.rows@3", SHARDS),
        ("d/train.rows-?????-of-?????", SHARDS),
        ("d/train.rows-0000[01]-of-00003", SHARDS[:2]),
        ("d/train*", SHARDS),
        ("e/train*.rows", ["e/train-1.rows"]),
        ("e/**/train*.rows", ["e/sub/train-2.rows", "e/train-1.rows"]),
        ("*/sub/*", ["e/sub/train-2.rows"]),
    ],
)
def test_an_address_stands_for_its_files(filled: "Place", path: str, names: list[str]) -> None:
    assert data_files([f"{filled.url}/{path}"], ROWS) == [f"{filled.url}/{name}" for name in names]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("none.rows", FileNotFoundError, "^no such object: {}/none.rows "),
        ("none/", FileNotFoundError, "^no such object: {}/none/ "),
        ("d/none*", FileNotFoundError, r"^no object matches {}/d/none\*; check the pattern"),
        ("e/sub/*.csv", FileNotFoundError, r"^no object matches {}/e/sub/\*\.csv; "),
        (
            "d/train.rows@4",
            FileNotFoundError,
            "^4 of the 4 shards of {}/d/train.rows@4 are missing: {}/d/train.rows-00000-of-",
        ),
        (
            "f/a.rows@2",
            FileNotFoundError,
            "^1 of the 2 shards of {}/f/a.rows@2 are missing: {}/f/a-00001-of-00002.rows$",
        ),
        ("f/", FileNotFoundError, "^1 of the 2 shards in the folder {}/f/ are missing: {}/f/a-00001-of-00002.rows; "),
        ("f/*.rows", FileNotFoundError, r"^1 of the 2 shards in {}/f/\*\.rows are missing: "),
        (
            "e/",
            ValueError,
            r"^the folder {}/e/ holds files of several splits, train-1.rows \(train\) and test-1.rows \(test\); ",
        ),
        (
            "e/*.rows",
            ValueError,
            r"^{}/e/\*\.rows holds files of several splits.*name the one to read, such as {}/e/\*train\*",
        ),
    ],
)
def test_what_is_missing_or_ambiguous_is_refused(
    filled: "Place", path: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message.replace("{}", re.escape(filled.url))):
        data_files([f"{filled.url}/{path}"], ROWS)


def test_a_folder_of_a_store_needs_no_slash_and_a_new_object_is_seen(bucket: "Bucket") -> None:
    for count in (1, 2):
        bucket.put(f"d/part-{count}.rows", b"12345678")
        assert data_files([f"{bucket.url}/d"], ROWS) == [f"{bucket.url}/d/part-{n}.rows" for n in range(1, count + 1)]
        assert len(data_files([f"{bucket.url}/d/*"], ROWS)) == count, "fsspec keeps listings; they are not used"
    bucket.put("e/README", b"")
    with pytest.raises(
        FileNotFoundError, match=r"^the folder s3://.*/e has no Row files: none whose name ends with \.rows"
    ):
        data_files([f"{bucket.url}/e"], ROWS)


def test_many_addresses_are_looked_at_at_once_and_none_twice(bucket: "Bucket") -> None:
    addresses = [bucket.put(f"{number}.rows", b"12345678") for number in range(20)]
    bucket.faults.requests.clear()
    assert data_files(addresses, ROWS) == addresses
    assert len(bucket.faults.requests) == 20
    with pytest.raises(ValueError, match=r"^the paths name a file more than once, s3://.*/3\.rows, so that"):
        data_files([*addresses, addresses[3]], ROWS)


def test_a_listing_that_fails_for_a_while_leaves_out_nothing(place: "Place") -> None:
    for name in ("a/x-1.rows", "b/x-2.rows", "c/x-3.rows"):
        place.put(f"deep/{name}", b"12345678")
    place.faults.errors = 3
    assert len(data_files([f"{place.url}/deep/**/*.rows"], ROWS)) == 3
    place.faults.errors, place.faults.status = 1, 403
    with pytest.raises(PermissionError, match=r"^permission denied: .*/deep"):
        data_files([f"{place.url}/deep/*/*.rows"], ROWS)


def test_addresses_that_are_not_read_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^'ftp://host/x' is not on this machine, and ftp:// is not read \(of addresses, "
    ):
        data_files(["ftp://host/x"], ROWS)
    with pytest.raises(ValueError, match=r"^'https://\*\*\*@host/x' holds credentials") as caught:
        data_files(["https://user:hunter2@host/x"], ROWS)
    assert "hunter2" not in str(caught.value)


# -- tables and pools of files -------------------------------------------------------------------------------------------


class Opened:
    """A file of rows that was opened; a copy stays what it is."""

    keeps_version = False

    def __init__(self, path: str) -> None:
        self.path = path

    def close(self) -> None:
        """Close nothing."""


class Copied(Opened):
    keeps_version = True


def test_a_table_of_objects_sees_that_one_changed(bucket: "Bucket") -> None:
    address = bucket.put("x.rows", b"12345678")
    table = FileTable.of([address], [1], [require_file(address)])
    table.require_unchanged(0)
    opened, copied = OpenFiles(table, Opened), OpenFiles(table, Copied)
    assert opened.use(0, lambda file: file.path) == copied.use(0, lambda file: file.path) == address
    bucket.put("x.rows", b"abcdefgh")
    with pytest.raises(DataFileError, match="changed while a source read it: it was written to or replaced"):
        opened.use(0, lambda file: file.path)
    assert copied.use(0, lambda file: file.path) == address, "a copy is the object that was counted"
    copied.close()
    with pytest.raises(DataFileError, match="changed while a source read it"):
        copied.use(0, lambda file: file.path)
    with pytest.raises(FileNotFoundError, match=r"^no such object: s3://.*/y.rows .*; prepare it anew$"):
        require_file(f"{bucket.url}/y.rows", "prepare it anew")
