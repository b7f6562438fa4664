"""Data that cannot be written is refused with a reason, and no file changes."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import jax
import numpy as np
import pytest

import datarax_arrayrecord
from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule
from datarax_arrayrecord.writing.staging import Target, staged
from datarax_core import (
    DataSourceModule,
    PluginNotFoundError,
    RecordError,
    SpecError,
    StreamingSourceBase,
    StructuralConfig,
)

TEN = {"x": np.arange(10)}


class Failing(DataSourceModule):
    """Source of a hundred records, of which number 50 cannot be read."""

    def __len__(self) -> int:
        return 100

    def element_spec(self) -> Any:
        return {"x": jax.ShapeDtypeStruct((), np.int64)}

    def get_records(self, indices: Any) -> Any:
        if 50 in indices:
            raise RecordError("record 50 is broken", record=50, reason="broken")
        return {"x": np.asarray(indices)}


class Short(StreamingSourceBase):
    """Stream that ends before its length."""

    def element_spec(self) -> Any:
        return {"x": jax.ShapeDtypeStruct((), np.int64)}

    def __len__(self) -> int:
        return 100

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:  # noqa: ARG002 - the signature of the protocol
        yield from ({"x": np.int64(i)} for i in range(start, 40))


def _ragged() -> Iterator[Any]:
    yield {"x": np.zeros((3, 2))}
    yield {"x": np.zeros((3, 4))}


def _dies() -> Iterator[Any]:
    yield TEN
    raise OSError("the network is gone")


def _interrupted() -> Iterator[Any]:
    yield TEN
    raise KeyboardInterrupt


MISTAKES: dict[str, tuple[Any, dict[str, Any], type[BaseException], str]] = {
    "no records": ({"x": []}, {}, ValueError, "the data to write has no records: there is nothing to write to "),
    "no batches": ([], {}, ValueError, "the data to write has no records"),
    "empty batches": ([{"x": []}], {}, ValueError, "the data to write has no records"),
    "no fields": (
        {},
        {},
        ValueError,
        "the data to write has no fields; a batch is a dict of arrays with a row for each",
    ),
    "a number": (
        3,
        {},
        TypeError,
        "the data to write is a source, a dict of arrays, or an iterable of batches, .*not 3$",
    ),
    "text": ("data", {}, TypeError, "the data to write is a source, .*not 'data'$"),
    "texts": (["data"], {}, TypeError, "batch 0 of the data to write is 'data'; a batch is a dict of arrays"),
    "elements": ([{"x": 1}], {}, ValueError, "column 'x' of batch 0 of the data to write is the scalar .*1"),
    "lengths": (
        {"x": [1, 2], "y": {"z": [1]}},
        {},
        ValueError,
        "the fields of the data to write differ in length: 'x' has 2, 'y.z' has 1; each record needs a value in every",
    ),
    "lengths in a batch": (
        iter([TEN, {"x": [1]}, {"x": [1], "y": []}]),
        {},
        ValueError,
        "the fields of batch 2 of the data",
    ),
    "ragged batches": (
        _ragged(),
        {},
        SpecError,
        r"to write from number 3 on are not like the first ones: field 'x' is float64\[4\] where float64\[2\] is expected",
    ),
    "a field that comes": (
        [TEN, TEN | {"y": np.ones(10)}],
        {},
        SpecError,
        r"number 10 on .* field 'y' \(float64\[\]\) is not",
    ),
    "lists of other axes": (
        {"x": [[1], [[1, 2]]]},
        {},
        ValueError,
        "field 'x' of the data to write .* record 1 has 2 axes",
    ),
    "no names": ((np.ones(3), np.ones(3)), {}, ValueError, "records are written by names: make it a dict"),
    "an array": (np.ones(3), {}, ValueError, "records are written by names: make it a dict"),
    "text as array": (
        {"name": ["ab"]},
        {"decoder": "array"},
        ValueError,
        r"the decoder 'array' cannot write this: fields\.name\.dtype: .*keep such records as msgpack",
    ),
    "objects": ({"x": np.array([{1}, {2}], object)}, {}, ValueError, "'x'"),
    "fields for raw": (
        TEN,
        {"decoder": "raw"},
        ValueError,
        "the decoder 'raw' writes one field, 'record', of bytes, not the",
    ),
    "other fields": (
        TEN,
        {"decoder": {"type": "array", "fields": {"y": {"dtype": "int8"}}}},
        ValueError,
        r"the decoder 'array' cannot write this batch: field 'y' \(int8\[\]\) is missing; field 'x' \(int64\[\]\) is not",
    ),
    "bad settings": (
        TEN,
        {"decoder": {"type": "array", "fields": {"x": {"dtype": "int65"}}}},
        ValueError,
        r"the decoder 'array' cannot write this: fields\.x\.dtype: .*int65",
    ),
    "a decoder that only reads": (
        TEN,
        {"decoder": lambda record: record},
        NotImplementedError,
        "'function' only reads",
    ),
    "an unknown decoder": (
        TEN,
        {"decoder": "arry"},
        PluginNotFoundError,
        "unknown decoder 'arry'; did you mean 'array'",
    ),
    "no decoder": (TEN, {"decoder": 3}, ValueError, "the decoder 3 cannot write this: a decoder is a name"),
    "too many shards": (
        TEN,
        {"shards": 11},
        ValueError,
        "shards=11 leaves some of them without records, of which the data to write has 10; write 10 shards at most",
    ),
    "too many shards for batches": (
        iter([TEN]),
        {"shards": 11},
        ValueError,
        "of which the data to write has 10; write 10",
    ),
    "no shards": (TEN, {"shards": 0}, ValueError, "shards is 1 or more, not 0"),
    "half a shard": (TEN, {"shards": 1.5}, TypeError, r"shards is an integer, not 1\.5"),
    "no group": (TEN, {"group_size": 0}, ValueError, "group_size is 1 or more, not 0"),
    "gzip": (TEN, {"compression": "gzip"}, ValueError, "compression is 'zstd', .*or 'uncompressed', not 'gzip'"),
    "zstd:99": (
        TEN,
        {"compression": "zstd:99"},
        ValueError,
        "array_record refuses the compression: Option zstd: invalid value: 99",
    ),
    "a broken record": (Failing(StructuralConfig()), {}, RecordError, "record 50 is broken"),
    "a short stream": (
        Short(StructuralConfig()),
        {"shards": 2},
        SpecError,
        "ended after 40 records, where .* says 100",
    ),
    "a failing iterable": (_dies(), {"shards": 2}, OSError, "the network is gone"),
    "an interrupt": (_interrupted(), {}, KeyboardInterrupt, "^$"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_data_that_cannot_be_written_is_refused_and_leaves_no_files(tmp_path: Path, mistake: str) -> None:
    data, options, error_type, message = MISTAKES[mistake]
    with pytest.raises(error_type, match=message):
        datarax_arrayrecord.write(tmp_path / "x.array_record", data, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "error_type", "message"),
    [
        ("x", ValueError, r"x' has none of the suffixes .*\(\.array_record, .*\); name it .*x\.array_record$"),
        (
            "x.array_record-00001-of-00002",
            ValueError,
            r"names one shard; name the data set, .*x\.array_record, and say shards=",
        ),
        (
            "file/x.array_record",
            NotADirectoryError,
            "cannot write to the folder .*file: it is a file; write to another one",
        ),
        ("folder.array_record", IsADirectoryError, r"folder\.array_record is a folder; name a file in it, such as"),
    ],
)
def test_a_path_that_cannot_be_written_is_named(
    tmp_path: Path, path: str, error_type: type[Exception], message: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.array_record").mkdir()
    with pytest.raises(error_type, match=message):
        datarax_arrayrecord.write(tmp_path / path, TEN)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.array_record"]


@pytest.mark.parametrize(
    ("path", "error_type", "message"),
    [
        (
            "gs://bucket/x.array_record",
            ValueError,
            "^gs://bucket/x.array_record is not on this machine; write to a local path",
        ),
        (b"x.array_record", TypeError, "the path to write to is text, not b'x.array_record'"),
    ],
)
def test_a_path_that_is_not_local_is_refused(path: Any, error_type: type[Exception], message: str) -> None:
    with pytest.raises(error_type, match=message):
        datarax_arrayrecord.write(path, TEN)


def test_a_folder_without_write_permission_is_named(shared_folder: Path, ordinary_user: None) -> None:  # noqa: ARG001
    with pytest.raises(
        PermissionError, match=re.escape(f"cannot write to the folder {shared_folder}: Permission denied")
    ):
        datarax_arrayrecord.write(shared_folder / "x.array_record", TEN)


# -- what is there already ----------------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Write a data set of two shards."""
    datarax_arrayrecord.write(tmp_path / "x.array_record", TEN, shards=2)
    return tmp_path / "x.array_record"


