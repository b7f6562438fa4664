"""The ArrayRecord source passes the conformance kit: in sequence, with shuffled records, and with shuffled files."""

import json
from pathlib import Path
from typing import Any

from array_records import DECODER, FIELDS, TOTAL, record_of, write_files
from flax import nnx
from record_files import Numbers, damage, write_numbers

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule
from datarax_core.testing import Damaged, Shows, SourceConformance

WITH_REST = {"type": "array", "fields": {**FIELDS, "rest": {"dtype": "uint8", "shape": [None]}}}
"""Decoder of records that vary in length."""


class TestShuffled(SourceConformance):
    expected_length = TOTAL
    expected_records = {
        0: {"id": 0, "image": [[0, 1], [2, 3]], "rest": []},
        30: {"id": 30, "image": [[30, 1], [2, 3]], "rest": [0, 0]},
    }
    shown_elsewhere = {
        "max_open_files": "test_open_files.py",
        "max_errors": "test_faults.py",
        "quarantine": "test_faults.py",
        "on_error": "test_faults.py",
        "cache_dir": "test_remote.py",
        "cache_bytes": "test_remote.py",
        "storage_options": "test_remote.py",
    }

    def make_config(self, folder: Path) -> dict[str, Any]:
        paths = write_files(folder, record_of=lambda number: record_of(number) + bytes(number % 4))
        excluded = folder / "bad.jsonl"
        excluded.write_text(json.dumps({"file": paths[0], "record": 3}) + "\n", encoding="utf-8")
        self.effective = {
            "decoder": {"type": "array", "fields": {"bytes": {"dtype": "uint8", "shape": [None]}}},
            "exclude": str(excluded),
            "num_epochs": 1,
            "local_files_only": Shows(value=True, at=lambda source: source.local_files_only),
            "shuffle_files": Shows(value=True, needs={"shuffle": False}),
        }
        return {"type": "arrayrecord", "paths": paths, "decoder": WITH_REST, "shuffle": True}

    def make_damaged(self, folder: Path) -> Damaged:
        paths = write_numbers(folder, [8, 8])
        damage(paths[1], 10)
        return Damaged(config=ArrayRecordSourceConfig(paths=paths, decoder=Numbers()), record=10, path=paths[1])

    def make_sized_source(self, length: int, folder: Path) -> ArrayRecordSourceModule:
        """Return a source of three files, one of them empty, in the order of shuffled files."""
        (folder / str(length)).mkdir()
        paths = write_files(folder / str(length), (length // 2, 0, length - length // 2))
        config = ArrayRecordSourceConfig(paths=paths, decoder=DECODER, shuffle_files=True)
        return ArrayRecordSourceModule(config, rngs=nnx.Rngs(0))
