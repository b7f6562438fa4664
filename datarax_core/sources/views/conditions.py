"""Conditions on fields of records, as ``source.where(...)`` and configs of filters write them.

A condition is a value (equal), a list (one of), a ``range`` or a tuple ``(low, high)`` (both inclusive, None is open), a
function of the column, or a mapping of rules that all hold: ``{"min": 0.5}``, ``{"max": 3}``, ``{"in": [3, 5]}``,
``{"not": CONDITION}``, ``{"length": CONDITION}`` of text and of fields of varying length, ``{"missing": False}``. Configs write
the same.
"""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from datarax_core.errors import SpecError, did_you_mean
from datarax_core.records.digests import digest_of
from datarax_core.records.dtypes import fits_device, is_float
from datarax_core.records.ragged import Ragged
from datarax_core.sources.known_columns import field_struct, lengths_of_column

_FEW: Final = 8  # values that are compared one by one, each in a pass over the column
_LISTED: Final = 100  # values that a fingerprint lists

_RULES: Final = ("min", "max", "in", "not", "length", "missing")


class Condition(Protocol):
    """A condition on the values of one field."""

    def keeps(self, column: Any) -> np.ndarray:
        """Return bool (k,): which values of a column fulfil the condition."""

    def entry(self) -> Any:
        """Return the condition as JSON, the same for equal ones; None if it has a function, which has no such form."""

    def fault(self, struct: Any) -> str | None:
        """Return why a field with this spec cannot fulfil the condition; None if it can."""


def conditions_of(given: Mapping[str, Any], source: Any) -> dict[str, Condition]:
    """Return a condition for each field.

    Args:
        given: What the conditions were written as, by dotted name of the field.
        source: The source whose records they are for.

    Raises:
        SpecError: There is no such field, or its values cannot fulfil the condition; says why.
        TypeError, ValueError: What is given is no condition.
    """
    if not given:
        raise ValueError(f"no condition was given for the records of {source.title}; name a field: where(label=3)")
    conditions = {}
    for field, value in given.items():
        struct = field_struct(source, field)
        condition = condition_of(value, field)
        if (fault := condition.fault(struct)) is not None:
            raise SpecError(f"the condition on the field {field!r} of {source.title} cannot work: {fault}")
        conditions[field] = condition
    return conditions


def kept_by(conditions: Mapping[str, Condition], columns: Mapping[str, Any]) -> np.ndarray:
    """Return bool (k,): which of k records, given as columns by field, fulfil all conditions."""
    kept: np.ndarray | None = None
    for field, condition in conditions.items():
        own = condition.keeps(columns[field])
        kept = own if kept is None else kept & own
    assert kept is not None  # noqa: S101 - `conditions_of` gives one at least
    return kept


def key_of(conditions: Mapping[str, Condition]) -> dict[str, Any] | None:
    """Return conditions as JSON, the same for equal ones; None if one of them has a function, which has no such form."""
    entries = {field: condition.entry() for field, condition in sorted(conditions.items())}
    return None if any(entry is None for entry in entries.values()) else entries


def condition_of(value: Any, field: str) -> Condition:
    """Return the condition that a value stands for; see the module.

    Raises:
        TypeError, ValueError: The value stands for none; names ``field``.
    """
    if isinstance(value, Mapping):
        return _of_rules(value, field)
    if isinstance(value, range):
        if not value:
            raise ValueError(f"the condition on {field!r} is {value!r}, in which no number is")
        return OneOf(value) if abs(value.step) > 1 else Between(*_ends(value), whole=True)
    if isinstance(value, tuple):
        return _between(value, field)
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value.item()
    if isinstance(value, list | AbstractSet | np.ndarray):
        values = value.tolist() if isinstance(value, np.ndarray) else list(value)
        if not isinstance(values, list) or not values:
            raise ValueError(f"the condition on {field!r} is an empty list, which no record fulfils")
        return OneOf(tuple(_checked(each, field) for each in values))
    if callable(value):
        return ByFunction(value, field)
    return OneOf((_checked(value, field),))


