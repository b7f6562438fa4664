"""Smoke test: the records of a config's filter, in windows, and a view in Python that needs the order of its source."""

import numpy as np

from datarax_core import Pipeline, from_sequence
from datarax_views import RepeatView, RepeatViewConfig, SubsetView, SubsetViewConfig, WindowView, WindowViewConfig

source = from_sequence([{"x": np.int32(number)} for number in range(20)])
np.save("odd.npy", np.arange(20) % 2 == 1)
odd = SubsetView(SubsetViewConfig(mask="odd.npy"), source)
windows = WindowView(WindowViewConfig(length=4, stride=3), odd)
twice = RepeatView(RepeatViewConfig(times=2, order="adjacent"), windows)
(batch,) = Pipeline(source=twice, batch_size=6)
assert batch["x"][::2].tolist() == batch["x"][1::2].tolist() == [[1, 3, 5, 7], [7, 9, 11, 13], [13, 15, 17, 19]]
