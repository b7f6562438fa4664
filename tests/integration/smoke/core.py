"""Smoke test of core alone: a list as a source, and a pipeline over it."""

import numpy as np

from datarax_core import Pipeline, from_sequence

source = from_sequence([{"x": np.int32(i)} for i in range(10)], shuffle=True, seed=0)
served = [x for batch in Pipeline(source=source, batch_size=4) for x in batch["x"].tolist()]
assert sorted(served) == list(range(10)) != served
