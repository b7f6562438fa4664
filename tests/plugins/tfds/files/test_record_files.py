"""Records by index from files of both formats: TFDS's own bytes in any order, many threads, and damaged or changed files."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from tfds_data import FORMATS
from tfrecords import begin_of, contents, flip, opened, whole, write

from datarax_core import DataFileError, RecordError
from datarax_core.sources import Stamp
from datarax_tfds.files import RecordFiles, array_record, tfrecord
from datarax_tfds.splits import FilePart

COUNT, SHARDS = 300, 3
RECORDS = contents(COUNT * SHARDS, size=400)


@pytest.fixture(params=FORMATS)
def file_format(request: pytest.FixtureRequest) -> str:
    """Format of the files."""
    return str(request.param)


@pytest.fixture
def paths(tmp_path: Path, file_format: str) -> list[str]:
    """Paths of three files that hold the records."""
    return [_write(tmp_path / f"x.{file_format}-{shard}", _of(shard), file_format) for shard in range(SHARDS)]


@pytest.fixture
def files(paths: list[str], file_format: str) -> Iterator[RecordFiles]:
    """The records of the three files."""
    with opened(*(whole(path, COUNT) for path in paths), file_format=file_format) as made:
        yield made


def _of(shard: int) -> list[bytes]:
    return RECORDS[shard * COUNT : (shard + 1) * COUNT]


def _write(path: Path, records: list[bytes], file_format: str) -> str:
    if file_format == "tfrecord":
        return write(path, records)
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()
    return str(path)


# -- as they are --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "digits_png"])
def test_both_formats_have_the_bytes_that_tfds_wrote(data_dirs: Path, name: str) -> None:
    read = []
    for each in FORMATS:
        paths = sorted((data_dirs / each / name / "1.0.0").glob(f"{name}-train.*"))
        with opened(*(whole(path, 500) for path in paths), file_format=each) as files:
            read.append(files.read(np.arange(1500)))
    assert read[0] == read[1]


def test_records_are_returned_in_the_order_of_the_indices(files: RecordFiles) -> None:
    assert files.num_records == len(RECORDS)
    rng = np.random.default_rng(0)
    for numbers in (
        rng.permutation(len(RECORDS)),
        rng.integers(0, len(RECORDS), 500),  # with repeated indices
        np.arange(100, 700),
        np.arange(len(RECORDS))[::-1],
        np.asarray([899, 0, 0, 899, 300, 299]),
        np.asarray([450]),
        np.empty(0, np.int64),
    ):
        assert files.read(numbers) == [RECORDS[number] for number in numbers]


def test_only_the_parts_of_files_are_read(paths: list[str], file_format: str) -> None:
    parts = [
        FilePart(paths[1], 290, 300, COUNT),
        FilePart(paths[0], 5, 5, COUNT),
        FilePart(paths[2], 0, 10, COUNT),
        FilePart(paths[1], 0, 3, COUNT),
    ]
    files = opened(*parts, file_format=file_format)
    expected = [*RECORDS[590:600], *RECORDS[600:610], *RECORDS[300:303]]
    assert files.num_records == len(expected)
    assert files.read(np.arange(23)) == expected
    assert files.read(np.asarray([22, 9, 10])) == [expected[22], expected[9], expected[10]]
    assert files.place(12) == (paths[2], 2)
    assert files.place(21) == (paths[1], 1)


def test_many_threads_read_at_once(files: RecordFiles) -> None:
    def read(seed: int) -> bool:
        numbers = np.random.default_rng(seed).integers(0, len(RECORDS), 150)
        return files.read(numbers) == [RECORDS[number] for number in numbers]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(40)))


def test_few_files_stay_open(paths: list[str], file_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "_MAX_IDLE", 1)
    monkeypatch.setattr(array_record, "_MAX_IDLE", 1)
    files = opened(*(whole(path, COUNT) for path in paths), file_format=file_format)
    for _ in range(2):
        assert files.read(np.arange(0, 900, 7)) == RECORDS[::7]
        assert _open_among(paths) <= 1
    files.close()
    assert _open_among(paths) == 0
    assert files.read(np.asarray([3])) == [RECORDS[3]]


def test_files_in_a_pickle_of_version_0_1_0_are_opened_anew(paths: list[str], file_format: str) -> None:
    from datarax_tfds._file_table import FileTable  # type: ignore[import-not-found]  # noqa: PLC0415 - a path of version 0.1.0

    table = FileTable.__new__(FileTable)
    table.__setstate__([tuple(whole(path, COUNT) for path in paths), None, None, [Stamp.of(path) for path in paths]])
    files = RecordFiles.__new__(RecordFiles)
    files.__setstate__({"_title": "Source 'a'", "_format": file_format, "_table": table, "_files": None})
    assert files.read(np.asarray([899, 4])) == [RECORDS[899], RECORDS[4]]


def _open_among(paths: list[str]) -> int:
    targets = [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()]
    return sum(target in paths for target in targets)


def test_files_pickle_and_are_opened_anew(files: RecordFiles, paths: list[str]) -> None:
    again = pickle.loads(pickle.dumps(files))  # noqa: S301
    files.close()
    assert _open_among(paths) == 0
    assert again.read(np.asarray([899, 4])) == [RECORDS[899], RECORDS[4]]
    assert again.fingerprint() == files.fingerprint()
    again.close()


def test_a_fingerprint_does_not_depend_on_the_folder(tmp_path: Path, paths: list[str], file_format: str) -> None:
    def fingerprint(*parts: FilePart) -> dict[str, object]:
        return opened(*parts, file_format=file_format).fingerprint()

    own = fingerprint(*(whole(path, COUNT) for path in paths))
    assert own["files"] == SHARDS
    assert own["file_format"] == file_format
    (tmp_path / "moved").mkdir()
    moved = [shutil.copy(path, tmp_path / "moved") for path in paths]
    assert fingerprint(*(whole(path, COUNT) for path in moved)) == own
    assert fingerprint(*(whole(path, COUNT) for path in paths[::-1])) != own
    assert fingerprint(*(FilePart(path, 0, 299, COUNT) for path in paths)) != own


# -- files that change --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_before", [True, False], ids=["read before", "not read"])
def test_a_truncated_file_is_an_error(files: RecordFiles, paths: list[str], *, read_before: bool) -> None:
    if read_before:
        files.read(np.arange(len(RECORDS)))
    size = os.stat(paths[1]).st_size  # noqa: PTH116 - the path is text
    os.truncate(paths[1], size // 2)
    text = rf"-1 changed while a source read it: it has {size // 2} bytes where it had {size}; leave files as they are, and"
    for numbers in (np.arange(len(RECORDS)), np.asarray([599]), np.asarray([301])):
        with pytest.raises(DataFileError, match=text) as caught:
            files.read(numbers)
        assert caught.value.path == paths[1]
    with pytest.raises(DataFileError, match=text):
        files.require_unchanged()
    assert files.read(np.asarray([0, 899])) == [RECORDS[0], RECORDS[899]]


def test_a_file_that_is_written_to_is_an_error(files: RecordFiles, paths: list[str], file_format: str) -> None:
    files.require_unchanged()
    files.read(np.arange(3))
    _write(Path(paths[0]), [content[::-1] for content in _of(0)], file_format)
    os.utime(paths[0], ns=(0, 0))
    with pytest.raises(DataFileError, match="-0 changed while a source read it: it "):
        files.read(np.arange(3))


def test_a_removed_file_is_an_error(files: RecordFiles, paths: list[str]) -> None:
    files.close()
    Path(paths[2]).unlink()
    with pytest.raises(DataFileError, match="-2 is gone: it was removed while a source read it"):
        files.read(np.asarray([899]))


# -- records that are bad -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [range(900), range(700, 300, -1), [350]], ids=["all", "backwards", "one"])
def test_a_record_with_a_wrong_checksum_is_named(tmp_path: Path, numbers: list[int]) -> None:
    paths = [write(tmp_path / f"x-{shard}", _of(shard)) for shard in range(SHARDS)]
    flip(paths[1], begin_of(_of(1), 50) + 13)
    files = opened(*(whole(path, COUNT) for path in paths))
    reason = "its content does not have the checksum that is stored with it"
    text = rf"record 50 of {paths[1]} cannot be read: {reason} \(record 350 of Source 'a'\)"
    with pytest.raises(RecordError, match=text) as caught:
        files.read(np.asarray(numbers))
    error = caught.value
    assert (error.record, error.path, error.row, error.reason) == (350, paths[1], 50, reason)
    assert files.read(np.asarray([349, 351])) == [RECORDS[349], RECORDS[351]]


@pytest.mark.parametrize("place", [1, 9, -1], ids=["length", "its checksum", "content's checksum"])
def test_every_byte_of_a_record_is_verified(tmp_path: Path, place: int) -> None:
    path = write(tmp_path / "x", _of(0))
    files = opened(whole(path, COUNT))
    flip(path, begin_of(_of(0), 51 if place < 0 else 50) + place)
    with pytest.raises(RecordError, match=r"record 50 of .* cannot be read: its "):
        files.read(np.asarray([50]))


def test_a_record_of_an_array_record_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = [rng.bytes(3000) for _ in range(COUNT)]
    path = _write(tmp_path / "x", records, "array_record")
    files = opened(whole(path, COUNT), file_format="array_record")
    flip(path, os.stat(path).st_size // 2)  # noqa: PTH116 - the path is text
    bad = _unreadable(files)
    assert len(bad) == 1
    for numbers in (np.arange(COUNT), np.asarray([0, *bad, 5])):
        with pytest.raises(
            RecordError, match=rf"record {bad[0]} of {path} cannot be read: \w.* \(record {bad[0]} of"
        ) as e:
            files.read(numbers)
        assert e.value.__cause__ is not None
    assert files.read(np.asarray([0, 5])) == [records[0], records[5]]


def _unreadable(files: RecordFiles) -> list[int]:
    bad = []
    for number in range(files.num_records):
        try:
            files.read(np.asarray([number]))
        except RecordError:
            bad.append(number)
    return bad


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"x" * (1 << 17)], ids=["nothing", "little", "much"])
def test_a_file_that_is_no_array_record_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    text = "x is no ArrayRecord file, or is damaged or truncated: .+; copy the file again, or prepare the data set anew"
    with pytest.raises(DataFileError, match=text):
        opened(whole(tmp_path / "x", 1), file_format="array_record")


def test_an_array_record_file_has_as_many_records_as_the_data_set_says(tmp_path: Path) -> None:
    path = _write(tmp_path / "x", _of(0), "array_record")
    with pytest.raises(DataFileError, match="has 300 records, where the data set's own description says 299"):
        opened(whole(path, 299), file_format="array_record")


FORKED = """
    import os, signal, sys
    import numpy as np
    from tfrecords import opened, whole

    formats = ("tfrecord", "array_record")
    sources = [opened(whole(path, 300), file_format=each) for path, each in zip(sys.argv[1:], formats)]
    expected = [files.read(np.arange(300)) for files in sources]
    child = os.fork()
    if not child:
        signal.alarm(30)  # ends a child that hangs
        for files, records in zip(sources, expected):
            try:
                print(files.read(np.arange(300)) == records, flush=True)
            except RuntimeError as error:
                print(error, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_fork_reads_tfrecords_and_raises_for_array_records(tmp_path: Path) -> None:
    paths = [_write(tmp_path / each, _of(0), each) for each in FORMATS]
    command = [sys.executable, "-W", "ignore", "-c", dedent(FORKED), *paths]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "importable")}
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603
    of_tfrecord, of_array_record = ran.stdout.splitlines()
    assert of_tfrecord == "True"
    assert "is used in a fork of it, " in of_array_record
    assert "where readers of ArrayRecord files hang; start processes by 'spawn' or 'forkserver'" in of_array_record