def _of_rules(rules: Mapping[str, Any], field: str) -> Condition:
    if unknown := [name for name in rules if name not in _RULES]:
        raise ValueError(
            f"the condition on {field!r} has the rule {unknown[0]!r}{did_you_mean(str(unknown[0]), _RULES)}; rules are "
            f"{', '.join(_RULES)}"
        )
    if not rules:
        raise ValueError(f"the condition on {field!r} has no rule; rules are {', '.join(_RULES)}")
    found: list[Condition] = []
    if "min" in rules or "max" in rules:
        found.append(_between((rules.get("min"), rules.get("max")), field))
    if "in" in rules:
        found.append(condition_of(list(rules["in"]) if isinstance(rules["in"], tuple) else rules["in"], field))
    if "not" in rules:
        found.append(Not(condition_of(rules["not"], field)))
    if "length" in rules:
        found.append(Length(condition_of(rules["length"], field)))
    if "missing" in rules:
        if not isinstance(rules["missing"], bool):
            raise TypeError(f"missing: of the condition on {field!r} is true or false, not {rules['missing']!r:.80}")
        found.append(Missing() if rules["missing"] else Not(Missing()))
    return found[0] if len(found) == 1 else All(tuple(found))


def _between(bounds: tuple[Any, ...], field: str) -> "Between":
    if len(bounds) != 2:
        raise ValueError(
            f"a tuple on {field!r} is (low, high), both inclusive, or None for no bound, not {bounds!r:.80}; a list has "
            "values, one of which the record has"
        )
    low, high = (None if bound is None else _checked(bound, field) for bound in bounds)
    if low is None and high is None:
        raise ValueError(f"the condition on {field!r} has neither a lower nor an upper bound")
    if low is not None and high is not None:
        if isinstance(low, str | bytes) != isinstance(high, str | bytes):
            raise TypeError(f"the bounds {low!r} and {high!r} of the condition on {field!r} are of two kinds")
        if low > high:
            raise ValueError(
                f"the condition on {field!r} goes from {low!r} to {high!r}, and nothing is between; swap them"
            )
    return Between(low, high)


def _checked(value: Any, field: str) -> Any:
    """Return a value as a plain number or text."""
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, bool | int | float | str | bytes):
        raise TypeError(
            f"the condition on {field!r} compares with a number, text or bytes, not with {value!r:.80}; for others, give a "
            "function of the column that returns booleans"
        )
    if plain != plain:  # noqa: PLR0124 - NaN
        raise ValueError(
            f'the condition on {field!r} compares with NaN, which equals nothing; {{"missing": True}} finds NaN'
        )
    return plain


# -- kinds of conditions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneOf:
    """Equal to one of some values."""

    values: tuple[Any, ...] | range

    def keeps(self, column: Any) -> np.ndarray:
        """Return which values are one of those."""
        if isinstance(self.values, range):
            return _in_range(column, self.values)
        if column.dtype == object:
            wanted = _both_texts(self.values)
            return np.fromiter((value in wanted for value in column), bool, len(column))
        values, column = _as_stored(self.values, column.dtype), _of_numpy(column)
        if len(values) <= _FEW:
            kept = np.zeros(len(column), bool)
            for value in values:
                kept |= column == value
            return kept
        if column.dtype.kind == "f":  # all are of its dtype
            return np.isin(column, np.asarray(values, column.dtype))
        whole = [value for value in values if not isinstance(value, float)]
        parts = [part for part in (whole, [value for value in values if isinstance(value, float)]) if part]
        return np.asarray(np.logical_or.reduce([np.isin(column, part) for part in parts]))

    def entry(self) -> Any:
        """Return the values."""
        if isinstance(self.values, range):
            return {"range": [*_ends(self.values), abs(self.values.step)]}
        values = sorted(map(_json, self.values), key=repr)
        return {"in": values if len(values) <= _LISTED else digest_of(values)}

    def fault(self, struct: Any) -> str | None:
        """Return why a field cannot have one of the values."""
        return _scalar_fault(struct, self.values)


@dataclass(frozen=True)
class Between:
    """Between two bounds, both inclusive."""

    low: Any = None
    high: Any = None
    whole: bool = False
    """Whether only whole numbers count."""

    def keeps(self, column: Any) -> np.ndarray:
        """Return which values are between."""
        low, high = (_as_stored((bound,), column.dtype, column)[0] for bound in (self.low, self.high))
        if column.dtype == object:
            return np.fromiter(
                (
                    value is not None and (low is None or value >= low) and (high is None or value <= high)
                    for value in column
                ),
                bool,
                len(column),
            )
        column = _of_numpy(column)
        kept = np.ones(len(column), bool) if low is None else np.asarray(column >= low)
        if high is not None:
            kept &= column <= high
        if self.whole and column.dtype.kind == "f":
            kept &= column == np.floor(column)
        return kept

    def entry(self) -> Any:
        """Return the bounds."""
        return {"between": [_json(self.low), _json(self.high)], **({"whole": True} if self.whole else {})}

    def fault(self, struct: Any) -> str | None:
        """Return why a field cannot be between."""
        return _scalar_fault(struct, [bound for bound in (self.low, self.high) if bound is not None])


