"""The conformance tests of sources, for mixtures of children on the device, and with a child that the host reads."""

from pathlib import Path
from typing import Any

import numpy as np

from datarax_core.testing import Shows, SourceConformance

LENGTHS = {"first": 40, "second": 25}


class TestOnTheDevice(SourceConformance):
    expected_length = sum(LENGTHS.values())
    expected_records = {3: {"id": 3}, 44: {"id": 1004}}
    every_record_once = False
    placement = "device"

    def make_config(self, folder: Path) -> dict[str, Any]:
        for number, (name, length) in enumerate(LENGTHS.items()):
            np.savez(folder / f"{name}.npz", id=np.arange(length, dtype=np.int32) + 1000 * number)
        sources = [
            {"type": "memory", "path": str(folder / f"{name}.npz"), "shuffle": True, "placement": placement}
            for name, placement in zip(LENGTHS, ("device", self.placement), strict=True)
        ]
        np.savez(folder / "other.npz", id=np.arange(9, dtype=np.int32), extra=np.zeros(9, np.int32))
        other = {"type": "memory", "path": str(folder / "other.npz"), "placement": self.placement}
        self.effective = {
            "names": Shows(value=["a", "b"], at=lambda source: source.names),
            "sources": [sources[1], sources[0]],
            "weights": [0.5, 0.5],
            "temperature": Shows(value=2.0, needs={"weights": None}),
            "at_end": ["drop", "repeat"],
            "select": Shows(value={"1": ["id"]}, needs={"sources": [sources[0], other]}),
            "rename": Shows(value={"0": {"id": "number"}, "1": {"id": "number"}}),
            "fill": Shows(value={"extra": 1}, needs={"sources": [sources[0], other]}),
            "source_field": "child",
        }
        return {"type": "mix", "weights": [0.7, 0.3], "sources": sources}


class TestOnTheHost(TestOnTheDevice):
    placement = "host"
