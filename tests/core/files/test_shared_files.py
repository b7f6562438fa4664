"""Open files that several threads may read at once: opened once, lent to all, and closed when the last one is done."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datarax_core.files import FileTable, OpenFiles, require_file


class File:
    """An open file, shared or not."""

    opened: int = 0
    closed: int = 0
    may_be_shared = True

    def __init__(self, path: str) -> None:
        type(self).opened += 1
        self.path, self.users, self.most = path, 1, 1

    def close(self) -> None:
        type(self).closed += 1


class Exclusive(File):
    may_be_shared = False


def pool(folder: Path, kind: type[File]) -> OpenFiles[File]:
    kind.opened = kind.closed = 0
    path = folder / "x"
    path.write_bytes(b"x")
    return OpenFiles(FileTable.of([str(path)], [1], [require_file(str(path))]), kind)


@pytest.mark.parametrize(("kind", "opened"), [(File, 1), (Exclusive, 4)])
def test_a_file_that_may_be_shared_is_opened_once(tmp_path: Path, kind: type[File], opened: int) -> None:
    files, meeting = pool(tmp_path, kind), threading.Barrier(4, timeout=30)

    def read(file: File) -> int:
        meeting.wait()  # all four use a file now
        return file.users

    with ThreadPoolExecutor(4) as threads:
        users = list(threads.map(lambda _: files.use(0, read), range(4)))
    assert kind.opened == opened
    assert max(users) <= (4 if kind is File else 1)
    assert files.use(0, lambda file: file.users) == 1
    files.close()
    assert kind.closed == opened


def test_a_shared_file_is_closed_after_an_error_when_nobody_uses_it_any_more(tmp_path: Path) -> None:
    files, failed, go_on = pool(tmp_path, File), threading.Event(), threading.Event()

    def slow(_: File) -> int:
        failed.wait(30)
        return File.closed

    def fail(_: File) -> None:
        raise ValueError("no record")

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(files.use, 0, slow)
        while File.opened < 1:
            go_on.wait(0.001)
        with pytest.raises(ValueError, match="no record"):
            files.use(0, fail)
        failed.set()
        assert reading.result(30) == 0, "another thread reads it yet"
    assert (File.opened, File.closed) == (1, 1)
    files.use(0, lambda file: None)  # noqa: ARG005 - a reader of nothing
    assert File.opened == 2
