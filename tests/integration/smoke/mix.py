"""Smoke test: a mixture of two lists."""

import numpy as np
from flax import nnx

from datarax_core import Pipeline, from_sequence
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode

children = [from_sequence([{"x": np.int32(child)}] * 30, name=str(child)) for child in (0, 1)]
mix = MixDataSourcesNode(MixDataSourcesConfig(num_sources=2, weights=(0.75, 0.25)), children, rngs=nnx.Rngs(0))
batch = next(iter(Pipeline(source=mix, batch_size=40)))
assert int(batch["x"].sum()) == 10
