"""The conformance tests of sources, for views that join sources or repeat one; a field of the records varies in length."""

from pathlib import Path
from typing import Any

import numpy as np

from datarax_core.testing import Shows, SourceConformance


def write(
    folder: Path, ids: np.ndarray, *, prefix: str = "", placement: str = "device", **options: Any
) -> dict[str, Any]:
    """Write records with their number, and tokens as often as it says modulo 3; return the config of their source."""
    folder.mkdir()
    lengths = ids % 3
    columns = {"id": ids, "tokens": np.repeat(ids, lengths), "tokens.offsets": np.cumsum([0, *lengths])}
    for name, column in columns.items():
        np.save(folder / f"{prefix}{name}.npy", column)
    return {"type": "memory", "path": str(folder), "placement": placement, "shuffle": True, **options}


class TestRepeat(SourceConformance):
    expected_length = 60
    expected_records = {3: {"id": 3, "tokens": []}, 8: {"id": 8, "tokens": [8, 8]}}
    every_record_once = False

    def make_config(self, folder: Path) -> dict[str, Any]:
        source = write(folder / "rows", np.arange(20, dtype=np.int32), placement="host")
        self.effective = {
            "times": 2,
            "order": "passes",
            "source": {**source, "columns": ["id"]},
        }
        return {"type": "repeat", "times": 3, "order": "adjacent", "source": source}


class TestConcat(SourceConformance):
    expected_length = 33
    expected_records = {19: {"id": 19, "tokens": [19]}, 21: {"id": 1001, "tokens": [1001, 1001]}}

    def make_config(self, folder: Path) -> dict[str, Any]:
        first = write(folder / "first", np.arange(20, dtype=np.int32))
        second = write(folder / "second", np.arange(1000, 1013, dtype=np.int32), placement="host", shuffle=False)
        self.effective = {
            "sources": [second, first],
            "names": Shows(value=["a", "b"], at=lambda source: source.names),
            "shuffle": False,
        }
        return {"type": "concat", "sources": [first, second]}


class TestZip(SourceConformance):
    expected_length = 20
    expected_records = {8: {"id": 8, "tokens": [8, 8], "more": {"id": 1008}}}

    def make_config(self, folder: Path) -> dict[str, Any]:
        ids = np.arange(20, dtype=np.int32)
        first = write(folder / "first", ids)
        second = write(folder / "second", ids + 1000, prefix="more_", shuffle=False)
        self.effective = {
            "sources": [second, first],
            "names": ["a", "b"],
            "shuffle": False,
            "prefix": ["", "right "],
            "rename": {"1": {"more_id": "id 2"}},
        }
        self.expected_records = {8: {"id": 8, "tokens": [8, 8], "more_id": 1008, "more_tokens": []}}
        return {"type": "zip", "sources": [first, second]}
