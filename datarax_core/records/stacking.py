"""One array of many values: what NumPy would change on the way there without a word is refused, by element.

NumPy makes text of a number beside text, a number of a bool, floats of two integers of different sign, and forgets the
zero bytes that a text ends with. Integers beside floats become floats here too, but only where that changes none of them.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, combinations
from typing import Any, Final, NamedTuple

import numpy as np

from datarax_core.errors import SpecError

from .spec import fits_device, require_no_key

_DTYPES: Final = {kind: np.dtype(kind) for kind in (bool, float, complex, str, bytes)}

_INT64: Final = np.dtype(np.int64)

_EXACT: Final = 2**53  # up to here float64 holds every integer

_CALLED: Final = {"U": "text", "S": "bytes", "O": "an object"}


class Place(NamedTuple):
    """Where values stand, for messages: in a field of the elements of what has a title."""

    name: str
    title: str
    first: int = 0
    """The element that the first value is of."""

    per_element: int = 1
    """How many of the values each element has: more where they are the items of lists."""

    def of(self, index: int) -> str:
        """The value at ``index``, in words."""
        return f"{self._item(index)}field {self.name!r} of {self._element(index)} of {self.title}"

    def other(self, index: int) -> str:
        """The same, where `of` said the rest already."""
        return f"{self._item(index)}{self._element(index)}"

    def _item(self, index: int) -> str:
        return "" if self.per_element == 1 else f"item {index % self.per_element} of "

    def _element(self, index: int) -> str:
        return f"element {self.first + index // self.per_element}"


def stacked(values: Sequence[Any], place: Place) -> np.ndarray:
    """Values, one an element, as one array; lists among them are arrays by the same rule.

    Cost: 0.1 us a number or text, half of one where kinds are mixed; a microsecond an array, and its bytes once.

    Raises:
        SpecError: Values differ in shape, or have dtypes that no one dtype holds unchanged; names the element and both.
        TypeError: A value is a masked array, or holds PRNG keys.
    """
    kinds = set(map(type, values))
    if all(map(_is_scalar, kinds)):
        return _of_scalars(values, kinds, place)
    if kinds <= {list, tuple}:
        return _of_lists(values, place)
    return _of_arrays([_as_array(value, place, index) for index, value in enumerate(values)], place)


def _is_scalar(kind: type) -> bool:
    """Whether values of this type are one number or text each, whose dtype the type tells."""
    if issubclass(kind, np.generic):
        return issubclass(kind, np.number | np.bool_ | np.character) and not issubclass(kind, np.timedelta64)
    return kind is int or kind in _DTYPES


def _of_lists(values: Sequence[Any], place: Place) -> np.ndarray:
    _require_alike([(len(value),) for value in values], place)
    items = list(chain.from_iterable(values))
    if not items:
        return np.stack(list(map(np.asarray, values)))
    inner = place._replace(per_element=place.per_element * len(values[0]))
    array = stacked(items, inner)
    return array.reshape(len(values), len(values[0]), *array.shape[1:])


def _as_array(value: Any, place: Place, index: int) -> np.ndarray:
    require_no_key(place.of(index), value)
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{place.of(index)} is masked, and its mask would be lost; fill it: array.filled(value)")
    if isinstance(value, list | tuple) and value:
        return stacked(value, Place(place.name, place.title, place.first + index // place.per_element, len(value)))
    return np.asarray(value)


def _of_arrays(arrays: list[np.ndarray], place: Place) -> np.ndarray:
    _require_alike([array.shape for array in arrays], place)
    dtypes = [array.dtype for array in arrays]
    if len(set(dtypes)) > 1:
        dtype = _common_dtype(dtypes, place)
        integers = ((index, array) for index, array in enumerate(arrays) if array.dtype.kind in "iu")
        _require_exact(((index, number) for index, array in integers for number in _large(array)), dtype, place)
        arrays = [array.astype(dtype, copy=False) for array in arrays]
    return np.stack(arrays)


def _require_alike(shapes: list[tuple[int, ...]], place: Place) -> None:
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise SpecError(
                f"{place.of(index)} has shape {list(shape)} where {place.other(0)} has {list(shapes[0])}; records of one "
                "batch have one shape"
            )


def _of_scalars(values: Sequence[Any], kinds: set[type], place: Place) -> np.ndarray:
    if kinds == {int}:
        return _of_integers(values, place)
    if len(kinds) == 1:
        return _with_its_end(np.array(values), values)
    dtypes = [_dtype_of(value) for value in values]
    dtype = _common_dtype(dtypes, place)
    integers = ((index, int(value)) for index, value in enumerate(values) if isinstance(value, int | np.integer))
    _require_exact(integers, dtype, place)
    return _with_its_end(np.array(values, dtype.kind if dtype.kind in "US" else dtype), values)


def _of_integers(values: Sequence[int], place: Place) -> np.ndarray:
    low, high = min(values), max(values)
    for dtype in (np.int64, np.uint64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return np.array(values, dtype)
    if low < -(2**63) or high >= 2**64:
        return np.array(values, object)
    dtypes = [_dtype_of(value) for value in values]  # some are negative, and some need uint64
    raise _conflict(dtypes, np.dtype(np.uint64), _INT64, place)


def _with_its_end(array: np.ndarray, values: Sequence[Any]) -> np.ndarray:
    """The array; of objects, where text or bytes end with zeros, which NumPy's own dtypes would forget."""
    zero = {"U": "\0", "S": b"\0"}.get(array.dtype.kind)
    if zero is None or not any(value[-1:] == zero for value in values):
        return array
    return np.array(values, object)


