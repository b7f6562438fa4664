"""How the conformance kit compares batches whose records may be padded."""

from typing import Any

import numpy as np
import pytest

from datarax_core.records.ragged import Ragged
from datarax_core.testing.checks import difference, joined
from datarax_core.testing.stages.comparing import first_difference, require_expected

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


@pytest.mark.parametrize("dtype", [object, "U9", "T"])
def test_text_of_any_width_and_in_objects_is_one_kind(dtype: object) -> None:
    made = {"t": np.array(["a", "bcd"], np.dtypes.StringDType() if dtype == "T" else dtype)}

    class Subject:
        title = "a stage"
        expected: Any = None
        served, difference = staticmethod(lambda: made), staticmethod(first_difference)

    subject = Subject()
    for expected in (np.array(["a", "bcd"]), np.array(["a", "bcd"], object)):
        subject.expected = {"t": expected}
        require_expected(subject)
        subject.expected = {"t": np.array(["a", "bcde"], expected.dtype if expected.dtype == object else None)}
        with pytest.raises(pytest.fail.Exception, match=r"field 't' of row 1 is 'bcd' where 'bcde' is expected"):
            require_expected(subject)


def test_batches_of_several_shapes_are_joined_to_ragged_columns() -> None:
    found = joined([{"x": ROWS}, {"x": ROWS[:, :2]}])["x"]
    assert isinstance(found, Ragged)
    assert found.lengths.tolist() == [4, 4, 2, 2]
    assert isinstance(joined([{"x": ROWS}, {"x": ROWS}])["x"], np.ndarray)
