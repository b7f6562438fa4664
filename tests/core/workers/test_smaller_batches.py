"""Shared memory of workers, for batches that are smaller than their spec says."""

import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core import SpecError
from datarax_core.workers.shared_batches import SharedBatches, shared_file

SPEC = {
    "id": jax.ShapeDtypeStruct((), np.dtype(np.int64)),
    "x": jax.ShapeDtypeStruct((8, 2), np.dtype(np.int32)),
}


@pytest.fixture
def memory() -> Iterator[SharedBatches]:
    file = shared_file(SharedBatches.size(SPEC, 6, 2))
    yield SharedBatches(SPEC, 6, 2, file)
    os.close(file)


def batch(rows: range, length: int) -> dict[str, np.ndarray]:
    x = (
        np.arange(length * 2, dtype=np.int32).reshape(1, length, 2)
        + 100 * np.arange(rows.start, rows.stop)[:, None, None]
    )
    return {"id": np.arange(rows.start, rows.stop), "x": x.astype(np.int32)}


def parts_of(*written: dict[int, Any]) -> dict[int, list[Any]]:
    numbers = {number for part in written for number in part}
    return {number: [part.get(number) for part in written] for number in numbers}


@pytest.mark.parametrize("length", [8, 5, 1, 0])
def test_parts_of_one_smaller_shape_are_one_batch(memory: SharedBatches, length: int) -> None:
    one = memory.write(1, 0, batch(range(2), length))
    two = memory.write(1, 2, batch(range(2, 5), length))
    found = memory.read(1, 5, parts_of(one, two))
    expected = batch(range(5), length)
    assert found["x"].shape == (5, length, 2)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_parts_of_several_shapes_are_refused(memory: SharedBatches) -> None:
    one, two = memory.write(0, 0, batch(range(2), 8)), memory.write(0, 2, batch(range(2, 4), 3))
    with pytest.raises(
        SpecError, match=r"records of shapes \[3, 2\] and \[8, 2\] in field 'x'; the records of a batch have one"
    ):
        memory.read(0, 4, parts_of(one, two))
