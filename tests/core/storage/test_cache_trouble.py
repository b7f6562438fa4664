"""The cache of several processes, killed ones among them, and on disks that are full, limited or read only."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datarax_core.storage import Cache, Stamp
from datarax_core.storage.cache import cache as cache_module

BLOCK = 1 << 12
CONTENT = np.random.default_rng(0).bytes(64 * BLOCK)
STAMP = Stamp(len(CONTENT), 0, 0, "etag")

_CHILD = f"""
import os, signal, sys, time, warnings
import numpy as np
from pathlib import Path
from datarax_core.storage import Cache, Stamp
BLOCK = {BLOCK}
CONTENT = np.random.default_rng(0).bytes(64 * BLOCK)
STAMP = Stamp(len(CONTENT), 0, 0, "etag")
folder = sys.argv[1]
def fetch(starts, ends):
    return [CONTENT[a:b] for a, b in zip(starts, ends, strict=True)]
"""


@pytest.fixture(autouse=True)
def _warnings_of_each_test() -> None:
    cache_module._warned.clear()


def child(code: str, *arguments: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _CHILD + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603


def finished(process: "subprocess.Popen[str]") -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def fetch(starts: Any, ends: Any) -> list[bytes]:
    return [CONTENT[start:end] for start, end in zip(starts, ends, strict=True)]


def cache_in(folder: Path, limit: int | None = None) -> Cache:
    return Cache(str(folder), limit, block_bytes=BLOCK)


def is_right(cache: Cache) -> bool:
    starts = np.arange(0, len(CONTENT), 1000)
    ends = np.minimum(starts + 1000, len(CONTENT))
    return cache.ranges("s3://b/k", STAMP, starts, ends, fetch) == fetch(starts, ends)


@pytest.mark.parametrize("when", ["within the block", "before its checksum"])
def test_a_block_that_a_killed_process_was_writing_is_not_there(tmp_path: Path, when: str) -> None:
    process = child(
        """
        write = os.pwrite
        def killed(fd, content, at):
            if len(content) == BLOCK and sys.argv[2] == "within the block":
                write(fd, content[: BLOCK // 2], at)
                os.kill(os.getpid(), signal.SIGKILL)
            if len(content) == 8:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(fd, content, at)
        os.pwrite = killed
        Cache(folder, block_bytes=BLOCK).ranges("s3://b/k", STAMP, [5 * BLOCK], [6 * BLOCK], fetch)
        """,
        tmp_path,
        when,
    )
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert is_right(cache_in(tmp_path))
    assert cache_in(tmp_path).ranges("s3://b/k", STAMP, [0], [len(CONTENT)], lambda *_: []) == [CONTENT]


def test_processes_that_are_killed_at_any_moment_leave_nothing_wrong(tmp_path: Path) -> None:
    limit = 40 * BLOCK
    code = """
    warnings.simplefilter("ignore")
    cache = Cache(folder, 40 * BLOCK, block_bytes=BLOCK)
    rng = np.random.default_rng(int(sys.argv[2]))
    print("begun", flush=True)
    while True:
        starts = rng.integers(0, len(CONTENT) - BLOCK, 20)
        assert cache.ranges("s3://b/k", STAMP, starts, starts + 100, fetch) == fetch(starts, starts + 100)
        number = int(rng.integers(5))
        with cache.file(f"s3://b/{number}", STAMP._replace(size=5 * BLOCK), lambda path: Path(path).write_bytes(CONTENT[:5 * BLOCK])) as path:
            assert Path(path).read_bytes() == CONTENT[: 5 * BLOCK]
    """  # noqa: E501
    for seed in range(3):
        pair = [child(code, tmp_path, 2 * seed + each) for each in range(2)]
        for process in pair:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        time.sleep(0.1 + 0.07 * seed)
        for process in pair:
            process.kill()
            _, err = process.communicate(timeout=20)
            assert "Error" not in err
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert is_right(cache_in(tmp_path, limit))
    taken = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "state"]
    assert not [path for path in taken if path.name.endswith(".part")]
    # a block that was written and not marked is counted once it is written again
    assert sum(path.stat().st_blocks * 512 for path in taken if path.suffix != ".json") <= limit + 6 * BLOCK


def test_a_download_of_a_killed_process_is_begun_anew(tmp_path: Path) -> None:
    process = child(
        """
        def download(path):
            Path(path).write_bytes(CONTENT[:1000])
            os.kill(os.getpid(), signal.SIGKILL)
        Cache(folder).file("s3://b/k", STAMP, download)
        """,
        tmp_path,
    )
    process.communicate(timeout=60)
    assert [path.suffix for path in tmp_path.glob("*/files/*")] == [".part"]
    cache = cache_in(tmp_path)
    assert is_right(cache)  # whatever is stored next removes it
    assert not list(tmp_path.glob("*/files/*"))
    with cache.file("s3://b/k", STAMP, lambda path: Path(path).write_bytes(CONTENT) and None) as path:
        assert Path(path).read_bytes() == CONTENT


def test_two_processes_share_one_cache_and_fetch_a_file_once(tmp_path: Path) -> None:
    code = """
    times = []
    def download(path):
        times.append(1)
        time.sleep(0.5)
        Path(path).write_bytes(CONTENT)
    cache = Cache(folder, 1 << 30, block_bytes=BLOCK)
    with cache.file("s3://b/k", STAMP, download) as path:
        assert Path(path).read_bytes() == CONTENT
    fetched = []
    def counted(starts, ends):
        fetched.extend(starts)
        return fetch(starts, ends)
    for seed in range(200):
        starts = np.random.default_rng(seed).integers(0, len(CONTENT) - BLOCK, 20)
        assert cache.ranges("s3://b/k", STAMP, starts, starts + 100, counted) == fetch(starts, starts + 100)
    print(len(times), len(fetched))
    """
    answers = [finished(process).split() for process in [child(code, tmp_path) for _ in range(2)]]
    assert sum(int(times) for times, _ in answers) == 1
    assert 64 <= sum(int(fetched) for _, fetched in answers) <= 128
    cache = cache_in(tmp_path, 1 << 30)
    assert cache.ranges("s3://b/k", STAMP, [0], [len(CONTENT)], lambda *_: []) == [CONTENT]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user cannot mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S603, S607


def test_on_a_full_disk_every_read_is_served_with_one_warning(small_disk: Path) -> None:
    cache = cache_in(small_disk, 1 << 30)
    with pytest.warns(UserWarning, match="served without being kept: .*No space left") as warned:
        assert is_right(cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            assert is_right(cache)
            assert is_right(cache_in(small_disk, 1 << 30))
    assert len(warned) == 1


def test_a_file_that_a_full_disk_does_not_take_is_put_where_there_is_room(small_disk: Path) -> None:
    cache = cache_in(small_disk, 1 << 30)

    def download(path: str) -> None:
        Path(path).write_bytes(CONTENT)

    with (
        pytest.warns(UserWarning, match="s3://b/k is not kept: .*No space left"),
        cache.file("s3://b/k", STAMP, download) as path,
    ):
        assert Path(path).read_bytes() == CONTENT
    assert not Path(path).exists()
    assert not list(small_disk.glob("*/files/*"))


def test_a_disk_that_is_read_only_serves_what_it_has(small_disk: Path) -> None:
    cache = cache_in(small_disk)
    assert cache.ranges("s3://b/k", STAMP, [0], [3 * BLOCK], fetch) == [CONTENT[: 3 * BLOCK]]
    del cache
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)  # noqa: S603, S607
    cache = cache_in(small_disk)
    assert cache.ranges("s3://b/k", STAMP, [5], [3 * BLOCK], lambda *_: []) == [CONTENT[5 : 3 * BLOCK]]
    with pytest.warns(UserWarning, match="served without being kept: .*Read-only file system"):
        assert is_right(cache)
    assert is_right(cache)


def test_a_limit_of_file_sizes_is_as_a_full_disk(tmp_path: Path) -> None:
    process = child(
        """
        import resource
        warnings.simplefilter("always")
        resource.setrlimit(resource.RLIMIT_FSIZE, (10 * BLOCK, 10 * BLOCK))
        cache = Cache(folder, block_bytes=BLOCK)
        for _ in range(2):
            for start in range(0, len(CONTENT), BLOCK):
                assert cache.ranges("s3://b/k", STAMP, [start], [start + 10], fetch) == [CONTENT[start : start + 10]]
        try:
            cache.file("s3://b/k", STAMP, lambda path: Path(path).write_bytes(CONTENT))
        except OSError as error:
            print(error)
        """,
        tmp_path,
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err.count("UserWarning: the cache in") == 1
    assert "File too large" in err
    assert "is read as a whole file, and no disk takes it" in out
    assert is_right(cache_in(tmp_path))
    assert os.listdir(next(tmp_path.glob("*/files"))) == []  # noqa: PTH208