def _dtype_of(value: Any) -> np.dtype[Any]:
    if type(value) is not int:
        return _DTYPES.get(type(value)) or value.dtype
    return _INT64 if -(2**63) <= value < 2**63 else np.dtype(np.uint64 if 0 <= value < 2**64 else object)


def _common_dtype(dtypes: Sequence[np.dtype[Any]], place: Place) -> np.dtype[Any]:
    """The dtype that holds values of all of these unchanged, integers beside floats apart."""
    different = list(dict.fromkeys(dtypes))
    telling = {dtype.kind if dtype.kind in "US" else dtype: dtype for dtype in different}  # text of any length is text
    for one, other in combinations(telling.values(), 2):
        if _joined(one, other) is None:
            raise _conflict(dtypes, one, other, place)
    common = np.result_type(*different)
    for dtype in different:
        if not np.can_cast(dtype, common, "safe"):
            raise _conflict(dtypes, different[0], dtype, place)
    return common


def _joined(one: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any] | None:
    """The dtype for values of both, or None."""
    kinds = _kind(one), _kind(other)
    if kinds[0] != kinds[1]:
        return None
    try:
        joined = np.result_type(one, other)
    except TypeError:
        return None
    are_integers = one.kind in "iu" and other.kind in "iu"
    return None if are_integers and joined.kind not in "iu" else joined


def _kind(dtype: np.dtype[Any]) -> str:
    """What only meets its like: numbers, text, spans of one unit, structures of one form."""
    if dtype.kind in "mM":
        return f"{dtype.kind}{np.datetime_data(dtype)}"
    if dtype.kind in "iufc" or (dtype.kind == "V" and fits_device(dtype)):  # bfloat16 and its like are V to NumPy
        return "number"
    return str(dtype) if dtype.kind == "V" else dtype.kind


def _conflict(dtypes: Sequence[np.dtype[Any]], one: np.dtype[Any], other: np.dtype[Any], place: Place) -> SpecError:
    first, second = sorted((dtypes.index(one), dtypes.index(other)))
    return SpecError(
        f"{place.of(second)} is {_called(dtypes[second])} where {place.other(first)} is {_called(dtypes[first])}, and no "
        "dtype holds both unchanged; convert them: a field has one dtype"
    )


def _called(dtype: np.dtype[Any]) -> str:
    return _CALLED.get(dtype.kind, str(dtype))


def _large(array: np.ndarray) -> list[int]:
    if array.dtype.itemsize < 8:
        return []
    large: list[int] = array[(array > _EXACT) | (array < -_EXACT)].tolist()
    return large


def _require_exact(integers: Iterable[tuple[int, int]], dtype: np.dtype[Any], place: Place) -> None:
    if dtype.kind not in "fc":
        return
    for index, number in integers:
        if not -_EXACT <= number <= _EXACT and int(float(number)) != number:
            raise SpecError(
                f"{place.of(index)} is the integer {number}, which would change in {dtype}, the dtype that the values beside "
                "it need; convert them: a field has one dtype"
            )
