"""Objects as file objects and in pieces, over files of this machine, which `RangeReader` reads by the same calls."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core.storage import ObjectFile, RangeReader

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()


class Ranges:
    """Reads ranges of `CONTENT`, and notes them."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[int, int]]] = []

    def __call__(self, starts: Any, ends: Any) -> list[bytes]:
        self.calls.append(list(zip(starts, ends, strict=True)))
        return [CONTENT[start:end] for start, end in self.calls[-1]]


@settings(max_examples=60, deadline=None)
@given(
    fetched=st.lists(st.tuples(st.integers(-10, 310_000), st.integers(0, 90_000)), max_size=5),
    reads=st.lists(st.tuples(st.integers(0, 310_000), st.integers(0, 200_000)), min_size=1, max_size=8),
)
def test_reads_are_those_of_a_file(fetched: list[tuple[int, int]], reads: list[tuple[int, int]]) -> None:
    file = ObjectFile(len(CONTENT), Ranges())
    file.fetch([start for start, _ in fetched], [start + size for start, size in fetched])
    stream, expected = io.BufferedReader(file, 100), io.BytesIO(CONTENT)
    for at, size in reads:
        assert stream.seek(at) == expected.seek(at)
        assert stream.read(size) == expected.read(size)
        assert stream.tell() == expected.tell()
    assert stream.seek(-5, io.SEEK_END) == len(CONTENT) - 5
    assert stream.read() == CONTENT[-5:]


def test_what_was_fetched_is_not_read_again() -> None:
    read = Ranges()
    file = ObjectFile(len(CONTENT), read)
    file.fetch([0, 200_000], [50, 250_000])
    file.hold(100_000, CONTENT[100_000:100_100])
    for at, size in ((0, 50), (200_010, 40_000), (100_050, 50)):
        file.seek(at)
        assert file.read(size) == CONTENT[at : at + size]
    assert read.calls == [[(0, 50), (200_000, 250_000)]]
    file.seek(1000)
    assert file.read(10) == CONTENT[1000:1010]
    assert read.calls[1:] == [[(1000, 1000 + (64 << 10))]]
    with pytest.raises(OSError, match="there is no position -1 in a file"):
        file.seek(-1)


@pytest.mark.parametrize("size", [1 << 14, 100_000, 300_000, 1 << 20])
@pytest.mark.parametrize("begin", [0, 12_345, 299_999, 300_000])
def test_pieces_follow_one_another(tmp_path: Path, size: int, begin: int) -> None:
    (tmp_path / "x").write_bytes(CONTENT)
    path, reader = str(tmp_path / "x"), RangeReader()
    (stamp,) = reader.stamps([path])
    assert b"".join(reader.pieces(path, stamp, begin, size)) == CONTENT[begin:]
    left = reader.pieces(path, stamp, begin, size)
    next(left, b"")
    left.close()
    for thread in threading.enumerate():
        if thread.name == "datarax-pieces-of-object":
            thread.join(5)
            assert not thread.is_alive()
