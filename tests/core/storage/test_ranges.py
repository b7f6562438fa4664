"""Ranges of files and of objects are the bytes that lie there, in the order asked for, whatever the server does meanwhile."""

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from datarax_core.errors import ConfigError, DataFileError, is_passing
from datarax_core.storage import Cache, Stamp, download, ranges, stamp_of, stamps_of
from datarax_core.storage.stores.objects import PIECE

if TYPE_CHECKING:
    from remote_servers import Bucket, HttpServer, S3Server

    Place = HttpServer | Bucket

SIZE = 1 << 20
CONTENT = np.random.default_rng(0).bytes(SIZE)


def random_ranges(count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    starts = random.integers(0, SIZE - length, count)
    return starts, starts + random.integers(0, length, count)  # some are empty


def slices(content: bytes, starts: np.ndarray, ends: np.ndarray) -> list[bytes]:
    return [content[start:end] for start, end in zip(starts, ends, strict=True)]


# -- of this machine -----------------------------------------------------------------------------------------------------


def test_ranges_of_local_files_in_any_order_and_number(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in "abc"]
    for number, path in enumerate(paths):
        Path(path).write_bytes(CONTENT[number:])
    starts, ends = random_ranges(10_000, 300)
    ends = np.minimum(ends, SIZE - 3)
    starts = np.minimum(starts, ends)
    of = np.random.default_rng(2).integers(0, 3, 10_000)
    stamps = stamps_of(paths)
    found = ranges([paths[number] for number in of], starts, ends, stamps=[stamps[number] for number in of])
    assert found == [
        CONTENT[number + start : number + end] for number, start, end in zip(of, starts, ends, strict=True)
    ]


def test_long_local_ranges_are_read_by_several_threads(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(CONTENT)
    starts = np.arange(0, SIZE, SIZE // 4)
    for threads in (None, 1, 2):
        found = ranges([str(path)] * 4, starts, starts + SIZE // 4, threads=threads)
        assert found == slices(CONTENT, starts, starts + SIZE // 4)


def test_no_ranges_and_empty_ones(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert ranges([], np.zeros(0, np.int64), np.zeros(0, np.int64)) == []
    assert ranges([str(path)] * 3, [3, 0, 1], [3, 0, 2]) == [b"", b"", b"b"]


@pytest.mark.parametrize(
    ("starts", "ends", "error"),
    [
        (
            [0],
            [1, 2],
            r"^ranges have one path, start and end each; there are 2 paths, starts of shape \(1,\) and ends of",
        ),
        ([0, -1], [1, 2], r"^range 1 is from byte -1 to 2; it has a start from 0, and an end behind it$"),
        ([0, 4], [1, 2], r"^range 1 is from byte 4 to 2; "),
    ],
)
def test_ranges_that_are_none_are_refused(starts: list[int], ends: list[int], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        ranges(["a", "a"], starts, ends)
    with pytest.raises(TypeError, match=r"^starts and ends are integers, not float64 and int64$"):
        ranges(["a"], [0.5], [1])


def test_a_local_file_that_is_short_or_changed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abcdef")
    stamp = stamp_of(str(path))
    with pytest.raises(
        DataFileError, match=r"^bytes 2 to 9 of .*x cannot be read: it has 6 bytes; the file is cut short"
    ):
        ranges([str(path)], [2], [9])
    path.write_bytes(b"abc")
    with pytest.raises(DataFileError, match="changed while a source read it: it has 3 bytes where it had 6;"):
        ranges([str(path)], [2], [5], stamps=[stamp])
    path.unlink()
    with pytest.raises(DataFileError, match=r"is gone: it was removed while a source read it \(No such file"):
        ranges([str(path)], [0], [1], stamps=[stamp])


# -- of objects ----------------------------------------------------------------------------------------------------------


def test_ranges_of_objects_with_and_without_stamps(place: "Place") -> None:
    addresses = [place.put(f"folder/{name}", CONTENT[number:]) for number, name in enumerate(("a", "b c", "d%e+#f"))]
    addresses[2] = (
        addresses[2].replace("%", "%25").replace("#", "%23") if place.url.startswith("http") else addresses[2]
    )
    addresses[1] = addresses[1].replace(" ", "%20") if place.url.startswith("http") else addresses[1]
    stamps = stamps_of(addresses)
    assert [stamp.size for stamp in stamps] == [SIZE, SIZE - 1, SIZE - 2]
    starts, ends = random_ranges(60, 2000)
    of = np.arange(60) % 3
    wanted = [CONTENT[number + start : number + end] for number, start, end in zip(of, starts, ends, strict=True)]
    paths = [addresses[number] for number in of]
    assert ranges(paths, starts, ends) == wanted
    assert ranges(paths, starts, ends, stamps=[stamps[number] for number in of], threads=3) == wanted


def test_ten_thousand_small_ranges(place: "Place") -> None:
    address = place.put("x", CONTENT)
    starts, ends = random_ranges(10_000, 100)
    place.faults.requests.clear()
    assert ranges([address] * 10_000, starts, ends, stamps=[stamp_of(address)] * 10_000) == slices(
        CONTENT, starts, ends
    )
    assert len(place.faults.reads()) <= 32, "near ranges are one request"


def test_a_range_longer_than_a_request_is_fetched_in_pieces(http_server: "HttpServer", tmp_path: Path) -> None:
    content = CONTENT * 20
    address = http_server.put("x", content)
    assert ranges([address], [5], [len(content)]) == [content[5:]]
    assert len(http_server.faults.reads()) == -(-(len(content) - 5) // PIECE) == 3
    download(address, str(tmp_path / "copy"), stamp=stamp_of(address))
    assert (tmp_path / "copy").read_bytes() == content


def test_requests_are_under_way_at_once(http_server: "HttpServer") -> None:
    address = http_server.put("x", CONTENT)
    starts = np.arange(0, SIZE, 1 << 17)
    meeting = threading.Barrier(8, timeout=60)  # nobody is answered before all eight have asked
    http_server.faults.hook = lambda _: meeting.wait() and None
    assert ranges([address] * 8, starts, starts + 10) == slices(CONTENT, starts, starts + 10)


@pytest.mark.parametrize("fault", ["errors", "truncated", "resets"])
def test_what_may_pass_is_tried_again(place: "Place", fault: str) -> None:
    address = place.put("x", CONTENT)
    stamp = stamp_of(address)
    setattr(place.faults, fault, 3)
    assert ranges([address], [7], [1007], stamps=[stamp]) == [CONTENT[7:1007]]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_store_that_fails_again_and_again_is_told_with_the_number_of_tries(place: "Place", status: int) -> None:
    address = place.put("x", CONTENT)
    place.faults.requests.clear()
    place.faults.errors, place.faults.status = 1000, status
    failed = rf"^bytes 7 to 9 of {re.escape(address)} cannot be read: HTTP {status} .* \(tried 8 times in \d+\.\d s\)$"
    with pytest.raises(ConnectionError, match=failed) as caught:
        ranges([address], [7], [9])
    place.faults.errors = 0
    assert len(place.faults.requests) == 8
    assert is_passing(caught.value), "it says nothing about the bytes"
    assert caught.value.__context__ is None, "causes may hold credentials"


@pytest.mark.parametrize("status", [400, 403, 409])
def test_what_does_not_pass_is_tried_once(place: "Place", status: int) -> None:
    address = place.put("x", CONTENT)
    place.faults.requests.clear()
    place.faults.errors, place.faults.status = 1, status
    error = PermissionError if status == 403 else OSError
    with pytest.raises(error, match=f"HTTP {status}"):
        ranges([address], [7], [9])
    assert len(place.faults.requests) == 1


def test_an_absent_object_is_told(place: "Place") -> None:
    for call in (lambda: ranges([f"{place.url}/none"], [0], [1]), lambda: stamp_of(f"{place.url}/none")):
        with pytest.raises(
            FileNotFoundError, match=rf"^no such object: {place.url}/none \(.*; check the address, and what"
        ):
            call()


def test_a_range_beyond_the_end_is_told(place: "Place") -> None:
    address = place.put("x", b"abcdef")
    for stamps in (None, [stamp_of(address)]):
        with pytest.raises(
            DataFileError, match=rf"^bytes 2 to 9 of {re.escape(address)} cannot be read: it has 6 bytes; "
        ):
            ranges([address], [2], [9], stamps=stamps)
    place.put("x", b"abc")
    with pytest.raises(DataFileError):
        ranges([address], [4], [6])


@pytest.mark.parametrize(
    "content", [CONTENT[::-1], CONTENT[: SIZE // 2], b"x" * SIZE], ids=["reversed", "half", "other"]
)
def test_a_changed_object_is_told(place: "Place", content: bytes) -> None:
    address = place.put("x", CONTENT)
    stamp = stamp_of(address)
    place.put("x", content)
    with pytest.raises(
        DataFileError, match=r"changed while a source read it: it (was written to|has 524288 bytes where)"
    ):
        ranges([address], [7], [9], stamps=[stamp])
    with pytest.raises(DataFileError, match="changed while a source read it"):
        stamp.require_same(address)
    assert ranges([address], [7], [9], stamps=[stamp_of(address)]) == [content[7:9]]


def test_an_object_that_is_replaced_between_two_requests_is_told(place: "Place") -> None:
    address = place.put("x", CONTENT)
    stamp = stamp_of(address)
    starts = np.arange(0, SIZE, 1 << 17)
    place.faults.hook = lambda request: place.put("x", CONTENT[::-1]) if request.method == "GET" else None
    with pytest.raises(DataFileError, match="changed while a source read it"):
        ranges([address] * len(starts), starts, starts + 10, stamps=[stamp] * len(starts), threads=1)
    place.faults.hook = None


def test_a_removed_object_is_told(place: "Place") -> None:
    address = place.put("x", CONTENT)
    stamp = stamp_of(address)
    place.remove("x")
    with pytest.raises(DataFileError, match="changed while a source read it: it is gone; leave objects as they are"):
        ranges([address], [7], [9], stamps=[stamp])
    with pytest.raises(DataFileError, match="is gone: it was removed while a source read it"):
        stamp.require_same(address)


def test_two_threads_and_more(place: "Place") -> None:
    address = place.put("x", CONTENT)
    stamp = stamp_of(address)
    starts, ends = random_ranges(50, 3000)

    def read(number: int) -> bool:
        at = slice(number % 25, None)
        found = ranges([address] * len(starts[at]), starts[at], ends[at], stamps=[stamp] * len(starts[at]))
        return found == slices(CONTENT, starts[at], ends[at])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(40)))


# -- what only some servers do -------------------------------------------------------------------------------------------


def test_a_server_without_ranges_needs_a_cache(http_server: "HttpServer", tmp_path: Path) -> None:
    address = http_server.put("x", CONTENT)
    http_server.faults.takes_ranges = False
    assert ranges([address], [0], [SIZE]) == [CONTENT], "all of it is what it sends"
    refused = r"^bytes 7 to 9 of http.*/x cannot be read: its server takes no ranges, .*; set cache_dir, so that"
    with pytest.raises(ConfigError, match=refused):
        ranges([address], [7], [9])
    cache = Cache(str(tmp_path / "cache"))
    other = http_server.put("y", CONTENT[::-1])
    for _ in range(2):
        http_server.faults.requests.clear()
        found = ranges([address, other, address], [7, 8, 100], [9, 11, 200], cache=cache)
        assert found == [CONTENT[7:9], CONTENT[::-1][8:11], CONTENT[100:200]]
    assert http_server.faults.reads() == [], "each was fetched once"


def test_without_tags_the_time_says_that_an_object_changed(http_server: "HttpServer") -> None:
    http_server.faults.has_tags = False
    address = http_server.put("x", CONTENT)
    stamp = stamp_of(address)
    assert (stamp.etag, stamp.version) == ("", "")
    os.utime(http_server.folder / "x", (1, 1))
    with pytest.raises(DataFileError, match="changed while a source read it: it was written to or replaced"):
        ranges([address], [7], [9], stamps=[stamp])


def test_a_server_that_heeds_no_condition_is_found_out_by_its_answer(http_server: "HttpServer") -> None:
    http_server.faults.conditions = False
    address = http_server.put("x", CONTENT)
    stamp = stamp_of(address)
    http_server.put("x", CONTENT[::-1])
    with pytest.raises(DataFileError, match="changed while a source read it: it was written to or replaced"):
        ranges([address], [7], [9], stamps=[stamp])


def test_a_server_that_answers_slowly_is_waited_for_until_its_time_is_over(
    http_server: "HttpServer", quick_tries: None
) -> None:
    del quick_tries
    address = http_server.put("x", CONTENT)
    http_server.faults.delay = 0.3
    assert ranges([address], [7], [9]) == [CONTENT[7:9]]
    with pytest.raises(TimeoutError, match=r"^bytes 7 to 9 of http.*/x cannot be read: .*imeout.*\(tried 8 times in"):
        ranges([address], [7], [9], options={"client_kwargs": {"timeout": 0.05}})


def test_a_server_that_is_not_there_is_told(quick_tries: None) -> None:
    del quick_tries
    with pytest.raises(ConnectionError, match=r"^http://127\.0\.0\.1:1/x cannot be read: .*\(tried 8 times in"):
        stamp_of("http://127.0.0.1:1/x")


def test_wrong_and_missing_credentials_are_told(bucket: "Bucket", monkeypatch: pytest.MonkeyPatch) -> None:
    address = bucket.put("x", CONTENT)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    denied = r"^permission denied: s3://bucket-\w+/x \(.*\); credentials are taken from AWS_ACCESS_KEY_ID and"
    with pytest.raises(PermissionError, match=denied) as caught:
        ranges([address], [7], [9])
    assert "somebody-else" not in str(caught.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(PermissionError, match="Unable to locate credentials"):
        ranges([address], [7], [9])
    with pytest.raises(OSError, match=r"^bytes 7 to 9 of s3://bucket-\w+/x cannot be read: .*'nonsense'"):
        ranges([address], [7], [9], options={"config_kwargs": {"nonsense": 1}})


def test_a_version_of_an_object_is_read_as_it_was(s3_server: "S3Server") -> None:
    from remote_servers import Bucket  # noqa: PLC0415 - few tests need one

    bucket = Bucket(s3_server, "versions-of-objects", versions=True)
    address = bucket.put("x", CONTENT)
    stamp = stamp_of(address)
    assert stamp.version
    bucket.put("x", CONTENT[::-1])
    pinned = f"{address}?versionId={stamp.version}"
    assert stamp_of(pinned).is_same(stamp)
    assert ranges([pinned], [7], [9], stamps=[stamp]) == [CONTENT[7:9]]


# -- stamps --------------------------------------------------------------------------------------------------------------


def test_stamps_of_objects_are_compared_by_what_both_say() -> None:
    stamp = Stamp(3, 5_000_000_000, 0, "tag", "v1")
    assert stamp.is_same(Stamp(3, 0, 0, "tag"))
    assert stamp.is_same(Stamp(3, 0, 0, "other", "v1"))
    assert Stamp(3, 5_000_000_000, 0).is_same(Stamp(3, 5_999_999_999, 0, "tag"))
    assert not stamp.is_same(Stamp(4, 5_000_000_000, 0, "tag", "v1"))
    assert not stamp.is_same(Stamp(3, 5_000_000_000, 0, "other", "v2"))
    assert not Stamp(3, 5_000_000_000, 7).is_same(Stamp(3, 5_000_000_000, 8))
    assert Stamp(*list(stamp)) == stamp, "JSON keeps it"
