"""Columns: on the device, arrays are made of them once, when they are placed; on the host, only the rows asked for are read."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datarax_core import Pipeline, columns_of
from datarax_memory import MemorySource, MemorySourceConfig


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


STRIDED = {
    "every other row": lambda rows: np.repeat(rows, 2, axis=0)[::2],
    "backwards": lambda rows: rows[::-1],
    "an axis moved": lambda rows: np.moveaxis(rows, -1, 1),
    "records last": lambda rows: np.moveaxis(np.moveaxis(rows, 0, -1).copy(), -1, 0),
    "Fortran order": np.asfortranarray,
}


@pytest.mark.parametrize("arrange", STRIDED.values(), ids=STRIDED)
def test_rows_of_a_strided_column_are_read_without_a_copy_of_the_column(arrange: Any) -> None:
    rows = arrange(np.arange(4096 * 8 * 16, dtype=np.int32).reshape(4096, 8, 16))
    columns = columns_of({"x": rows}, "the test's data")
    indices = np.asarray([3, 4095, 0, 3])
    tracemalloc.start()
    try:
        read = columns.rows(indices)["x"]
        assert tracemalloc.get_traced_memory()[1] < rows.nbytes / 16
    finally:
        tracemalloc.stop()
    assert read.tolist() == rows[indices].tolist()
    read[:] = 0  # it is no view of the caller's array
    assert rows[3].any()


def test_windows_over_a_mapped_file_are_read_alone(tmp_path: Path) -> None:
    tokens = np.memmap(tmp_path / "tokens.bin", np.uint16, "w+", shape=(1 << 21,))
    tokens[:] = np.arange(1 << 21, dtype=np.uint32) % 60_000
    windows = np.lib.stride_tricks.sliding_window_view(tokens, 1 << 20)  # 2 TiB, had they memory of their own
    source = MemorySource(MemorySourceConfig(), {"tokens": windows})
    assert source.access == "host"
    pipeline = Pipeline(source=source, batch_size=4)
    batch = pipeline.step()["tokens"]
    assert np.asarray(batch).tolist() == windows[:4].tolist()
    assert pipeline.get_state()["position"] == 4
