"""Conditions on fields keep the records that a plain comparison keeps, and each mistake in them is named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from datarax_core import Ragged
from datarax_core.errors import SpecError

NUMBERS = np.arange(-5, 15)
SCORES = np.where(NUMBERS % 4 == 0, np.nan, NUMBERS / 2).astype(np.float32)
NAMES = np.array(["a", "bb", None, "ccc"] * 5, object)
COLUMNS = {
    "number": NUMBERS,
    "small": NUMBERS.astype(np.int8),
    "flag": NUMBERS % 2 == 0,
    "score": SCORES,
    "name": NAMES,
    "stored": np.array([b"a" if n == "a" else b"x" for n in NAMES], object),
    "wide": np.array([str(n) for n in NAMES]),
    "tokens": Ragged.from_list([np.arange(n % 6) for n in NUMBERS]),
    "image": np.zeros((20, 2, 2), np.uint8),
}

KEPT: dict[str, tuple[dict[str, Any], Callable[[int], bool]]] = {
    "a value": ({"number": 3}, lambda i: NUMBERS[i] == 3),
    "NumPy's value": ({"number": np.int64(3)}, lambda i: NUMBERS[i] == 3),
    "values": ({"number": [3, 5, 99]}, lambda i: NUMBERS[i] in (3, 5)),
    "many values": ({"number": list(range(0, 40, 3))}, lambda i: NUMBERS[i] >= 0 and NUMBERS[i] % 3 == 0),
    "an array of values": ({"number": np.array([3, 5])}, lambda i: NUMBERS[i] in (3, 5)),
    "a set": ({"number": {3, 5}}, lambda i: NUMBERS[i] in (3, 5)),
    "a range": ({"number": range(2, 5)}, lambda i: 2 <= NUMBERS[i] < 5),
    "a range with a step": ({"small": range(-4, 14, 3)}, lambda i: NUMBERS[i] in range(-4, 14, 3)),
    "a range of floats": ({"score": range(1, 4)}, lambda i: SCORES[i] in (1, 2, 3)),
    "between": ({"number": (2, 5)}, lambda i: 2 <= NUMBERS[i] <= 5),
    "at least": ({"number": (2, None)}, lambda i: NUMBERS[i] >= 2),
    "min and max": ({"number": {"min": 2, "max": 5}}, lambda i: 2 <= NUMBERS[i] <= 5),
    "text": ({"name": "a"}, lambda i: NAMES[i] == "a"),
    "text for bytes": ({"stored": ["a", "y"]}, lambda i: NAMES[i] == "a"),
    "text of one width": ({"wide": "bb"}, lambda i: NAMES[i] == "bb"),
    "text between": ({"name": ("b", None)}, lambda i: NAMES[i] in ("bb", "ccc")),
    "no text": ({"name": {"missing": True}}, lambda i: NAMES[i] is None),
    "a length": ({"name": {"length": (2, 3), "missing": False}}, lambda i: NAMES[i] in ("bb", "ccc")),
    "lengths of arrays": ({"tokens": {"length": [0, 4]}}, lambda i: NUMBERS[i] % 6 in (0, 4)),
    "no NaN": ({"score": {"missing": False}}, lambda i: NUMBERS[i] % 4 != 0),
    "not": ({"number": {"min": 0, "not": [3, 5]}}, lambda i: NUMBERS[i] >= 0 and NUMBERS[i] not in (3, 5)),
    "not, of rules": ({"number": {"not": {"min": 0}}}, lambda i: NUMBERS[i] < 0),
    "in": ({"number": {"in": [3, 5]}}, lambda i: NUMBERS[i] in (3, 5)),
    "a flag": ({"flag": True}, lambda i: NUMBERS[i] % 2 == 0),
    "a function": ({"image": lambda column: np.arange(len(column)) > 12}, lambda i: i > 12),
    "several fields": ({"number": (0, None), "flag": True}, lambda i: NUMBERS[i] >= 0 and NUMBERS[i] % 2 == 0),
    "a number beyond the dtype": ({"small": [3, 1000]}, lambda i: NUMBERS[i] == 3),
}


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize(("given", "is_kept"), KEPT.values(), ids=KEPT)
def test_conditions_keep_what_a_comparison_keeps(
    given: dict[str, Any], is_kept: Callable[[int], bool], placement: Any, make_source: Callable[..., Any]
) -> None:
    part = make_source(COLUMNS | {"id": np.arange(20)}, placement=placement).where(given)
    assert [int(element["id"]) for element in part] == [i for i in range(20) if is_kept(i)]


MISTAKES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no field": ({"nmber": 1}, SpecError, "have no field 'nmber'; did you mean 'number'"),
    "text for a number": (
        {"number": "a"},
        SpecError,
        "'number' of .* cannot work: it is int64, .* compares it with 'a'",
    ),
    "a number for text": ({"wide": 3}, SpecError, "it is text, and the condition compares it with 3"),
    "an array": (
        {"image": 3},
        SpecError,
        r"a record has an array \[2, 2\] there, and conditions compare single values",
    ),
    "a length of a number": ({"number": {"length": 3}}, SpecError, "it is one int64, which has no length"),
    "one length of all": ({"image": {"length": 3}}, SpecError, "it has 2 values in every record"),
    "a rule": ({"number": {"mx": 3}}, ValueError, "has the rule 'mx'; did you mean 'max'"),
    "no rule": ({"number": {}}, ValueError, "has no rule; rules are min, max, in, not, length, missing"),
    "swapped": ({"number": (5, 2)}, ValueError, "goes from 5 to 2, and nothing is between; swap them"),
    "three bounds": ({"number": (1, 2, 3)}, ValueError, r"a tuple on 'number' is \(low, high\), both inclusive"),
    "no bounds": ({"number": (None, None)}, ValueError, "neither a lower nor an upper bound"),
    "bounds of two kinds": ({"name": ("a", 3)}, TypeError, "the bounds 'a' and 3 of the condition on 'name'"),
    "nothing": ({"number": []}, ValueError, "is an empty list, which no record fulfils"),
    "an empty range": ({"number": range(3, 3)}, ValueError, r"is range\(3, 3\), in which no number is"),
    "None": ({"number": None}, TypeError, "compares with a number, text or bytes, not with None"),
    "NaN": ({"score": np.nan}, ValueError, r'compares with NaN, which equals nothing; \{"missing": True\} finds NaN'),
    "missing what": (
        {"score": {"missing": 1}},
        TypeError,
        "missing: of the condition on 'score' is true or false, not 1",
    ),
    "no conditions": ({}, ValueError, r"no condition was given for the records of .*: where\(label=3\)"),
    "no booleans": ({"number": lambda column: column}, TypeError, "the function on the field 'number' returned int64"),
    "none kept": ({"number": 99}, ValueError, r"where\(number=99\) keeps none of the 20 records of Eager"),
}


@pytest.mark.parametrize(("given", "kind", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_condition_is_named(
    given: dict[str, Any], kind: type[Exception], message: str, make_source: Callable[..., Any]
) -> None:
    with pytest.raises(kind, match=message):
        make_source(COLUMNS).where(given)


def test_fields_are_named_by_keyword_or_in_a_dict(make_source: Callable[..., Any]) -> None:
    source = make_source({"left-hand": np.arange(9), "conditions": np.arange(9)})
    assert len(source.where({"left-hand": (3, None)}, conditions=range(5))) == 2
