"""What is read: types, order, files, row groups and what is kept of them."""

import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pytest
from flax import nnx

from acme_parquet import AcmeParquet, AcmeParquetConfig
from acme_parquet._columns import Column
from acme_parquet._files import ParquetFile
from datarax_core import DataFileError, Pipeline

Write = Callable[..., str]


def open_source(paths: Any, **fields: Any) -> AcmeParquet:
    rngs = nnx.Rngs(0) if fields.get("shuffle") else None
    return AcmeParquet(AcmeParquetConfig(paths=paths, **fields), rngs=rngs)


def numbers(source: AcmeParquet) -> list[int]:
    return source.get_batch_at(0, len(source))["x"].tolist()


# -- types --------------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
COLUMNS = {
    "int8": (pa.array([-1, 2], pa.int8()), "int8", [-1, 2]),
    "uint64": (pa.array([1, 2**64 - 1], pa.uint64()), "uint64", [1, 2**64 - 1]),
    "float16": (pa.array(np.array([0.5, -2.0], np.float16)), "float16", [0.5, -2.0]),
    "bool": (pa.array([True, False]), "bool", [True, False]),
    "list": (pa.array([[1, 2], [3, 4]], pa.list_(pa.int16(), 2)), "int16", [[1, 2], [3, 4]]),
    "lists": (
        pa.array([[[1], [2]], [[3], [4]]], pa.list_(pa.list_(pa.int16(), 1), 2)),
        "int16",
        [[[1], [2]], [[3], [4]]],
    ),
    "tensor": (pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((2, 2, 3), np.uint8)), "uint8", [[[1] * 3] * 2] * 2),
    "text": (pa.array(["a", "é\0"]), "object", ["a", "é\0"]),
    "large_text": (pa.array(["a", "b"], pa.large_string()), "object", ["a", "b"]),
    "category": (pa.array(["b", "a"]).dictionary_encode(), "object", ["b", "a"]),
    "bytes": (pa.array([b"a\0", b""]), "object", [b"a\0", b""]),
    "fixed_bytes": (pa.array([b"a\0", b"bc"], pa.binary(2)), "object", [b"a\0", b"bc"]),
    "date": (pa.array([0, 1], pa.date32()), "datetime64[D]", np.array([0, 1], "datetime64[D]").tolist()),
    "instant": (
        pa.array([NOON, NOON], pa.timestamp("us", "Asia/Tokyo")),
        "datetime64[us]",
        [NOON.replace(tzinfo=None)] * 2,
    ),
    "span": (pa.array([1, 2], pa.duration("s")), "timedelta64[s]", np.array([1, 2], "timedelta64[s]").tolist()),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_values_come_as_they_were_written(name: str, write: Write) -> None:
    column, dtype, values = COLUMNS[name]
    source = open_source(write({name: column}))
    batch = source.get_batch_at(0, 2)[name]
    assert (str(batch.dtype), batch.tolist()) == (dtype, values)
    spec = source.element_spec()[name]
    assert (spec.dtype, spec.shape) == (batch.dtype, batch.shape[1:])


def test_only_the_columns_that_are_named_are_read(write: Write) -> None:
    path = write({"x": [1, 2], "unreadable": pa.array([{"a": 1}] * 2), "y": [3, 4]})
    assert list(open_source(path, columns=("y", "x")).get_batch_at(0, 2)) == ["y", "x"]


def test_text_rides_beside_the_batch_of_a_pipeline(write: Write) -> None:
    source = open_source(write({"x": range(20), "name": [f"row {i}" for i in range(20)]}), shuffle=True)
    for batch in Pipeline(source=source, batch_size=5):
        assert batch["name"].tolist() == [f"row {x}" for x in batch["x"].tolist()]


def test_a_source_with_a_random_stream_shuffles_once_it_is_told_to(write: Write) -> None:
    config = AcmeParquetConfig(paths=write({"x": range(100)}), stochastic=True, stream_name="shuffle")
    source = AcmeParquet(config, rngs=nnx.Rngs(0))
    assert source.get_batch(100)["x"].tolist() == list(range(100))
    source.set_random_order(True)
    shuffled = source.get_batch(100)["x"].tolist()
    assert shuffled != sorted(shuffled) == list(range(100))


