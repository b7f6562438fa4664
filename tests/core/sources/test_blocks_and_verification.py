"""All records of a source once: in blocks, checked for records that cannot be read, and written to files."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datarax_core import (
    DataFileError,
    DataSourceModule,
    RecordError,
    SourceConfig,
    SpecError,
    StreamingSourceBase,
    StructuralConfig,
)
from datarax_core.records.spec import nbytes_of
from datarax_core.sources.blocks import WritesRecords, Written, record_blocks, verified_blocks
from datarax_core.sources.columns import columns_of
from datarax_core.sources.eager import EagerSourceBase
from datarax_core.sources.verification import Verified, append_to_quarantine


class Numbers(DataSourceModule):
    """Numbered records with ``width`` more bytes each, some of which cannot be read."""

    def __init__(
        self, length: int, bad: frozenset[int] = frozenset(), *, width: int = 0, cacheable: bool = False
    ) -> None:
        super().__init__(StructuralConfig(cacheable=cacheable))
        self.length, self.bad, self.width = length, bad, width
        self.sizes = Sizes()

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int64), "rest": jax.ShapeDtypeStruct((self.width,), np.uint8)}

    def get_records(self, indices: Any) -> Any:
        self.sizes.seen.append(len(indices))
        for index in indices.tolist():
            if index in self.bad:
                raise KeyError(index)
        return {"id": np.asarray(indices), "rest": np.zeros((len(indices), self.width), np.uint8)}


class Sizes:
    """The number of records that each call asked for."""

    def __init__(self) -> None:
        self.seen: list[int] = []


class Stream(StreamingSourceBase):
    """A stream of numbers, one of which cannot be read."""

    def __init__(self, length: int, bad: int | None = None) -> None:
        super().__init__(StructuralConfig())
        self.count, self.bad = length, bad

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int64)}

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:
        for i in range(start, self.count):
            if i == self.bad:
                raise OSError("gone")
            yield {"id": np.int64(1000 * epoch + i)}


class Hopeful(Stream):
    """A stream whose ``__len__`` is a hundred."""

    def __len__(self) -> int:
        return 100


def ids(blocks: Iterator[Any]) -> list[int]:
    return [number for block in blocks for number in block["id"].tolist()]


def found(source: DataSourceModule) -> Verified:
    return sum(verified_blocks(source), Verified(0, 0))


# -- blocks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 20_000])
def test_blocks_hold_every_record_once_in_order(length: int) -> None:
    assert ids(record_blocks(Numbers(length))) == list(range(length))


@pytest.mark.parametrize(("width", "largest"), [(0, 4096), (1 << 15, 256), (1 << 23, 32)])
def test_blocks_are_of_some_megabytes_however_large_a_record_is(width: int, largest: int) -> None:
    source = Numbers(100 if width == 1 << 23 else 10_000, width=width)
    for _ in record_blocks(source):
        assert source.sizes.seen[-1] <= largest
    expected = min(4096, max(1, (1 << 23) // (width + 8)))
    assert source.sizes.seen[3] == expected


def test_blocks_of_arrays_have_the_dtypes_as_stored() -> None:
    data = {"id": np.arange(100) + 2**40, "text": np.array(["a"] * 100, object)}
    source = EagerSourceBase(StructuralConfig(), columns_of(data, "the data"), placement="device")
    (first, *_) = record_blocks(source)
    assert isinstance(first["id"], np.ndarray)
    assert first["id"].dtype == np.int64
    assert ids(record_blocks(source)) == data["id"].tolist()


@pytest.mark.parametrize("kind", [Stream, Hopeful])
def test_blocks_of_a_stream_are_one_epoch_from_its_start(kind: type[Stream]) -> None:
    source = kind(100)
    source.get_batch(60)
    assert ids(record_blocks(source)) == list(range(100))


def test_a_stream_that_ends_too_early_is_refused() -> None:
    with pytest.raises(SpecError, match="ended after 40 records, where __len__"):
        ids(record_blocks(Hopeful(40)))


def test_a_stream_of_another_author_that_ends_too_early_is_refused() -> None:
    class Batches(DataSourceModule):
        def __len__(self) -> int:
            return 100

        def element_spec(self) -> Any:
            return {"id": jax.ShapeDtypeStruct((), np.int64)}

        def get_batch(self, batch_size: int) -> Any:
            if self.cursor.position:
                raise StopIteration
            self.cursor.advance(batch_size)
            return {"id": np.arange(batch_size)}

    with pytest.raises(SpecError, match=r"Batches ended after 32 records, where __len__\(\) says 100"):
        list(record_blocks(Batches(StructuralConfig())))


def test_bytes_of_text_and_objects_are_counted_by_their_length() -> None:
    objects = np.empty(3, object)
    objects[:] = ["abc", b"de", np.zeros(4)]
    assert nbytes_of({"x": np.zeros((2, 3), np.int16), "y": objects}) == 12 + 3 + 2 + 32


# -- checks --------------------------------------------------------------------------------------------------------------


@given(st.frozensets(st.integers(0, 299), max_size=6), st.integers(1, 300))
def test_exactly_the_bad_records_are_found(bad: frozenset[int], length: int) -> None:
    verified = Numbers(300, bad).verify_records(np.arange(length))
    assert [error.record for error in verified.errors] == sorted(index for index in bad if index < length)
    assert verified.records == length
    assert verified.nbytes == 8 * (length - len(verified.errors))


def test_a_bad_record_is_found_in_few_reads_and_says_why() -> None:
    source = Numbers(4096, frozenset({1000}))
    (error,) = source.verify_records(np.arange(4096)).errors
    assert len(source.sizes.seen) <= 1 + 2 * 12
    assert str(error) == "record 1000 of Numbers cannot be read: KeyError: 1000"
    assert (error.record, error.reason, error.path, error.row) == (1000, "KeyError: 1000", None, None)
    assert isinstance(error.__cause__, KeyError)


def test_all_blocks_of_a_source_are_verified() -> None:
    bad = frozenset({0, 31, 32, 9_999})
    verified = found(Numbers(10_000, bad))
    assert verified.records == 10_000
    assert [error.record for error in verified.errors] == sorted(bad)


def test_a_check_reads_records_again_and_keeps_none() -> None:
    source = Numbers(10, cacheable=True)
    source.fetch(np.arange(10))
    source.verify_records(np.arange(10))
    assert source.sizes.seen == [10, 10]


def test_an_error_that_names_its_record_is_kept_and_a_bad_file_is_no_bad_record() -> None:
    class Files(Numbers):
        def get_records(self, indices: Any) -> Any:
            if 5 in indices:
                raise RecordError("row 2 of b", record=5, reason="torn", path="b", row=2)
            if 20 in indices:
                raise DataFileError("c", "c is damaged")
            return super().get_records(indices)

    (error,) = Files(30).verify_records(np.arange(10)).errors
    assert (str(error), error.path, error.row, error.reason) == ("row 2 of b", "b", 2, "torn")
    with pytest.raises(DataFileError, match="c is damaged"):
        Files(30).verify_records(np.arange(10, 30))


def test_records_that_differ_from_the_spec_are_bad() -> None:
    class Narrow(Numbers):
        def get_records(self, indices: Any) -> Any:
            batch = super().get_records(indices)
            return batch | {"id": batch["id"].astype(np.int32)}

    (error,) = Narrow(1).verify_records(np.arange(1)).errors
    assert "field 'id' is int32[] where int64[] is expected" in error.reason


def test_a_subset_is_verified_by_its_parent() -> None:
    part = Numbers(100, frozenset({10, 60}))[50:]
    assert [error.record for error in part.verify_records(np.arange(50)).errors] == [60]


def test_arrays_in_mapped_files_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(1000) + 2**40)
    data = {"id": np.load(tmp_path / "x.npy", mmap_mode="r")}
    source = EagerSourceBase(StructuralConfig(), columns_of(data, "the data"), placement="device")
    assert found(source) == Verified(1000, 8000)


def test_a_stream_is_verified_up_to_its_first_bad_record() -> None:
    assert found(Stream(100)) == Verified(100, 800)
    verified = found(Stream(100, bad=50))
    assert re.match(r"Stream cannot be read past its first 32 records: OSError: gone", str(verified.errors[0]))
    with pytest.raises(NotImplementedError, match="Stream is a stream without random access"):
        Stream(100).verify_records(np.arange(3))


# -- writing and quarantine ---------------------------------------------------------------------------------------------


def test_a_class_writes_records_if_it_defines_how() -> None:
    class Writer(Numbers):
        @classmethod
        def write_records(cls, path: str, source: DataSourceModule, **options: Any) -> Written:
            del options
            return Written(SourceConfig(type="writer"), (path,), len(list(record_blocks(source))), 0)

    assert not issubclass(Numbers, WritesRecords)
    assert issubclass(Writer, WritesRecords)
    assert Writer.write_records("x", Numbers(3)).paths == ("x",)


def test_bad_records_are_listed_in_the_quarantine_file_once(tmp_path: Path) -> None:
    path = str(tmp_path / "bad.jsonl")
    append_to_quarantine(path, [])
    assert not Path(path).exists()
    one = RecordError("one", record=5, reason="torn: é", path="b", row=2)
    other = RecordError("other", record=7, reason="lost")
    append_to_quarantine(path, [one, one])
    append_to_quarantine(path, [other, one])
    entries = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    assert entries == [
        {"file": "b", "record": 2, "cause": "torn: é"},
        {"file": None, "record": 7, "cause": "lost"},
    ]
