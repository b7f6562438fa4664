"""Tables of record indices: what may be in them, and the same records in compiled code."""

import pickle
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core.order import TableSelection


def test_rows_are_integers_or_booleans() -> None:
    assert TableSelection.of([3, 0, -1], 5, "it").table.tolist() == [3, 0, 4]
    assert TableSelection.of(np.array([True, False, True]), 3, "it").table.tolist() == [0, 2]
    assert TableSelection.of(np.array([2, 1], np.uint8), 5, "it").table.tolist() == [2, 1]


def test_compiled_code_finds_the_same_records() -> None:
    selection = TableSelection.of([3, 0, 4], 5, "it")
    indices = np.array([2, 0, 1, 1])
    mapping, table = selection.traced("it")
    assert jax.jit(mapping)(table, indices).tolist() == selection.parent_indices(indices).tolist() == [4, 3, 0, 0]
    assert selection.traced("it")[1] is table
    assert table.dtype == np.int32


def test_tables_differ_in_text_and_fingerprint() -> None:
    one, other = TableSelection.of([3, 0], 5, "it"), TableSelection.of([0, 3], 5, "it")
    assert one.fingerprint() != other.fingerprint()
    assert str(one) != str(other)
    assert str(one).startswith("2 of 5 records")
    assert one.fingerprint() == pickle.loads(pickle.dumps(one)).fingerprint()  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([0.5, 1.0], TypeError, "are selected by integers, or by one boolean a record, such as .* float64"),
        ([[0, 1]], TypeError, r"shape \[1, 2\]"),
        (["a"], TypeError, "are selected by integers"),
        ([True, 2], TypeError, r"by integers, or by one boolean a record, not by both: \[True, 2\]"),
        ([0, 7, 9], IndexError, "record 7 is out of range: it has 5 records"),
        ([0, -6], IndexError, "record -6 is out of range"),
        ([4, 1, -1], ValueError, "record 4 of it is selected twice, at places 0 and 2; a subset has each record once"),
        ([], ValueError, "no record of it is selected"),
        ([True, False], IndexError, r"one boolean a record, 5 in all, and this one has shape \[2\]"),
        ([False] * 5, ValueError, "False everywhere: it selects none of its 5 records"),
    ],
)
def test_mistakes_in_rows_are_named(rows: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        TableSelection.of(rows, 5, "it")


def test_records_past_32_bits_are_for_the_host() -> None:
    selection = TableSelection.of([2**33], 2**34, "it")
    assert selection.parent_indices(np.array([0])).tolist() == [2**33]
    with pytest.raises(ValueError, match=r"past the .* that 32-bit indices under jit can address"):
        selection.traced("it")