@dataclass(frozen=True)
class Length:
    """A condition on the length of a value: of text, bytes, or the first axis of a field of varying length."""

    of: Condition

    def keeps(self, column: Any) -> np.ndarray:
        """Return which values have such a length."""
        return self.of.keeps(_lengths(column))

    def entry(self) -> Any:
        """Return the condition on the length."""
        inner = self.of.entry()
        return None if inner is None else {"length": inner}

    def fault(self, struct: Any) -> str | None:
        """Return why a field has no varying length."""
        if struct.shape and struct.shape[0] is not None:
            return f"it has {struct.shape[0]} values in every record, and no length of its own"
        if not struct.shape and np.dtype(struct.dtype).kind not in "OUST":
            return f"it is one {struct.dtype}, which has no length"
        return self.of.fault(_LENGTH)


@dataclass(frozen=True)
class Missing:
    """No value: NaN, NaT or None."""

    def keeps(self, column: Any) -> np.ndarray:
        """Return which values are missing."""
        column = column if isinstance(column, Ragged) else _of_numpy(column)
        if isinstance(column, Ragged) or column.dtype.kind not in "fcOmM":
            return np.zeros(len(column), bool)
        if column.dtype == object:
            return np.fromiter((value is None or value != value for value in column), bool, len(column))  # noqa: PLR0124
        missing = np.isnat(column) if column.dtype.kind in "mM" else np.isnan(column)
        return np.asarray(missing.reshape(len(column), -1).any(axis=1))

    def entry(self) -> Any:
        """Return the rule."""
        return {"missing": True}

    def fault(self, struct: Any) -> str | None:  # noqa: ARG002 - any field may be missing
        """Return None: values of any field may be missing."""
        return None


@dataclass(frozen=True)
class Not:
    """The opposite of a condition."""

    of: Condition

    def keeps(self, column: Any) -> np.ndarray:
        """Return which values do not fulfil it."""
        return ~self.of.keeps(column)

    def entry(self) -> Any:
        """Return the condition."""
        inner = self.of.entry()
        return None if inner is None else {"not": inner}

    def fault(self, struct: Any) -> str | None:
        """Return why the condition cannot work."""
        return self.of.fault(struct)


@dataclass(frozen=True)
class All:
    """Several conditions, all of which hold."""

    of: tuple[Condition, ...]

    def keeps(self, column: Any) -> np.ndarray:
        """Return which values fulfil all of them."""
        return np.asarray(np.logical_and.reduce([each.keeps(column) for each in self.of]))

    def entry(self) -> Any:
        """Return the conditions."""
        entries = [each.entry() for each in self.of]
        return None if None in entries else {"all": entries}

    def fault(self, struct: Any) -> str | None:
        """Return why one of them cannot work."""
        return next(filter(None, (each.fault(struct) for each in self.of)), None)


@dataclass(frozen=True)
class ByFunction:
    """A function of the column, which returns a boolean for each value."""

    function: Callable[[Any], Any]
    field: str

    def keeps(self, column: Any) -> np.ndarray:
        """Return what the function says."""
        return booleans(self.function(column), len(column), f"the function on the field {self.field!r}")

    def entry(self) -> Any:
        """Return None: functions cannot be told apart."""
        return

    def fault(self, struct: Any) -> str | None:  # noqa: ARG002 - the function knows
        """Return None: the function is for any field."""
        return None


def booleans(found: Any, count: int, what: str) -> np.ndarray:
    """Return what a function gave as bool (count,).

    Raises:
        TypeError: It is something else.
    """
    kept = np.asarray(found)
    if kept.dtype != bool or kept.shape != (count,):
        raise TypeError(
            f"{what} returned {kept.dtype} of shape {list(kept.shape)} for {count} records; return one boolean a record, an "
            "array of bool (k,)"
        )
    return kept


# -- inside ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Struct:
    shape: tuple[int, ...]
    dtype: Any


_LENGTH: Final = _Struct((), np.dtype(np.int64))


