"""The conformance tests of sources, for mixtures of children on the device, and with a child that the host reads.

A field of their records varies in length.
"""

from pathlib import Path
from typing import Any

import numpy as np

from datarax_core.testing import Shows, SourceConformance

LENGTHS = {"first": 40, "second": 25}


def write(folder: Path, ids: np.ndarray, **more: np.ndarray) -> str:
    """Write records with their number, and tokens as often as its last digit says modulo 3; return the folder."""
    folder.mkdir()
    lengths = ids % 10 % 3
    columns = {"id": ids, "tokens": np.repeat(ids, lengths), "tokens.offsets": np.cumsum([0, *lengths]), **more}
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column)
    return str(folder)


class TestOnTheDevice(SourceConformance):
    expected_length = sum(LENGTHS.values())
    expected_records = {3: {"id": 3, "tokens": []}, 44: {"id": 1004, "tokens": [1004]}}
    every_record_once = False
    placement = "device"

    def make_config(self, folder: Path) -> dict[str, Any]:
        paths = [
            write(folder / name, np.arange(length, dtype=np.int32) + 1000 * number)
            for number, (name, length) in enumerate(LENGTHS.items())
        ]
        sources = [
            {"type": "memory", "path": path, "shuffle": True, "placement": placement}
            for path, placement in zip(paths, ("device", self.placement), strict=True)
        ]
        path = write(folder / "other", np.arange(9, dtype=np.int32), extra=np.zeros(9, np.int32))
        other = {"type": "memory", "path": path, "placement": self.placement}
        self.effective = {
            "names": Shows(value=["a", "b"], at=lambda source: source.names),
            "sources": [sources[1], sources[0]],
            "weights": [0.5, 0.5],
            "temperature": Shows(value=2.0, needs={"weights": None}),
            "at_end": ["drop", "repeat"],
            "select": Shows(value={"1": ["id", "tokens"]}, needs={"sources": [sources[0], other]}),
            "rename": Shows(value={"0": {"id": "number"}, "1": {"id": "number"}}),
            "fill": Shows(value={"extra": 1}, needs={"sources": [sources[0], other]}),
            "source_field": "child",
        }
        return {"type": "mix", "weights": [0.7, 0.3], "sources": sources}


class TestOnTheHost(TestOnTheDevice):
    placement = "host"
