"""The conformance tests of sources, for a memory source shuffled on the device, and for one mapped from a file."""

from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from datarax_core.testing import Shows, SourceConformance
from datarax_memory import MemorySource, MemorySourceConfig

LENGTH = 50
IDS = np.arange(LENGTH)
DATA = {"id": IDS, "x": np.stack([IDS * 0.5, -IDS], axis=1)}
EFFECTIVE = {
    "cache_size": Shows(value=1, at=lambda source: source.fetch(IDS)["id"] is source.fetch(IDS)["id"]),
    "num_workers": Shows(value=2, needs={"shard_id": 0}),
    "shard_id": Shows(value=1, needs={"num_workers": 2}),
}

OF_ADDRESSES = dict.fromkeys(("cache_dir", "cache_bytes", "storage_options", "local_files_only"), "test_addresses.py")


class TestOnTheDevice(SourceConformance):
    config = {"type": "memory", "shuffle": True}
    expected_length = LENGTH
    expected_records = {7: {"id": 7, "x": [3.5, -7.0]}}
    effective = EFFECTIVE
    shown_elsewhere = {"path": "TestOfAFile", "columns": "test_chosen_columns.py", **OF_ADDRESSES}

    def make_source(self, config: Any, seed: int) -> MemorySource:
        return MemorySource(config, DATA, rngs=nnx.Rngs(seed))

    def make_sized_source(self, length: int, folder: Path) -> MemorySource:  # noqa: ARG002 - it needs no files
        return MemorySource(MemorySourceConfig(shuffle=True), np.arange(length), rngs=nnx.Rngs(0))


class TestOfAFile(SourceConformance):
    expected_length = LENGTH
    expected_records = {7: {"id": 7, "x": [3.5, -7.0]}}
    effective = {name: shows for name, shows in EFFECTIVE.items() if name != "cache_size"}
    shown_elsewhere = {
        "cacheable": "test_files.py::test_cacheable_keeps_everything_in_memory_so_that_the_files_are_not_touched_again",
        "cache_size": "TestOnTheDevice",
        "columns": "test_chosen_columns.py",
        **OF_ADDRESSES,
    }

    def make_config(self, folder: Path) -> dict[str, Any]:
        np.savez(folder / "data.npz", **DATA)
        return {"type": "memory", "path": str(folder / "data.npz"), "placement": "host"}
