"""Smoke test: files written, and read back by a config."""

import numpy as np

from datarax_arrayrecord import write
from datarax_core import Pipeline

write("train.array_record", {"x": np.arange(10, dtype=np.int32)})
config = {"batch_size": 4, "source": {"type": "arrayrecord", "paths": "train.array_record", "shuffle": True}}
served = [x for batch in Pipeline.from_config(config) for x in batch["x"].tolist()]
assert sorted(served) == list(range(10)) != served