@pytest.mark.parametrize(
    ("column", "fill", "expected"),
    [
        (pa.array([1, None, 3], pa.int32()), 7, [1, 7, 3]),
        (pa.array([True, None, False]), True, [True, True, False]),
        (pa.array([0.5, None, 2.0], pa.float32()), 1, [0.5, 1.0, 2.0]),
        (pa.array(["a", None, "c"]), "", ["a", "", "c"]),
        (pa.array([[1, 2], [None, None], [3, None]], pa.list_(pa.int8(), 2)), 0, [[1, 2], [0, 0], [3, 0]]),
    ],
    ids=["integers", "bools", "floats", "text", "lists"],
)
def test_what_fill_null_says_stands_in_for_a_null(column: Any, fill: Any, expected: list[Any], write: Write) -> None:
    source = open_source(write({"x": column}), fill_null={"x": fill})
    batch = source.get_batch_at(0, 3)["x"]
    assert batch.tolist() == expected
    assert batch.dtype == source.element_spec()["x"].dtype


def test_a_list_that_is_null_is_null_as_a_whole() -> None:
    lists = pa.array([[9, 9], [1, 2], None, [3, 4]], pa.list_(pa.int8(), 2))
    spec = jax.ShapeDtypeStruct((2,), np.dtype(np.int8))
    cut = pa.chunked_array([lists.slice(1), lists.slice(0, 1)])
    assert Column.of(cut, spec, 0).values.tolist() == [[1, 2], [0, 0], [3, 4], [9, 9]]
    unfilled = Column.of(cut, spec, None)
    assert unfilled.nulls is not None
    assert unfilled.nulls.tolist() == [False, True, False, False]


# -- files --------------------------------------------------------------------------------------------------------------


def test_files_follow_one_another_in_the_order_of_their_names(write: Write, tmp_path: Path) -> None:
    for part in (2, 0, 1):
        write({"x": range(30 * part, 30 * part + 30)}, f"parts/{part}.parquet", rows=7)
    write({"x": [0]}, "parts/.unfinished.parquet")
    (tmp_path / "parts/_SUCCESS").touch()
    assert numbers(open_source(tmp_path / "parts")) == list(range(90))
    assert numbers(open_source(str(tmp_path / "parts/*.parquet"))) == list(range(90))
    named = [str(tmp_path / f"parts/{part}.parquet") for part in (1, 0)]
    assert numbers(open_source(named)) == [*range(30, 60), *range(30)]


def test_a_file_may_have_the_name_of_a_glob(write: Write) -> None:
    assert numbers(open_source(write({"x": [4]}, "data[1].parquet"))) == [4]


def test_empty_files_and_row_groups_are_passed_over(write: Write) -> None:
    none = pa.array([], pa.int64())
    paths = [write({"x": none}, "a.parquet"), write({"x": [1, 2]}, "b.parquet"), write({"x": none}, "c.parquet")]
    assert numbers(open_source(paths)) == [1, 2]


def test_no_file_stays_open(write: Write) -> None:
    path = write({"x": range(100)})
    source = open_source(path)
    source.get_batch(50)
    opened = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    assert Path(path) not in opened


def test_a_pickled_source_reads_the_same(write: Write) -> None:
    source = open_source(write({"x": range(100)}), shuffle=True)
    twin = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own
    assert twin.get_batch(30)["x"].tolist() == source.get_batch(30)["x"].tolist()


# -- row groups ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The row groups that were read from files, as they were."""
    seen: list[int] = []
    really = ParquetFile.read

    def read(file: ParquetFile, row_group: int, columns: Any) -> Any:
        seen.append(row_group)
        return really(file, row_group, columns)

    monkeypatch.setattr(ParquetFile, "read", read)
    return seen


def test_the_spec_is_known_without_reading_a_row(write: Write, reads: list[int]) -> None:
    source = open_source(write({"x": range(100)}))
    assert len(source) == 100
    assert source.element_spec()["x"].dtype == np.int64
    assert reads == []


