"""Smoke test: a config over an .npz file."""

from pathlib import Path

import numpy as np

from datarax_core import Pipeline

np.savez("data.npz", x=np.arange(10, dtype=np.int32))
Path("train.yaml").write_text(
    "batch_size: 4\nsource: {type: memory, path: data.npz, shuffle: true}\n", encoding="utf-8"
)
batches = [batch["x"] for batch in Pipeline.from_config("train.yaml")]
assert [len(batch) for batch in batches] == [4, 4, 2]
assert sorted(np.concatenate(batches).tolist()) == list(range(10))
