"""The memory source keeps what every source promises: shuffled on the device, in sequence on the host, and of a file."""

from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from datarax_core.testing import Shows, SourceConformance
from datarax_memory import MemorySource, MemorySourceConfig

LENGTH = 50
IDS = np.arange(LENGTH)
DATA = {"id": IDS, "x": np.stack([IDS * 0.5, -IDS], axis=1)}


class TestOnTheDevice(SourceConformance):
    config = {"type": "memory", "shuffle": True}
    expected_length = LENGTH
    expected_records = {7: {"id": 7, "x": [3.5, -7.0]}}
    effective = {
        "cache_size": Shows(value=2, at=lambda source: source.fetch(np.arange(3)) is source.fetch(np.arange(3))),
        "num_workers": Shows(value=2, beside={"shard_id": 0}),
        "shard_id": Shows(value=1, beside={"num_workers": 2}),
    }
    shown_elsewhere = {"path": "TestOfAFile"}

    def make_source(self, config: Any, seed: int) -> MemorySource:
        return MemorySource(config, DATA, rngs=nnx.Rngs(seed))

    def make_sized_source(self, length: int, seed: int) -> MemorySource:
        return MemorySource(MemorySourceConfig(shuffle=True), np.arange(length), rngs=nnx.Rngs(seed))
