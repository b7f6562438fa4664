"""Record indices and positions: of any integer dtype, empty, and invalid ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx
from record_files import SPEC, ids, source_of, write_numbers


@pytest.mark.parametrize(
    ("indices", "error_type", "message"),
    [
        ([10], IndexError, "record 10 is out of range: ArrayRecordSourceModule has 10 records"),
        ([3, -1], IndexError, "record -1 is out of range"),
        ([2**40], IndexError, "record 1099511627776 is out of range"),
        ([1.5], TypeError, r"named by integers, such as np.array\(\[0, 5\]\), not \[1.5\]"),
        ([[1]], TypeError, "named by integers"),
        (["1"], TypeError, "named by integers"),
        ([True], TypeError, "named by integers"),
    ],
)
def test_invalid_indices_are_refused(tmp_path: Path, indices: Any, error_type: type[Exception], message: str) -> None:
    with pytest.raises(error_type, match=message):
        source_of(write_numbers(tmp_path, [4, 6])).get_records(indices)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "u4", "i8", "u8", ">i4"])
def test_indices_of_any_integer_dtype(tmp_path: Path, dtype: str) -> None:
    source = source_of(write_numbers(tmp_path, [40, 60]))
    rows = np.asarray([50, 3, 3, 99, 0, 41], dtype)
    assert ids(source.get_records(rows)) == rows.tolist()
    descending = np.arange(99, -1, -1).astype(dtype)
    assert ids(source.get_records(descending)) == descending.tolist()


def test_no_indices_give_an_empty_batch(tmp_path: Path) -> None:
    files = write_numbers(tmp_path, [4])
    batch = source_of(files).get_records([])
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
        name: ((0, *leaf.shape), leaf.dtype) for name, leaf in SPEC.items()
    }
    assert source_of(files, decoder=None).get_records([])["record"].shape == (0,)


@pytest.mark.parametrize(
    ("where", "error_type", "message"),
    [
        ((-1, 2), ValueError, "position -1 is before the start|a position is 0 or more, not -1"),
        ((1.5, 2), TypeError, "a position is an integer, not 1.5"),
        ((0, -1), ValueError, "size"),
        ((0, 1.5), TypeError, "size"),
    ],
)
@pytest.mark.parametrize("config", [{}, {"shuffle": True}, {"shuffle_files": True}, {"decoder": None}], ids=str)
def test_invalid_positions_are_refused(
    tmp_path: Path, where: Any, error_type: type[Exception], message: str, config: dict[str, Any]
) -> None:
    source = source_of(write_numbers(tmp_path, [4, 6]), rngs=nnx.Rngs(0), **config)
    with pytest.raises(error_type, match=message):
        source.get_batch_at(*where, source.order_key_data())
