"""Columns on the device: arrays are made of them once, when they are placed."""

from typing import Any

import numpy as np

from datarax_core import columns_of


def test_a_column_becomes_an_array_once_when_it_is_placed() -> None:
    class Made:
        dtype, shape, nbytes, asked = np.dtype(np.int32), (4,), 16, 0

        def __len__(self) -> int:
            return 4

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            self.asked += 1
            return np.arange(4, dtype=np.int32)

    columns = columns_of({"x": np.zeros(4, np.int32)}, "the test's data")
    columns.columns["x"] = made = Made()
    for _ in range(2):
        assert columns.placed()[1][0].tolist() == [0, 1, 2, 3]
    assert made.asked == 1
