"""How the conformance kit compares batches whose records may be padded."""

import numpy as np
import pytest

from datarax_core.records.ragged import Ragged
from datarax_core.testing.checks import difference, joined

ROWS = np.array([[1, 2, 3, 0], [4, 0, 0, 0]])


def padded(rows: np.ndarray, length: int, value: int = 0, *, left: bool = False) -> dict[str, np.ndarray]:
    made = np.full((len(rows), length), value)
    made[:, -rows.shape[1] :] = rows
    return {"x": made if left else np.concatenate([rows, np.full((len(rows), length - rows.shape[1]), value)], axis=1)}


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("value", [0, 9])
def test_padding_of_one_value_is_no_difference(value: int, *, left: bool) -> None:
    long = padded(ROWS, 7, value, left=left)
    for one, other in (({"x": ROWS}, long), (long, {"x": ROWS})):
        assert difference(one, other, may_be_padded=True) == ""
    assert difference({"x": ROWS}, long) == "field 'x' has shape [2, 7] where [2, 4] is expected"


def test_other_values_are_one() -> None:
    long = padded(ROWS, 7)
    long["x"][1, 6] = 5
    assert "field 'x' of row 1 is" in difference({"x": ROWS}, long, may_be_padded=True)
    assert "has 1 rows where 2 are expected" in difference({"x": ROWS}, {"x": ROWS[:1]}, may_be_padded=True)
    assert "field 'x' of row 0 is" in difference({"x": ROWS}, {"x": ROWS + 1}, may_be_padded=True)
    assert "field 'x' of row 0 is" in difference({"x": np.arange(2)}, {"x": ROWS}, may_be_padded=True)


def test_batches_of_several_shapes_are_joined_to_ragged_columns() -> None:
    found = joined([{"x": ROWS}, {"x": ROWS[:, :2]}])["x"]
    assert isinstance(found, Ragged)
    assert found.lengths.tolist() == [4, 4, 2, 2]
    assert isinstance(joined([{"x": ROWS}, {"x": ROWS}])["x"], np.ndarray)
