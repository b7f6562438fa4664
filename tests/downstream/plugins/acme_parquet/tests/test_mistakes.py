"""Mistakes in a config and damage in files, and what is said of each."""

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acme_parquet import AcmeParquet, AcmeParquetConfig
from datarax_core import ConfigError, DataFileError, Pipeline, RecordError

Write = Callable[..., str]

UNSERVED = {
    "decimal128(4, 2)": ("write it as float64", pa.array([Decimal("1.50")], pa.decimal128(4, 2))),
    "list<": ("write it as lists of one size", pa.array([[1, 2]])),
    "struct<": ("write each of its fields as a column", pa.array([{"a": 1}])),
    "map<": ("write each key as a column", pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))),
    "time32[": ("write it as whole numbers", pa.array([1], pa.time32("s"))),
    "null": ("it holds nothing", pa.nulls(1)),
}


def open_source(paths: Any, **fields: Any) -> AcmeParquet:
    return AcmeParquet(AcmeParquetConfig(paths=paths, **fields))


# -- configs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"paths": ()}, "paths\n.* at least 1 item"),
        ({"paths": "gs://bucket/a.parquet"}, "'gs://bucket/a.parquet' is not on this machine"),
        ({"columns": ("a", "b", "a")}, "column 'a' is named more than once"),
        ({"shuffle_window": 100}, "shuffle_window=100 has no use without shuffle=True"),
        ({"shuffle_window": 0, "shuffle": True}, "shuffle_window\n.* greater than or equal to 1"),
        ({"cache_bytes": -1}, "cache_bytes\n.* greater than or equal to 0"),
        ({"cache_bytes": 1, "cacheable": True}, "leaves cache_bytes nothing to limit"),
        ({"fill_null": {"x": None}}, "fill_null.x"),
        ({"column": "x"}, "did you mean 'columns'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else ",".join(value),
)
def test_a_config_that_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AcmeParquetConfig(**{"paths": "a.parquet", **fields})


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (pa.array([1], pa.int8()), 128),
        (pa.array([1]), 0.5),
        (pa.array([1]), True),
        (pa.array([1]), "0"),
        (pa.array([True]), 0),
        (pa.array(np.array([0.5], np.float16)), 1e6),
        (pa.array(["a"]), 0),
        (pa.array([b"a"]), "a"),
        (pa.array([0], pa.date32()), 0),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else repr(value),
)
def test_what_cannot_stand_in_a_column_is_refused(column: pa.Array, value: Any, write: Write) -> None:
    message = f"fill_null: {value!r} cannot stand in column 'x', which is {column.type}"
    with pytest.raises(ConfigError, match=re.escape(message)):
        open_source(write({"x": column}), fill_null={"x": value})


def test_columns_that_are_not_there_are_named_with_those_that_are(write: Write) -> None:
    path = write({"x": [1], "y": [2]})
    with pytest.raises(ConfigError, match=r"columns names 'z', which .*data.parquet does not have; it has x, y"):
        open_source(path, columns=("x", "z"))
    with pytest.raises(ConfigError, match="fill_null names column 'y', which is not read; the columns are x"):
        open_source(path, columns=("x",), fill_null={"y": 0})


def test_all_columns_that_are_no_arrays_are_named_with_what_to_do(write: Write) -> None:
    path = write({f"c{i}": column for i, (_, column) in enumerate(UNSERVED.values())})
    with pytest.raises(ConfigError, match="columns that cannot be served") as refused:
        open_source(path)
    for number, (kind, (remedy, _)) in enumerate(UNSERVED.items()):
        assert re.search(f"column 'c{number}' is {re.escape(kind)}.*: {remedy}", str(refused.value))
    assert str(refused.value).endswith("or leave them out: name those to read in 'columns'")


# -- files --------------------------------------------------------------------------------------------------------------


def test_paths_without_files_are_named(tmp_path: Path) -> None:
    for path, message in {
        "missing.parquet": "no such file or folder: .*missing.parquet; 'paths' names Parquet files",
        "*.parquet": r"no file matches .*\*.parquet; name files, folders",
        "": "the folder .* has no file whose name ends with .parquet",
    }.items():
        with pytest.raises(FileNotFoundError, match=message):
            open_source(str(tmp_path / path))


def test_a_file_that_is_named_twice_is_refused(write: Write, tmp_path: Path) -> None:
    path = write({"x": [1]})
    with pytest.raises(ValueError, match=r"the paths name .*data.parquet twice"):
        open_source([path, str(tmp_path)])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", "truncated"])
