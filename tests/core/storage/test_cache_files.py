"""Whole files in the cache: fetched once, kept while they are in use, checked, and removed when others need their room."""

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datarax_core.storage import Cache, Stamp
from datarax_core.storage.cache import cache as cache_module

SIZE = 200_000


class Object:
    """An object of a store that is downloaded, which counts how often."""

    def __init__(self, number: int, size: int = SIZE, seconds: float = 0.0) -> None:
        self.content = np.random.default_rng(number).bytes(size)
        self.address, self.stamp = f"s3://bucket/{number}", Stamp(size, 0, 0, f"etag-{number}")
        self.times, self.seconds = 0, seconds

    def download(self, path: str) -> None:
        self.times += 1
        time.sleep(self.seconds)
        Path(path).write_bytes(self.content)

    def read(self, cache: Cache, **options: Any) -> bool:
        with cache.file(self.address, self.stamp, self.download, **options) as path:
            return Path(path).read_bytes() == self.content


@pytest.fixture(autouse=True)
def _warnings_of_each_test() -> None:
    cache_module._warned.clear()


def kept_files(folder: Path | str) -> list[Path]:
    return [path for path in Path(folder).glob("*/files/*") if not path.name.endswith((".json", ".part"))]


def test_a_file_is_fetched_once(tmp_path: Path) -> None:
    one = Object(1)
    for _ in range(2):
        assert one.read(Cache(str(tmp_path)))
    assert one.times == 1
    changed = one.stamp._replace(etag="another")
    with Cache(str(tmp_path)).file(one.address, changed, one.download):
        assert one.times == 2


def test_those_that_are_used_least_lately_go_first_and_those_in_use_never(tmp_path: Path) -> None:
    cache, objects = Cache(str(tmp_path), 3 * SIZE + 1000), [Object(n) for n in range(6)]
    with cache.file(objects[0].address, objects[0].stamp, objects[0].download) as held:
        for each in objects[1:]:
            assert each.read(cache)
            assert sum(path.stat().st_size for path in kept_files(tmp_path)) <= 3 * SIZE
            time.sleep(0.01)
        assert Path(held).read_bytes() == objects[0].content
        assert objects[0].read(Cache(str(tmp_path), 3 * SIZE + 1000))
    assert objects[0].times == 1
    assert objects[5].read(cache)
    assert objects[5].times == 1
    assert objects[1].read(cache)
    assert objects[1].times == 2


def test_a_file_that_has_no_room_beside_those_in_use_is_fetched_for_one_use(tmp_path: Path) -> None:
    cache, one, other = Cache(str(tmp_path), SIZE + 1000), Object(1), Object(2)
    with cache.file(one.address, one.stamp, one.download) as path:
        with (
            pytest.warns(
                UserWarning, match=r"s3://bucket/2 is not kept: it takes 200,000 bytes, and cache_bytes leaves"
            ),
            cache.file(other.address, other.stamp, other.download) as passing,
        ):
            assert Path(passing).read_bytes() == other.content
        assert not Path(passing).exists()
        assert Path(path).read_bytes() == one.content
        assert len(kept_files(tmp_path)) == 1


def test_what_is_held_and_not_needed_makes_room(tmp_path: Path) -> None:
    cache, one, other = Cache(str(tmp_path), SIZE + 1000), Object(1), Object(2)
    held = cache.file(one.address, one.stamp, one.download)
    assert other.read(cache, make_room=lambda: held.__exit__(None, None, None))
    assert len(kept_files(tmp_path)) == 1
    assert other.read(cache)
    assert other.times == 1


@pytest.mark.parametrize("damage", ["flipped", "cut", "note"])
def test_a_damaged_file_is_fetched_again(tmp_path: Path, damage: str) -> None:
    one = Object(1)
    assert one.read(Cache(str(tmp_path)))
    (path,) = kept_files(tmp_path)
    before = path.stat()
    if damage == "note":
        path.with_name(f"{path.name}.json").write_text("{")
    else:
        content = bytearray(one.content)
        content[5] ^= 1
        path.write_bytes(content if damage == "flipped" else content[:-1])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    cache = Cache(str(tmp_path))
    assert one.read(cache)
    assert one.times == 2
    assert one.read(Cache(str(tmp_path)))
    assert one.times == 2


