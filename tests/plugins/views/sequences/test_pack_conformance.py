"""The conformance tests of sources, for views of packed rows."""

from pathlib import Path
from typing import Any

import numpy as np

from datarax_core.testing import Shows, SourceConformance

LENGTHS = np.append(np.arange(60) * 7 % 9, [20, 3])


class TestFit(SourceConformance):
    expected_records = {1: {"positions": [*range(8), *range(4)]}}
    shown_elsewhere = {
        "length_field": "test_pack_mistakes.py::test_lengths_that_the_documents_do_not_have_are_noticed_when_they_are_read"
    }
    options: dict[str, Any] = {"too_long": "split", "max_segments": 2}

    def make_config(self, folder: Path) -> dict[str, Any]:
        offsets = np.cumsum([0, *LENGTHS])
        tokens = np.concatenate([number + np.arange(length) for number, length in enumerate(LENGTHS)])
        fields = {"tokens": tokens.astype(np.int32), "mask": np.ones(offsets[-1], bool)}
        for name, column in fields.items():
            np.save(folder / f"{name}.npy", column)
            np.save(folder / f"{name}.offsets.npy", offsets)
        other = folder / "other"
        other.mkdir()
        np.save(other / "tokens.npy", np.arange(9, dtype=np.int32))
        np.save(other / "tokens.offsets.npy", np.array([0, 4, 9]))
        self.effective = {
            "field": "mask",
            "pad_value": Shows(value=7, at=lambda source: source.fetch(np.arange(len(source)))["tokens"].tolist()),
            "positions_in": Shows(
                value="document", at=lambda source: source.fetch(np.arange(len(source)))["positions"].max()
            ),
            "segment_field": "segments",
            "position_field": "places",
            "shuffle_documents": "strategy" in self.options,
            "seed": Shows(value=1, needs={"shuffle_documents": True}),
            "source": Shows(value={"type": "memory", "path": str(other)}),
        }
        source = {"type": "memory", "path": str(folder), "shuffle": True}
        return {"type": "pack", "length": 12, "field": "tokens", **self.options, "source": source}


class TestConcat(TestFit):
    expected_records = {0: {"positions": [*range(7), *range(5)], "tokens": [1, 2, 3, 4, 5, 6, 7, 2, 3, 4, 5, 6]}}
    options = {"strategy": "concat"}