def _scalar_fault(struct: Any, values: Iterable[Any]) -> str | None:
    if struct.shape != ():
        return (
            f"a record has an array {list(struct.shape)} there, and conditions compare single values; "
            'compare its length by {"length": ...}, or use filter() with a function of the batch'
        )
    kind = np.dtype(struct.dtype).kind
    values = values[:1] if isinstance(values, range) else list(values)
    is_text = [isinstance(value, str | bytes) for value in values]
    if kind in "UST" and not all(is_text):
        return f"it is text, and the condition compares it with {values[is_text.index(False)]!r}"
    if (kind in "biufc" or _is_of_jax(struct.dtype)) and any(is_text):
        return f"it is {np.dtype(struct.dtype)}, and the condition compares it with {values[is_text.index(True)]!r:.80}"
    if kind == "M" and (odd := next(filter(_is_no_date, values), None)) is not None:
        return f"it is a date, and the condition compares it with {odd!r:.80}; write dates as '2026-11-30'"
    return None


def _is_no_date(value: Any) -> bool:
    try:
        np.datetime64(value if isinstance(value, str) else "none of them")
    except ValueError:
        return True
    return False


def _in_range(column: Any, numbers: range) -> np.ndarray:
    low, high = _ends(numbers)
    kept, column = Between(low, high, whole=True).keeps(column), _of_numpy(column)
    rows = np.flatnonzero(kept)
    if column.dtype.kind == "f":
        above = column[rows].astype(np.float64) - low
    else:  # what is not below the least is so far above it, in unsigned integers
        above = column[rows].astype(np.uint64) - np.uint64(low % 2**64)
    kept[rows] = above % above.dtype.type(abs(numbers.step)) == 0
    return kept


def _ends(numbers: range) -> tuple[int, int]:
    """Return the least and the greatest of some numbers, without going through them."""
    first, last = numbers[0], numbers[-1]
    return min(first, last), max(first, last)


def _is_of_jax(dtype: Any) -> bool:
    """Return whether a dtype is one of JAX's own, such as bfloat16 and int4, which NumPy knows as bytes."""
    return np.dtype(dtype).kind == "V" and fits_device(dtype)


def _of_numpy(column: Any) -> Any:
    """Return a column of bools, or of one of JAX's own dtypes, as NumPy's integers or floats, which hold all of its values."""
    if column.dtype == bool:
        return column.view(np.uint8)
    if not _is_of_jax(column.dtype):
        return column
    return column.astype(np.float32 if is_float(column.dtype) else np.int16)


def _both_texts(values: Iterable[Any]) -> set[Any]:
    """Return values with each text as bytes too, and the other way round: some sources serve text as bytes."""
    both: set[Any] = set(values)
    for value in values:
        if isinstance(value, str):
            both.add(value.encode())
        elif isinstance(value, bytes):
            try:
                both.add(value.decode())
            except UnicodeDecodeError:
                continue
    return both


def _as_stored(values: Iterable[Any], dtype: Any, column: Any = ()) -> list[Any]:
    """Return texts as a column's bytes or dates, bytes as its texts, and numbers as floats of its dtype; others as they are."""
    kind = dtype.kind
    if kind == "O":
        first = next((value for value in column if value is not None), None)
        kind = "S" if isinstance(first, bytes) else "U" if isinstance(first, str) else "O"
    stored: list[Any] = []
    for value in values:
        if kind == "S" and isinstance(value, str):
            stored.append(value.encode())
        elif kind in "UT" and isinstance(value, bytes):
            stored.append(value.decode())
        elif kind == "M" and isinstance(value, str):
            stored.append(np.datetime64(value))
        elif kind in "fV" and isinstance(value, int | float) and is_float(dtype):
            with np.errstate(over="ignore"):
                stored.append(dtype.type(value).astype(_of_numpy(np.empty(0, dtype)).dtype))
        else:
            stored.append(value)
    return stored


def _json(value: Any) -> Any:
    return ["bytes", value.hex()] if isinstance(value, bytes) else value


def _lengths(column: Any) -> np.ndarray:
    """Return int64 (k,): the lengths of the values of a column of text, bytes, or arrays of varying length."""
    if isinstance(column, Ragged):
        return lengths_of_column(column)
    if column.dtype.kind in "US":
        return np.asarray(np.char.str_len(column), np.int64)
    return np.fromiter((0 if value is None else len(value) for value in column), np.int64, len(column))