def test_reading_in_sequence_decodes_each_row_group_once(write: Write, reads: list[int]) -> None:
    source = open_source(write({"x": range(100)}), cache_bytes=0)
    for _ in range(25):
        source.get_batch(4)
    assert reads == list(range(10))


def test_a_batch_decodes_each_row_group_that_it_touches_once(write: Write, reads: list[int]) -> None:
    source = open_source(write({"x": range(100)}), cache_bytes=0)
    records = [57, 3, 51, 99, 4, 57, 3]
    assert source.get_records(np.array(records))["x"].tolist() == records
    assert sorted(reads) == [0, 5, 9]


def test_as_many_row_groups_are_kept_as_the_limit_allows(write: Write, reads: list[int]) -> None:
    source = open_source(write({"x": range(100)}), cache_bytes=3 * 80)  # ten rows of int64 are 80 bytes
    for group in (0, 1, 2, 0, 3, 0, 1):
        source.get_records(np.array([10 * group]))
    assert reads == [0, 1, 2, 3, 1]


@pytest.mark.parametrize("shuffle", [False, True], ids=["in sequence", "shuffled"])
def test_a_cacheable_source_decodes_each_row_group_once_for_all_epochs(
    write: Write, reads: list[int], *, shuffle: bool
) -> None:
    path = write({"x": range(100)})
    source = open_source(path, cacheable=True, shuffle=shuffle)
    served = [x for batch in Pipeline(source=source, batch_size=10, num_epochs=3) for x in batch["x"].tolist()]
    assert sorted(served) == sorted(3 * list(range(100)))
    assert sorted(reads) == list(range(10))
    Path(path).unlink()
    assert source.fetch(np.arange(100))["x"].tolist() == list(range(100))
    source.reset_cache()
    with pytest.raises(DataFileError, match="is gone"):
        source.fetch(np.arange(100))


# -- order --------------------------------------------------------------------------------------------------------------


def order_of(source: AcmeParquet, start: int = 0, size: int | None = None) -> list[int]:
    indices = source.record_indices_at(start, len(source) if size is None else size, source.order_words())
    return np.asarray(indices).tolist()


@pytest.mark.parametrize("window", [1, 7, 25, 50, 99, 100, 1000])
def test_an_epoch_in_windows_is_a_permutation_and_each_another_one(write: Write, window: int) -> None:
    paths = [write({"x": range(70)}, "a.parquet", rows=16), write({"x": range(30)}, "b.parquet", rows=9)]
    source = open_source(paths, shuffle=True, shuffle_window=window)
    epochs = [order_of(source, 100 * epoch) for epoch in range(4)]
    assert [sorted(epoch) for epoch in epochs] == 4 * [list(range(100))]
    assert len(set(map(tuple, epochs))) == 4
    assert order_of(source, 33, 250) == [index for epoch in epochs for index in epoch][33:283]


def test_a_window_decodes_each_row_group_once_an_epoch(write: Write, reads: list[int]) -> None:
    source = open_source(
        write({"x": range(1000)}, rows=10), shuffle=True, shuffle_window=50, cache_bytes=7 * 80, columns=("x",)
    )
    served = [x for _ in range(100) for x in source.get_batch(10)["x"].tolist()]
    assert sorted(served) == list(range(1000))
    assert sorted(reads) == list(range(100)) != reads
    inside = [abs(served.index(x) - served.index(x + 1)) for x in range(0, 1000, 10)]
    assert np.mean(inside) > 10  # rows that were neighbours are not


def test_compiled_code_is_served_the_same_order(write: Write) -> None:
    source = open_source(write({"x": range(100)}), shuffle=True, shuffle_window=30)
    other = open_source(write({"x": range(100)}, "b.parquet", rows=33), shuffle=True, shuffle_window=30)
    for each in (source, other):
        words = each.order_words()
        compiled = jax.jit(lambda start, each=each, words=words: each.get_batch_at(start, 40, words)["x"])
        assert compiled(80).tolist() == order_of(each, 80, 40)
    assert order_of(source) != order_of(other)
