"""The conformance tests of sources, for draws with replacement; a field of the records varies in length."""

from pathlib import Path
from typing import Any

import numpy as np

from datarax_core.testing import Shows, SourceConformance

LENGTH = 40


class TestSample(SourceConformance):
    expected_length = LENGTH
    expected_records = {3: {"id": 3, "label": 0, "tokens": []}, 8: {"id": 8, "label": 2, "tokens": [8, 8]}}
    every_record_once = False

    def make_config(self, folder: Path) -> dict[str, Any]:
        ids = np.arange(LENGTH, dtype=np.int32)
        lengths = ids % 3
        columns = {
            "id": ids,
            "label": ids % 3,
            "weight": ids * 0.5,
            "tokens": np.repeat(ids, lengths),
            "tokens.offsets": np.cumsum([0, *lengths]),
        }
        (folder / "rows").mkdir()
        for name, column in columns.items():
            np.save(folder / "rows" / f"{name}.npy", column)
        np.save(folder / "weights.npy", ids % 2)
        rows = {"type": "memory", "path": str(folder / "rows")}
        self.effective = {
            "source": {**rows, "columns": ["id", "label", "weight"]},
            "weights": Shows(value=str(folder / "weights.npy"), needs={"balanced": None}),
            "balanced": Shows(value="id"),
            "draws": 17,
        }
        return {"type": "sample", "balanced": "label", "source": rows}