def test_a_reader_that_checks_itself_asks_about_damage(tmp_path: Path) -> None:
    one, cache = Object(1), Cache(str(tmp_path))
    assert one.read(cache, verify=False)
    assert not cache.is_damaged(one.address, one.stamp)
    (path,) = kept_files(tmp_path)
    before = path.stat()
    path.write_bytes(bytes(SIZE))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not one.read(cache, verify=False)
    assert cache.is_damaged(one.address, one.stamp)
    assert one.read(cache, verify=False)
    assert one.times == 2


def test_threads_wait_for_the_one_that_fetches(tmp_path: Path) -> None:
    one, wrong = Object(1, seconds=0.2), []
    caches = [Cache(str(tmp_path)) for _ in range(2)]

    def read(number: int) -> Any:
        if not one.read(caches[number % 2]):
            wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not wrong
    assert one.times == 1


def test_those_that_wait_go_on_while_the_file_is_in_use(tmp_path: Path) -> None:
    one, cache, held = Object(1, seconds=0.3), Cache(str(tmp_path)), []
    threads = [
        threading.Thread(target=lambda: held.append(cache.file(one.address, one.stamp, one.download)), daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(held) == 4  # and none of them was closed
    assert one.times == 1


def test_a_download_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache, one = Cache(str(tmp_path)), Object(1)

    def fails(path: str) -> None:
        Path(path).write_bytes(one.content[:100])
        raise ConnectionResetError("the store went away")

    with pytest.raises(ConnectionResetError, match="the store went away"):
        cache.file(one.address, one.stamp, fails)
    with pytest.raises(ConnectionError, match="100 bytes came of a file of 200,000"):
        cache.file(one.address, one.stamp, lambda path: Path(path).write_bytes(one.content[:100]) and None)
    assert not list(tmp_path.glob("*/files/*"))
    assert one.read(cache)


def test_a_folder_that_takes_nothing_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache, one = Cache(str(tmp_path / "file" / "cache")), Object(1)
    with pytest.warns(UserWarning, match="s3://bucket/1 is not kept: .*Not a directory"):
        assert one.read(cache)
    assert one.read(cache)


def test_an_object_that_is_not_told_from_a_changed_one_is_not_kept(tmp_path: Path) -> None:
    cache, one = Cache(str(tmp_path)), Object(1)
    one.stamp = Stamp(SIZE, 0, 0)
    with pytest.warns(UserWarning, match="neither an etag nor a version"):
        assert one.read(cache)
    assert one.read(cache)
    assert one.times == 2
    assert not list(tmp_path.glob("*/files/*"))


def test_messages_and_the_folder_hold_no_credentials(tmp_path: Path) -> None:
    cache, one = Cache(str(tmp_path), SIZE // 2), Object(1)
    one.address = "https://user:secret@host/file?X-Amz-Signature=secret"
    with pytest.warns(UserWarning, match="is not kept") as warned:
        assert one.read(cache)
    assert "secret" not in str(warned[0].message)
    assert one.read(Cache(str(tmp_path)))
    for path in tmp_path.rglob("*"):
        assert "secret" not in path.name
        assert not path.name.endswith(".json") or set(json.loads(path.read_text())) == {"size", "crc32", "mtime_ns"}


@pytest.mark.parametrize("when", ["before it is written", "after it"])
def test_a_folder_that_is_removed_while_a_file_is_fetched_is_made_anew(tmp_path: Path, when: str) -> None:
    cache, one = Cache(str(tmp_path)), Object(1)

    def download(path: str) -> None:
        if when == "before it is written" and not one.times:
            shutil.rmtree(tmp_path / "datarax-1")
        one.times += 1
        Path(path).write_bytes(one.content)
        if when == "after it" and one.times == 1:
            shutil.rmtree(tmp_path / "datarax-1")

    for _ in range(2):
        with cache.file(one.address, one.stamp, download) as path:
            assert Path(path).read_bytes() == one.content
    assert one.times == 2
    assert len(kept_files(tmp_path)) == 1
