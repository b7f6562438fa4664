"""The cache of blocks: what it serves, what it fetches, what it keeps, and what a trouble of the disk does to it."""

import contextlib
import os
import pickle
import shutil
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import in_fork

from datarax_core.storage import Cache, Stamp
from datarax_core.storage.cache import cache as cache_module

BLOCK = 1 << 12
CONTENT = np.random.default_rng(0).bytes(40 * BLOCK + 1234)
ADDRESS = "s3://bucket/train.bin"
STAMP = Stamp(len(CONTENT), 0, 0, "etag-1")


class Store:
    """A store of one object, which notes what is fetched."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.fetched: list[tuple[int, int]] = []

    def __call__(self, starts: np.ndarray, ends: np.ndarray) -> list[bytes]:
        self.fetched += zip(starts, ends, strict=True)
        return [self.content[start:end] for start, end in zip(starts, ends, strict=True)]

    @property
    def num_bytes(self) -> int:
        return sum(end - start for start, end in self.fetched)


@pytest.fixture(autouse=True)
def _warnings_of_each_test() -> None:
    cache_module._warned.clear()


@pytest.fixture
def store() -> Store:
    return Store()


def cache_in(folder: Path | str, limit: int | None = None) -> Cache:
    return Cache(str(folder), limit, block_bytes=BLOCK)


def some_ranges(seed: int, count: int = 50) -> tuple[np.ndarray, np.ndarray]:
    rng, size, longest = np.random.default_rng(seed), len(CONTENT), 3 * BLOCK
    starts = rng.integers(0, size, count)
    return starts, np.minimum(starts + rng.integers(0, longest, count), size)


def bytes_of(starts: np.ndarray, ends: np.ndarray, content: bytes = CONTENT) -> Any:
    return [content[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def taken(folder: Path | str) -> int:
    """Bytes that the blocks and files in a folder take on the disk, as the system counts them."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != "state"]
    return sum(path.stat().st_blocks * 512 for path in paths)


def test_what_was_fetched_once_is_served_from_the_disk_by_any_cache_of_the_folder(tmp_path: Path, store: Store) -> None:
    cache = cache_in(tmp_path)
    for seed in range(5):
        starts, ends = some_ranges(seed)
        assert cache.ranges(ADDRESS, STAMP, starts, ends, store) == bytes_of(starts, ends)
    assert len(store.fetched) == len(set(store.fetched))
    assert all(start % BLOCK == 0 and end == min(start + BLOCK, len(CONTENT)) for start, end in store.fetched)
    other = Store()
    unpickled = pickle.loads(pickle.dumps(cache))  # noqa: S301
    for each in (cache, cache_in(tmp_path), unpickled):
        for seed in range(5):
            starts, ends = some_ranges(seed)
            assert each.ranges(ADDRESS, STAMP, starts, ends, other) == bytes_of(starts, ends)
    assert not other.fetched


@pytest.mark.parametrize("gap", [0, 16, 64, 65, -10])
def test_ranges_that_follow_one_another_are_those_that_were_asked_for(tmp_path: Path, store: Store, gap: int) -> None:
    starts = np.arange(0, len(CONTENT) - 400, 300 + gap)
    cache = cache_in(tmp_path, 64 * BLOCK)  # in segments of four blocks
    for _ in range(2):
        assert cache.ranges(ADDRESS, STAMP, starts, starts + 300, store) == bytes_of(starts, starts + 300)
    everything = np.asarray([0, 5, 5]), np.asarray([len(CONTENT), 5, len(CONTENT)])
    assert cache.ranges(ADDRESS, STAMP, *everything, store) == bytes_of(*everything)


def test_an_empty_range_fetches_nothing(tmp_path: Path, store: Store) -> None:
    assert cache_in(tmp_path).ranges(ADDRESS, STAMP, [7, 9999], [7, 9999], store) == [b"", b""]
    assert cache_in(tmp_path).ranges(ADDRESS, STAMP, [], [], store) == []
    assert not store.fetched


