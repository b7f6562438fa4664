"""Tables of files, pools of open files and ``local_files_only``, with real files of rows of 8 bytes."""

import os
import pickle
import re
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from datarax_core import DataFileError, LocalFilesOnlyMixin, RecordError
from datarax_core.sources import FileTable, OpenFiles, Stamp, require_file

ROW_BYTES = 8


def row_of(record: int) -> bytes:
    """Return the content of a record."""
    return b"%08d" % record


class RowReader:
    """Reader of an open file of rows; for one thread at a time, as the seek shows."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("rb")  # noqa: SIM115 - close() closes it, and so does the end of the object

    def read(self, rows: Sequence[int]) -> list[bytes]:
        found = []
        for row in rows:
            self._file.seek(row * ROW_BYTES)
            found.append(self._file.read(ROW_BYTES))
        return found

    def close(self) -> None:
        self._file.close()


def write(folder: Path, counts: Sequence[int]) -> list[str]:
    """Write files of so many records each, numbered over all files; return their paths."""
    paths, first = [], 0
    for number, count in enumerate(counts):
        path = folder / f"{number}.rows"
        path.write_bytes(b"".join(map(row_of, range(first, first + count))))
        paths.append(str(path))
        first += count
    return paths


def table_of(paths: Sequence[str]) -> FileTable:
    stamps = [require_file(path) for path in paths]
    return FileTable.of(paths, [stamp.size // ROW_BYTES for stamp in stamps], stamps)


def read(table: FileTable, files: OpenFiles[RowReader], records: Sequence[int] | np.ndarray) -> list[bytes]:
    return table.read_by_part(
        np.asarray(records, np.int64), lambda part, rows: files.use(part, lambda reader: reader.read(rows))
    )


def num_open(paths: Sequence[str]) -> int:
    """Return how many descriptors of this process are of these files."""
    targets = [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()]
    return sum(target in paths for target in targets)


# -- stamps -------------------------------------------------------------------------------------------------------------


def test_a_stamp_is_of_a_path_or_a_descriptor(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [3])
    with Path(path).open("rb") as file:
        assert Stamp.of(path) == Stamp.of(file.fileno())
    assert Stamp.of(path).size == 24


@pytest.mark.parametrize("is_given", [False, True], ids=["looked at", "given"])
def test_a_file_that_changed_is_refused_with_the_reason(tmp_path: Path, *, is_given: bool) -> None:
    (path,) = write(tmp_path, [3])
    stamp = Stamp.of(path)
    stamp.require_same(path)

    def message() -> str:
        with pytest.raises(DataFileError) as caught:
            stamp.require_same(path, Stamp.of(path) if is_given else None)
        assert caught.value.path == path
        return str(caught.value)

    os.utime(path, ns=(0, 0))
    advice = "; leave files as they are, and build the source anew"
    assert message() == f"{path} changed while a source read it: it was written to or replaced{advice}"
    os.truncate(path, 8)
    assert message() == f"{path} changed while a source read it: it has 8 bytes where it had 24{advice}"


def test_a_file_that_was_removed_is_refused(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [3])
    stamp = Stamp.of(path)
    Path(path).unlink()
    message = rf"^{path} is gone: it was removed while a source read it \(No such file or directory\)$"
    with pytest.raises(DataFileError, match=message):
        stamp.require_same(path)


# -- files that can be read ---------------------------------------------------------------------------------------------


def test_an_ordinary_file_gives_its_stamp(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [3])
    assert require_file(path) == Stamp.of(path)


@pytest.mark.parametrize(("advice", "end"), [("", ""), ("copy it here", "; copy it here")])
def test_a_missing_file_is_named_with_advice(tmp_path: Path, advice: str, end: str) -> None:
    path = str(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=f"^no such file: {path}{end}$"):
        require_file(path, advice)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [3])
    Path(path).chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(PermissionError, match=f"^permission denied: {path}; make the file readable for this user$"):
        require_file(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_folder_or_a_pipe_is_refused_and_not_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "thing"
    make(path)
    with pytest.raises(DataFileError, match=f"^{path} is no ordinary file, but a folder, a pipe or a device$"):
        require_file(str(path))


# -- tables -------------------------------------------------------------------------------------------------------------


def test_records_count_over_all_files_in_their_order(tmp_path: Path) -> None:
    paths = write(tmp_path, [3, 0, 2])
    table = table_of(paths)
    assert table.num_records == 5
    assert table.counts.tolist() == [3, 0, 2]
    records = np.arange(5)
    parts = table.parts_of(records)
    assert parts.tolist() == [0, 0, 0, 2, 2]
    assert table.rows_of(records, parts).tolist() == [0, 1, 2, 0, 1]
    assert [table.place(record) for record in (2, 4)] == [(paths[0], 2), (paths[2], 1)]


def test_parts_are_rows_of_files_and_several_may_be_of_one_file(tmp_path: Path) -> None:
    paths = write(tmp_path, [10, 10])
    stamps = [Stamp.of(path) for path in (paths[1], paths[0], paths[0])]
    table = FileTable.of([paths[1], paths[0], paths[0]], [2, 3, 1], stamps, first_rows=[4, 0, 9])
    files = OpenFiles(table, RowReader)
    expected = [14, 15, 0, 1, 2, 9]
    assert read(table, files, range(6)) == [row_of(record) for record in expected]
    assert table.place(5) == (paths[0], 9)
    assert num_open(paths) == 2
    files.close()


def test_a_table_of_no_files_has_no_records() -> None:
    table = FileTable.of([], [], [])
    assert table.num_records == 0
    assert table.read_by_part(np.empty(0, np.int64), lambda _part, rows: rows) == []


def test_a_table_needs_a_count_and_a_stamp_for_each_path(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [3])
    message = r"^a file table has one count, stamp and first row for each of its 1 paths, not 2, 1 and 1$"
    with pytest.raises(ValueError, match=message):
        FileTable.of([path], [1, 2], [None])


def test_each_part_is_read_once_with_ascending_rows(tmp_path: Path) -> None:
    table = table_of(write(tmp_path, [10, 0, 10]))
    calls = []

    def rows_read(part: int, rows: list[int]) -> list[tuple[int, int]]:
        calls.append((part, rows))
        return [(part, row) for row in rows]

    records = [13, 2, 19, 2, 0]
    assert table.read_by_part(np.asarray(records), rows_read) == [(2, 3), (0, 2), (2, 9), (0, 2), (0, 0)]
    assert calls == [(0, [0, 2, 2]), (2, [3, 9])]


def test_rows_of_one_file_are_read_in_the_order_of_the_records(tmp_path: Path) -> None:
    table = table_of(write(tmp_path, [10, 10]))
    assert table.read_by_part(np.asarray([15, 11, 19]), lambda part, rows: [part, *rows[1:]]) == [1, 1, 9]


def test_files_that_are_not_on_this_machine_are_not_checked() -> None:
    table = FileTable.of(["gs://bucket/file"], [4], [None])
    table.require_unchanged(0)
    assert table.place(3) == ("gs://bucket/file", 3)


@pytest.mark.parametrize("index", [None, 2])
def test_a_bad_record_is_named_by_file_row_and_index(tmp_path: Path, index: int | None) -> None:
    paths = write(tmp_path, [3, 5])
    error = table_of(paths).record_error(4, "cannot be read: no luck", "no luck", title="Source 'a'", index=index)
    assert isinstance(error, RecordError)
    shown = 4 if index is None else index
    assert str(error) == f"record 1 of {paths[1]} cannot be read: no luck (record {shown} of Source 'a')"
    assert (error.record, error.path, error.row, error.reason) == (shown, paths[1], 1, "no luck")


def test_a_table_pickles_without_a_look_at_its_files(tmp_path: Path) -> None:
    paths = write(tmp_path, [3, 5])
    table = table_of(paths)
    pickled = pickle.dumps(table)
    Path(paths[0]).rename(tmp_path / "moved")
    twin = pickle.loads(pickled)  # noqa: S301 - its own
    assert (twin.paths, twin.stamps, twin.counts.tolist()) == (table.paths, table.stamps, [3, 5])


# -- open files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 256])
def test_no_more_files_stay_open_than_the_limit(tmp_path: Path, limit: int) -> None:
    paths = write(tmp_path, [10] * 5)
    table = table_of(paths)
    files = OpenFiles(table, RowReader, limit=limit)
    records = np.random.default_rng(0).permutation(50)
    assert num_open(paths) == 0
    assert read(table, files, records) == list(map(row_of, records))
    assert num_open(paths) == min(limit, 5)
    files.close()
    assert num_open(paths) == 0
    assert read(table, files, [7]) == [row_of(7)]
    files.close()
    files.close()


def test_the_file_unused_for_longest_is_closed_first(tmp_path: Path) -> None:
    paths = write(tmp_path, [10] * 3)
    table = table_of(paths)
    files = OpenFiles(table, RowReader, limit=2)
    for record in (0, 10, 1, 20):  # of the files 0, 1, 0, 2
        read(table, files, [record])
    assert [num_open([path]) for path in paths] == [1, 0, 1]
    files.close()


def test_each_thread_has_a_file_to_itself(tmp_path: Path) -> None:
    paths = write(tmp_path, [500, 500])
    table = table_of(paths)
    files = OpenFiles(table, RowReader, limit=3)

    def is_right(seed: int) -> bool:
        records = np.random.default_rng(seed).integers(0, 1000, 200)
        if seed % 5 == 0:
            files.close()
        return read(table, files, records) == list(map(row_of, records))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(is_right, range(60)))
    assert num_open(paths) <= 3
    files.close()


def test_a_file_in_use_is_opened_once_more_for_another_thread(tmp_path: Path) -> None:
    paths = write(tmp_path, [10])
    files = OpenFiles(table_of(paths), RowReader)
    with ThreadPoolExecutor(1) as thread:
        files.use(0, lambda _: thread.submit(files.use, 0, lambda reader: reader.read([1])).result())
    assert num_open(paths) == 2
    files.close()
    assert num_open(paths) == 0


def test_a_file_whose_read_fails_is_closed(tmp_path: Path) -> None:
    paths = write(tmp_path, [10])
    files = OpenFiles(table_of(paths), RowReader)

    def fail(reader: RowReader) -> None:
        raise LookupError(reader.read([0])[0])

    with pytest.raises(LookupError, match="00000000"):
        files.use(0, fail)
    assert num_open(paths) == 0


@pytest.mark.parametrize("is_open", [False, True], ids=["closed before", "open before"])
def test_nothing_is_served_of_a_file_that_changed(tmp_path: Path, *, is_open: bool) -> None:
    paths = write(tmp_path, [10, 10])
    table = table_of(paths)
    files = OpenFiles(table, RowReader)
    if is_open:
        read(table, files, range(20))
    Path(paths[1]).write_bytes(b"x" * 80)
    os.utime(paths[1], ns=(0, 0))
    with pytest.raises(
        DataFileError, match=f"^{paths[1]} changed while a source read it: it was written to or replaced"
    ):
        read(table, files, [3, 12])
    assert read(table, files, [3]) == [row_of(3)]
    files.close()


def test_a_change_explains_a_read_that_failed(tmp_path: Path) -> None:
    paths = write(tmp_path, [10])
    files = OpenFiles(table_of(paths), RowReader)

    def truncate_and_fail(reader: RowReader) -> None:
        os.truncate(paths[0], 8)
        raise ValueError(f"{reader.read([5])} is no row")

    with pytest.raises(DataFileError, match="it has 8 bytes where it had 80") as caught:
        files.use(0, truncate_and_fail)
    assert isinstance(caught.value.__context__, ValueError)


def test_idle_files_are_closed_when_no_more_can_be_opened(tmp_path: Path) -> None:
    paths = write(tmp_path, [10, 10])
    table = table_of(paths)

    def open_alone(path: str) -> RowReader:
        if num_open(paths):
            raise OSError(24, "too many open files", path)
        return RowReader(path)

    files = OpenFiles(table, open_alone)
    assert read(table, files, [3, 12, 4]) == [row_of(3), row_of(12), row_of(4)]
    with pytest.raises(OSError, match="too many open files"):
        files.use(0, lambda _: files.use(1, lambda reader: reader.read([0])))
    files.close()


def test_a_pickled_pool_opens_its_files_anew(tmp_path: Path) -> None:
    paths = write(tmp_path, [10, 10])
    table = table_of(paths)
    files = OpenFiles(table, RowReader, limit=1)
    read(table, files, range(20))
    twin = pickle.loads(pickle.dumps(files))  # noqa: S301 - its own
    files.close()
    assert num_open(paths) == 0
    assert read(table, twin, [19, 0]) == [row_of(19), row_of(0)]
    assert num_open(paths) == 1
    twin.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
@pytest.mark.parametrize("not_in_forks", [None, "readers of row files"])
def test_a_fork_may_read_unless_the_pool_says_otherwise(tmp_path: Path, not_in_forks: str | None) -> None:
    table = table_of(write(tmp_path, [10]))
    files = OpenFiles(table, RowReader, not_in_forks=not_in_forks)
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(30)  # a child that hangs ends by it
        try:
            said = read(table, files, [3])[0].decode()
        except RuntimeError as error:
            said = str(error)
        os.write(write_end, said.encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    message = (
        f"this source was built in process {os.getpid()} and is used in a fork of it, {child}, where readers of row files "
        "hang; start processes by 'spawn' or 'forkserver' (of a PyTorch DataLoader: multiprocessing_context='spawn'), or "
        "build the source in the child"
    )
    assert said == (message if not_in_forks else row_of(3).decode())
    files.close()


# -- local_files_only ---------------------------------------------------------------------------------------------------


class Downloading(LocalFilesOnlyMixin):
    """A source that may download its data."""

    def __init__(self, *, local_files_only: bool) -> None:
        self.local_files_only = local_files_only


def test_every_missing_path_is_named(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    paths = [tmp_path / "a.record", there, str(tmp_path / "b.record")]
    message = (
        rf"^data set 'digits' is not on this machine and local_files_only=True forbids fetching it; "
        rf"missing: {tmp_path}/a\.record, {tmp_path}/b\.record$"
    )
    with pytest.raises(FileNotFoundError, match=message):
        Downloading(local_files_only=True)._check_local_cache(paths, dataset_name="digits")


def test_files_that_are_there_pass(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Downloading(local_files_only=True)._check_local_cache([tmp_path, tmp_path / "file"], dataset_name="digits")


def test_one_path_is_refused(tmp_path: Path) -> None:
    message = f"^expected_paths are the paths of 'digits', a list of them, not {re.escape(repr(str(tmp_path)))}$"
    with pytest.raises(TypeError, match=message):
        Downloading(local_files_only=True)._check_local_cache(str(tmp_path), dataset_name="digits")


def test_nothing_is_checked_unless_it_is_set(tmp_path: Path) -> None:
    assert LocalFilesOnlyMixin.local_files_only is False
    Downloading(local_files_only=False)._check_local_cache([tmp_path / "gone"], dataset_name="digits")


def test_files_that_are_opened_again_and_again_are_told_once_with_the_option(tmp_path: Path) -> None:
    table = table_of(write(tmp_path, [2] * 12))
    rows = np.random.default_rng(0).permutation(24)
    quiet, enough = OpenFiles(table, RowReader, limit=3), OpenFiles(table, RowReader, limit=12, option="max_open_files")
    told = pickle.loads(pickle.dumps(OpenFiles(table, RowReader, limit=3, option="max_open_files")))  # noqa: S301 - our own
    said = r"a file was opened again that had been closed, since only 3 stay open: .*; set max_open_files to 12, the number of"

    def read_often(files: OpenFiles[RowReader]) -> None:
        for _ in range(60):
            read(table, files, rows)
        files.close()

    read_often(quiet)
    read_often(enough)
    with pytest.warns(UserWarning, match=said) as caught:
        read_often(told)
    assert len(caught) == 1


def test_files_that_are_read_one_after_the_other_are_no_reason_for_a_warning(tmp_path: Path) -> None:
    table = table_of(write(tmp_path, [20] * 12))
    files = OpenFiles(table, RowReader, limit=3, option="max_open_files")
    for _ in range(40):
        for record in range(240):
            read(table, files, [record])
    files.close()
