"""Records that views meet rarely: of JAX's own dtypes, empty, single, and of few values."""

import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from datarax_core import Ragged
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_views import BucketView, BucketViewConfig, SampleView, SampleViewConfig, WindowView, WindowViewConfig

HALVES = (np.arange(7) / 2).astype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("placement", ["host", "device"])
def test_windows_of_bfloat16_are_padded_with_zeros(placement: str) -> None:
    source = MemorySource(MemorySourceConfig(placement=placement), {"x": HALVES})
    windows = WindowView(WindowViewConfig(length=4, remainder="pad"), source)
    found = np.asarray(windows.fetch(np.arange(2))["x"])
    assert found.dtype == HALVES.dtype
    assert found.tolist() == [[0, 0.5, 1, 1.5], [2, 2.5, 3, 0]]


def test_buckets_of_bfloat16_are_padded() -> None:
    source = MemorySource(MemorySourceConfig(), {"x": Ragged.from_list([HALVES[:1], HALVES[1:4], HALVES[:2]])})
    buckets = BucketView(BucketViewConfig(field="x", bounds=(2, 4), batch_size=2, pad_value=0.5), source)
    assert np.asarray(buckets.fetch(np.array([1, 0]))["x"]).tolist() == [[0.5, 1, 1.5, 0.5], [0, 0.5, 0.5, 0.5]]


def test_weights_may_be_bfloat16() -> None:
    source = MemorySource(MemorySourceConfig(), {"x": HALVES})
    of_field = SampleView(SampleViewConfig(weights="x"), source, rngs=nnx.Rngs(0))
    given = SampleView(SampleViewConfig(), source, HALVES, rngs=nnx.Rngs(0))
    known = SampleView(SampleViewConfig(), source, HALVES.astype(np.float64), rngs=nnx.Rngs(0))
    assert of_field.counts_at(300).tolist() == given.counts_at(300).tolist() == known.counts_at(300).tolist()
