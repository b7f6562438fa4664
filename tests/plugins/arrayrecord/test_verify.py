"""Verification finds bad records under every policy, and changes nothing."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_records import TOTAL, source_of, write_files

import datarax_arrayrecord
from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule
from datarax_core import DataFileError, RecordError
from datarax_core.sources.blocks import verified_blocks

BAD = (0, 7, 39)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Write files whose records `BAD` are damaged."""
    paths = write_files(tmp_path, options="group_size:1,uncompressed")
    for path in map(Path, paths):
        content = bytearray(path.read_bytes())
        for number in BAD:
            place = content.find(number.to_bytes(4, "little") + bytes([number, 1, 2, 3]))
            if place >= 0:
                content[place] ^= 255
        path.write_bytes(content)
    return paths


def found(source: ArrayRecordSourceModule) -> list[RecordError]:
    return [error for part in verified_blocks(source) for error in part.errors]


@pytest.mark.parametrize("settings", [{}, {"on_error": "substitute", "max_errors": 0}, {"decoder": "raw"}])
def test_bad_records_are_named_by_file_and_row(files: list[str], settings: dict[str, Any]) -> None:
    errors = found(source_of(files, **settings))
    assert [(error.record, error.path, error.row) for error in errors] == [
        (0, files[0], 0),
        (7, files[2], 0),
        (39, files[3], 12),
    ]


def test_verifying_counts_and_lists_nothing_in_the_source(files: list[str], tmp_path: Path) -> None:
    source = source_of(files, on_error="substitute", quarantine=str(tmp_path / "bad.jsonl"))
    before = source.get_state()
    assert len(found(source)) == 3
    assert source.get_state() == before
    assert source.get_operation_stats() == {"applied_count": 0, "skipped_count": 0}
    assert not (tmp_path / "bad.jsonl").exists()


def test_excluded_records_are_not_verified(files: list[str], tmp_path: Path) -> None:
    lines = [
        {"file": files[0], "record": 0, "cause": "torn"},
        {"file": None, "record": 3, "cause": "of another source"},
    ]
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = source_of(files, exclude=str(tmp_path / "bad.jsonl"))
    assert source.total_records == TOTAL - 1
    assert [(error.record, error.row) for error in found(source)] == [(6, 0), (38, 12)]


def test_records_that_cannot_be_decoded_are_bad(tmp_path: Path) -> None:
    (file, *_) = write_files(tmp_path, (10,))
    fields = {"id": {"dtype": "int32"}, "flags": {"dtype": "bool", "shape": [4]}}
    errors = found(source_of(file, decoder={"type": "array", "fields": fields}))
    assert len(errors) == 10
    assert "field 'flags' is bool[4]" in errors[0].reason


def test_verifying_a_source_whose_first_record_is_bad_does_not_change_it(tmp_path: Path) -> None:
    path = tmp_path / "x.array_record"
    datarax_arrayrecord.write(path, {"id": np.arange(100) + 2**40}, "npz", compression="uncompressed")
    content = bytearray(path.read_bytes())
    content[content.find((2**40).to_bytes(8, "little"))] ^= 255
    path.write_bytes(content)
    path.with_name("x.array_record.json").unlink()
    source = ArrayRecordSourceModule(ArrayRecordSourceConfig(decoder="npz"), path)
    assert [error.row for error in found(source)] == [0]
    for one in (source, pickle.loads(pickle.dumps(source))):  # noqa: S301 - our own bytes
        with pytest.raises(RecordError, match=r"record 0 of .*x\.array_record"):
            one.element_spec()
        assert [error.row for error in found(one)] == [0]


def test_all_records_of_a_file_without_readable_ones_are_bad(tmp_path: Path) -> None:
    datarax_arrayrecord.write(tmp_path / "x.array_record", {"id": np.arange(40)})
    source = ArrayRecordSourceModule(ArrayRecordSourceConfig(decoder="npz"), tmp_path)
    assert [error.row for error in found(source)] == list(range(40))


def test_a_file_that_changed_is_an_error_and_no_bad_record(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    source = source_of(files)
    with Path(files[2]).open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataFileError, match=r"x\.array_record-00002-of-00004 changed while a source read it"):
        found(source)