def test_a_file_that_is_no_parquet_file_is_named(content: Any, write: Write) -> None:
    path = write({"x": range(100)})
    Path(path).write_bytes(Path(path).read_bytes()[:-20] if content == "truncated" else content)
    with pytest.raises(DataFileError, match=r"data.parquet is no Parquet file, or is damaged: ") as refused:
        open_source(path)
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0], "y": [1]}, r"column 'x' of .*b.parquet is double where that of .*a.parquet is int64"),
        ({"x": [1]}, r"column 'y' of .*b.parquet is not there where that of .*a.parquet is int64"),
        ({"x": [1], "y": [1], "z": [1]}, r"b.parquet has a column 'z' that .*a.parquet does not have"),
    ],
    ids=["another type", "one less", "one more"],
)
def test_files_with_other_columns_are_refused(columns: dict[str, Any], message: str, write: Write) -> None:
    paths = [write({"x": [1], "y": [1]}, "a.parquet"), write(columns, "b.parquet")]
    with pytest.raises(DataFileError, match=message):
        open_source(paths)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"]), tmp_path / "x.parquet")
    with pytest.raises(DataFileError, match="has two columns 'x'; give each a name of its own"):
        open_source(tmp_path / "x.parquet")


def test_no_records_are_refused(write: Write) -> None:
    with pytest.raises(ValueError, match=r"AcmeParquet has no records: its 1 files, .*data.parquet first, are empty"):
        open_source(write({"x": pa.array([], pa.int64())}))


@pytest.mark.parametrize("change", ["rewritten", "removed"])
def test_a_file_that_changes_after_it_was_opened_is_an_error(change: str, write: Write) -> None:
    path = write({"x": range(100)})
    source = open_source(path)
    if change == "rewritten":
        write({"x": range(200)})
    else:
        Path(path).unlink()
    words = "changed while a source read it; leave files" if change == "rewritten" else "is gone: it was removed"
    with pytest.raises(DataFileError, match=f"data.parquet {words}"):
        source.get_batch(10)


def test_a_state_of_other_files_is_refused(write: Write) -> None:
    state = open_source(write({"x": range(100)}, "a.parquet")).get_state()
    with pytest.raises(ValueError, match="names_and_sizes"):
        open_source(write({"x": range(100)}, "b.parquet")).set_state(state)


# -- records ------------------------------------------------------------------------------------------------------------


def test_a_null_is_an_error_only_where_it_is_served(write: Write) -> None:
    first = write({"x": range(30)}, "a.parquet")
    x = pa.array([None if row == 12 else row for row in range(30)])
    second = write({"x": x}, "b.parquet")
    source = open_source([first, second])
    assert source.get_records(np.array([41, 43]))["x"].tolist() == [11, 13]
    message = "record 42 cannot be served: column 'x' is null in row 2 of row group 1 of .*b.parquet; .*fill_null={'x'"
    with pytest.raises(RecordError, match=message) as refused:
        source.get_records(np.arange(60))
    assert (refused.value.record, refused.value.row) == (42, 12)
    kept = open_source([first, second], cacheable=True)
    assert kept.fetch(np.array([41, 43]))["x"].tolist() == [11, 13]
    with pytest.raises(RecordError, match=message):
        kept.fetch(np.arange(60))


def test_damage_names_file_row_group_and_column(write: Write) -> None:
    rng = np.random.default_rng(0)
    path = write({"good": rng.random(1000), "bad": rng.random(1000)}, rows=500)
    column = pq.read_metadata(path).row_group(1).column(1)
    damaged = bytearray(Path(path).read_bytes())
    damaged[column.dictionary_page_offset : column.dictionary_page_offset + 40] = b"\xff" * 40
    Path(path).write_bytes(damaged)
    source = open_source(path)
    assert len(source.get_batch(500)["bad"]) == 500
    with pytest.raises(
        DataFileError, match=r"data.parquet: row group 1 cannot be read, column 'bad': .*; the file is"
    ) as refused:
        list(Pipeline(source=source, batch_size=100))
    assert refused.value.path == path


def test_a_flipped_bit_is_found_where_the_file_has_checksums(write: Write) -> None:
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    path = write({"x": range(1000, 2000)}, rows=500, **options)
    damaged = bytearray(Path(path).read_bytes())
    damaged[damaged.index((1700).to_bytes(8, "little"))] ^= 1
    Path(path).write_bytes(damaged)
    source = open_source(path)
    assert source.get_records(np.arange(500))["x"].tolist() == list(range(1000, 1500))
    with pytest.raises(DataFileError, match=r"row group 1 cannot be read, column 'x': .*CRC"):
        source.get_records(np.array([500]))


def test_an_index_that_is_no_record_is_refused(write: Write) -> None:
    source = open_source(write({"x": range(30)}), cacheable=True)
    with pytest.raises(IndexError, match=re.escape("record 30 is out of range: AcmeParquet has 30 records")):
        source.fetch(np.array([0, 30]))
