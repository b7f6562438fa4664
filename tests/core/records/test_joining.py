"""Columns and batches joined, ragged ones too."""

import jax
import numpy as np
import pytest

from datarax_core.errors import SpecError
from datarax_core.records import Ragged, empty_batch, joined_batches, joined_columns


def test_batches_join_with_ragged_columns() -> None:
    one = {"x": np.arange(2), "t": Ragged.from_list([[1], [2, 3]], np.int32)}
    other = {"x": np.arange(1), "t": Ragged.from_list([[4, 5, 6]], np.int32)}
    joined = joined_batches([one, other])
    assert joined["x"].tolist() == [0, 1, 0]
    assert [row.tolist() for row in joined["t"]] == [[1], [2, 3], [4, 5, 6]]
    assert joined_columns([one["t"]]) is one["t"]


def test_ragged_columns_of_two_dtypes_do_not_join() -> None:
    with pytest.raises(SpecError, match=r"ragged columns of int32\[None\] and of int64\[None\] do not make one"):
        joined_columns([Ragged.from_list([[1]], np.int32), Ragged.from_list([[1]], np.int64)])


def test_a_batch_without_records_has_ragged_columns() -> None:
    spec = {"x": jax.ShapeDtypeStruct((3,), np.dtype("f4")), "t": jax.ShapeDtypeStruct((None, 2), np.dtype("i4"))}
    batch = empty_batch(spec)
    assert batch["x"].shape == (0, 3)
    assert isinstance(batch["t"], Ragged)
    assert batch["t"].shape == (0, None, 2)
    assert batch["t"].dtype == np.int32


def test_joined_arrays_keep_the_order_of_bytes() -> None:
    joined = joined_columns([np.array([258], ">i4"), np.array([1], ">i4")])
    assert (joined.dtype.str, joined.tolist()) == (">i4", [258, 1])
    assert joined_columns([np.array(["a"]), np.array(["abc"])]).tolist() == ["a", "abc"]