def _content(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_data_set_is_overwritten_only_on_request(old: Path, shards: int) -> None:
    before = _content(old.parent)
    message = (
        r"x\.array_record-00000-of-00002 exists, and 2 more files of that data set; write to another path, or pass"
    )
    with pytest.raises(FileExistsError, match=message):
        datarax_arrayrecord.write(old, TEN, shards=shards)
    assert _content(old.parent) == before


def test_a_data_set_that_appears_during_writing_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.array_record"

    def batches() -> Iterator[Any]:
        yield TEN
        datarax_arrayrecord.write(path, {"y": np.ones(3)})

    with pytest.raises(FileExistsError, match=r"x\.array_record exists, and 1 more files"):
        datarax_arrayrecord.write(path, batches())
    assert ArrayRecordSourceModule(ArrayRecordSourceConfig(), path).get_records(np.arange(3))["y"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("data", [_dies, _interrupted, lambda: iter([])])
def test_the_old_data_set_stays_if_overwriting_fails(old: Path, data: Callable[[], Any]) -> None:
    before = _content(old.parent)
    with pytest.raises((OSError, KeyboardInterrupt, ValueError)):
        datarax_arrayrecord.write(old, data(), shards=3, overwrite=True)
    assert _content(old.parent) == before


@pytest.mark.parametrize("missing", range(3))
def test_moves_are_undone_if_one_of_them_fails(old: Path, missing: int) -> None:
    before = _content(old.parent)
    target = Target.of(old, 2)
    with pytest.raises(FileNotFoundError), staged(target, overwrite=True) as staging:  # noqa: PT012 - not all files are staged
        for number, file in enumerate((*target.files, target.sidecar)):
            if number != missing:
                (staging / Path(file).name).write_bytes(b"new")
    assert _content(old.parent) == before


def test_a_full_disk_is_an_error_and_leaves_no_files(tmp_path: Path) -> None:
    code = f"""
        import resource, signal
        import numpy as np
        import datarax_arrayrecord

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        noise = np.random.default_rng(0).integers(0, 256, (4000, 1000), np.uint8)
        try:
            datarax_arrayrecord.write({str(tmp_path / "x.array_record")!r}, {{"x": noise}}, shards=2)
        except OSError as error:
            print(error)
    """
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True, timeout=120
    )
    message = (
        r"x\.array_record-00000-of-00002 cannot be written: write\(\) failed: File too large; is the disk full\?\n"
    )
    assert re.fullmatch(message, done.stdout)
    assert list(tmp_path.iterdir()) == []