def test_what_several_objects_lack_is_fetched_with_one_call(tmp_path: Path) -> None:
    contents = [bytes([number]) * (3 * BLOCK) for number in range(4)]
    objects = [(f"s3://bucket/{number}", Stamp(3 * BLOCK, 0, 0, "same")) for number in range(4)]
    calls = []

    def fetch(of: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Any:
        calls.append(len(of))
        return [contents[o][a:b] for o, a, b in zip(of, starts, ends, strict=True)]

    cache = cache_in(tmp_path)
    of, starts = np.arange(8) % 4, np.arange(8) * 1000
    for _ in range(2):
        found = cache.ranges_of(objects, of, starts, starts + 100, fetch)
        assert found == [contents[o][a : a + 100] for o, a in zip(of, starts, strict=True)]
    assert calls == [8]


@pytest.mark.parametrize(
    "changed",
    [Stamp(len(CONTENT), 0, 0, "etag-2"), Stamp(len(CONTENT), 5 * 10**9, 0), Stamp(len(CONTENT), 0, 0, "", "7")],
)
def test_a_changed_object_is_fetched_anew(tmp_path: Path, store: Store, changed: Stamp) -> None:
    cache = cache_in(tmp_path)
    cache.ranges(ADDRESS, STAMP, [0], [10], store)
    new = Store(bytes(len(CONTENT)))
    assert cache.ranges(ADDRESS, changed, [0], [10], new) == [bytes(10)]
    assert cache.ranges(ADDRESS, STAMP, [0], [10], store) == [CONTENT[:10]]


def test_an_object_that_is_not_told_from_a_changed_one_is_not_kept(tmp_path: Path, store: Store) -> None:
    cache = cache_in(tmp_path)
    unknown = Stamp(len(CONTENT), 0, 0)
    with pytest.warns(UserWarning, match="neither an etag nor a version nor a time"):
        assert cache.ranges("https://host/a", unknown, [5], [25], store) == [CONTENT[5:25]]
    assert cache.ranges("https://host/a", unknown, [5], [25], store) == [CONTENT[5:25]]
    assert store.fetched == [(5, 25)] * 2


@pytest.mark.parametrize("damage", ["flipped", "zeroed", "cut"])
def test_a_damaged_block_is_fetched_again_and_replaced(tmp_path: Path, store: Store, damage: str) -> None:
    everything = np.arange(0, len(CONTENT), 1000)
    ends = np.minimum(everything + 1000, len(CONTENT))
    cache_in(tmp_path).ranges(ADDRESS, STAMP, everything, ends, store)
    (segment,) = tmp_path.glob("*/blocks/*/*/*/*")
    stored = bytearray(segment.read_bytes())
    at = 4096 + 20 * BLOCK + 100
    if damage == "flipped":
        stored[at] ^= 1
    elif damage == "zeroed":
        stored[at : at + 512] = bytes(512)
    else:
        del stored[at:]
    segment.write_bytes(stored)
    store.fetched.clear()
    cache = cache_in(tmp_path)
    assert cache.ranges(ADDRESS, STAMP, everything, ends, store) == bytes_of(everything, ends)
    assert (20 * BLOCK, 21 * BLOCK) in store.fetched
    assert len(store.fetched) == (21 if damage == "cut" else 1)
    store.fetched.clear()
    assert cache_in(tmp_path).ranges(ADDRESS, STAMP, everything, ends, store) == bytes_of(everything, ends)
    assert not store.fetched


def test_a_segment_that_is_cut_while_it_is_read_is_made_anew(tmp_path: Path, store: Store) -> None:
    cache = cache_in(tmp_path)
    cache.ranges(ADDRESS, STAMP, [0], [5 * BLOCK], store)
    (segment,) = tmp_path.glob("*/blocks/*/*/*/*")
    os.truncate(segment, 4096 + 10)
    assert cache.ranges(ADDRESS, STAMP, [0], [5 * BLOCK], store) == [CONTENT[: 5 * BLOCK]]


@pytest.mark.filterwarnings("ignore:the cache in .*more is read")
def test_the_limit_is_kept_and_what_was_used_least_lately_goes_first(tmp_path: Path) -> None:
    limit = 64 * BLOCK
    contents = {f"s3://bucket/{n}": np.random.default_rng(n).bytes(8 * BLOCK) for n in range(30)}
    stamp = Stamp(8 * BLOCK, 0, 0, "x")
    cache = cache_in(tmp_path, limit)
    for number, (address, content) in enumerate(contents.items()):
        store = Store(content)
        assert cache.ranges(address, stamp, [100], [8 * BLOCK], store) == [content[100:]]
        first = Store(contents["s3://bucket/0"])
        assert cache.ranges("s3://bucket/0", stamp, [0], [8 * BLOCK], first) == [first.content]
        assert number == 0 or not first.fetched  # it is used all the time
        assert taken(tmp_path) <= limit
    kept = [n for n in range(30) if not _fetches(cache, f"s3://bucket/{n}", stamp)]
    assert 0 in kept
    assert 29 in kept
    assert len(kept) <= 8


def _fetches(cache: Cache, address: str, stamp: Stamp) -> bool:
    looked: list[Any] = []

    def fetch(*wanted: Any) -> list[bytes]:
        looked.append(wanted)
        raise LookupError

    with contextlib.suppress(LookupError):
        Cache(cache.folder, cache.limit, block_bytes=BLOCK).ranges(address, stamp, [0], [1], fetch)
    return bool(looked)


def test_a_limit_below_what_one_call_reads_serves_it_all(tmp_path: Path, store: Store) -> None:
    cache = cache_in(tmp_path, 16 * BLOCK)
    starts, ends = some_ranges(1, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            assert cache.ranges(ADDRESS, STAMP, starts, ends, store) == bytes_of(starts, ends)
            assert taken(tmp_path) <= 16 * BLOCK


def test_a_limit_below_four_blocks_keeps_nothing_and_says_so(tmp_path: Path, store: Store) -> None:
    cache = cache_in(tmp_path, 2 * BLOCK)
    with pytest.warns(UserWarning, match=r"cache_bytes=8192 has no room for 4 blocks of 4,096 bytes; give it more"):
        assert cache.ranges(ADDRESS, STAMP, [5], [25], store) == [CONTENT[5:25]]
    assert store.fetched == [(5, 25)]


def test_blocks_are_not_fetched_whole_for_a_few_bytes_once_the_cache_cannot_hold_what_is_read(
    tmp_path: Path, store: Store
) -> None:
    cache = cache_in(tmp_path, 16 * BLOCK)
    rng = np.random.default_rng(0)
    with pytest.warns(UserWarning, match="more is read than cache_bytes=65536 holds"):  # noqa: PT031
        for _ in range(30):
            starts = rng.integers(0, len(CONTENT) - 100, 16)
            assert cache.ranges(ADDRESS, STAMP, starts, starts + 100, store) == bytes_of(starts, starts + 100)
    store.fetched.clear()
    for _ in range(30):
        starts = rng.integers(0, len(CONTENT) - 100, 16)
        assert cache.ranges(ADDRESS, STAMP, starts, starts + 100, store) == bytes_of(starts, starts + 100)
    assert store.num_bytes <= 30 * 16 * 100  # and less, by what is kept
    assert store.num_bytes < 0.9 * 30 * 16 * 100


def test_threads_fetch_each_block_once(tmp_path: Path) -> None:
    store, barrier = Store(), threading.Barrier(6)

    def slow(starts: np.ndarray, ends: np.ndarray) -> Any:
        time.sleep(0.05)
        return store(starts, ends)

    cache, wrong = cache_in(tmp_path), []

    def read(seed: int) -> Any:
        barrier.wait()
        starts, ends = some_ranges(seed, 30)
        if cache.ranges(ADDRESS, STAMP, starts, ends, slow) != bytes_of(starts, ends):
            wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not wrong
    assert len(store.fetched) == len(set(store.fetched)) <= 41


def test_an_error_of_the_store_reaches_the_reader_and_the_next_read_fetches(tmp_path: Path, store: Store) -> None:
    cache = cache_in(tmp_path)

    def fails(*_: Any) -> list[bytes]:
        raise ConnectionError("the store is away")

    for _ in range(2):
        with pytest.raises(ConnectionError, match="the store is away"):
            cache.ranges(ADDRESS, STAMP, [0], [10], fails)
    with pytest.raises(ConnectionError, match="bytes 0 to 4096 were asked for, and 10 bytes came"):
        cache.ranges(ADDRESS, STAMP, [0], [10], lambda *_: [CONTENT[:10]])
    assert cache.ranges(ADDRESS, STAMP, [0], [10], store) == [CONTENT[:10]]


def test_a_folder_that_cannot_be_made_is_a_warning_and_every_read_is_served(tmp_path: Path, store: Store) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = cache_in(tmp_path / "file" / "cache")
    with pytest.warns(UserWarning, match="served without being kept.*Not a directory") as warned:  # noqa: PT031
        for _ in range(3):
            assert cache.ranges(ADDRESS, STAMP, [5], [25], store) == [CONTENT[5:25]]
    assert len(warned) == 1


def test_a_folder_that_is_removed_while_a_cache_uses_it_is_made_anew(tmp_path: Path, store: Store) -> None:
    cache = cache_in(tmp_path / "cache")
    cache.ranges(ADDRESS, STAMP, [0], [10], store)
    shutil.rmtree(tmp_path / "cache")
    assert cache.ranges(ADDRESS, STAMP, [9 * BLOCK], [9 * BLOCK + 10], store) == [CONTENT[9 * BLOCK : 9 * BLOCK + 10]]
    store.fetched.clear()
    cache_in(tmp_path / "cache").ranges(ADDRESS, STAMP, [9 * BLOCK], [9 * BLOCK + 10], store)
    assert not store.fetched


def test_a_fork_reads_and_stores(tmp_path: Path, store: Store) -> None:
    cache = cache_in(tmp_path)
    cache.ranges(ADDRESS, STAMP, [0], [10], store)

    def is_right() -> bool:
        right = [CONTENT[:10], CONTENT[9 * BLOCK : 9 * BLOCK + 5]]
        return cache.ranges(ADDRESS, STAMP, [0, 9 * BLOCK], [10, 9 * BLOCK + 5], store) == right

    assert in_fork(is_right) is True
    assert cache.ranges(ADDRESS, STAMP, [9 * BLOCK], [10 * BLOCK], lambda *_: []) == [CONTENT[9 * BLOCK : 10 * BLOCK]]
