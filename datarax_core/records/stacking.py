"""Stacking of Python and NumPy values to one array, or to a ragged column, without the silent conversions of NumPy.

Among values of several types, NumPy turns a number into text if there is text, a bool into a number, and integers of
different sign into floats. Here such values are refused with the element that has them. Integers among floats become floats
here too, but only if that changes none of them. NumPy gives each text the room of the longest, and drops zero bytes at its
end; here texts and bytes are kept as objects.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, combinations
from typing import Any, Final, NamedTuple

import numpy as np

from datarax_core.errors import SpecError

from .dtypes import are_one_kind, fits_device, is_text, require_no_key
from .foreign_data import host_array
from .ragged import Ragged, RecordShape

_DTYPES: Final = {type_: np.dtype(type_) for type_ in (bool, float, complex, str, bytes)}

_INT64: Final = np.dtype(np.int64)

_EXACT: Final = 2**53  # float64 holds every integer up to this

_WORDS: Final = {"U": "text", "S": "bytes", "O": "an object"}


class ValuePath(NamedTuple):
    """The path to stacked values, for error messages: a field of the elements of a data set."""

    field: str
    """The name of the field."""

    title: str
    """The title of the data set, such as a source's."""

    first: int = 0
    """The index of the element that has the first value."""

    per_element: int = 1
    """The number of consecutive values of one element: more than 1 for the items of lists."""

    def of(self, index: int) -> str:
        """Return the full path of the value at ``index``, in words."""
        return f"{self._item(index)}field {self.field!r} of {self._element(index)} of {self.title}"

    def short(self, index: int) -> str:
        """Return the path of another value in a sentence that has the full path of one: without field and title."""
        return f"{self._item(index)}{self._element(index)}"

    def _item(self, index: int) -> str:
        return "" if self.per_element == 1 else f"item {index % self.per_element} of "

    def _element(self, index: int) -> str:
        return f"element {self.first + index // self.per_element}"


def array_of(values: Sequence[Any], path: ValuePath) -> np.ndarray:
    """Stack values, one for each element, to one array; lists among the values become arrays by the same rules.

    Cost: 0.1 us a number or text if all have one type, 0.5 us if not; a microsecond an array, and one copy of its bytes.

    Raises:
        SpecError: Values differ in shape, or no dtype holds all of them unchanged; names two elements that conflict.
        TypeError: A value is a masked array, or holds PRNG keys.
    """
    types = set(map(type, values))
    for kind in (str, bytes):
        if types and all(issubclass(type_, kind) for type_ in types):
            return _of_texts(values, kind)
    if all(map(_is_scalar, types)):
        return _of_scalars(values, types, path)
    if types <= {list, tuple}:
        return _of_lists(values, path)
    return _of_arrays([_as_array(value, path, index) for index, value in enumerate(values)], path)


def column_of(values: Sequence[Any], path: ValuePath, shape: RecordShape | None = None) -> np.ndarray | Ragged:
    """Stack values, one for each element, to one array, or to a ragged column.

    Args:
        values: The values, to be joined by the rules of `array_of`.
        path: Their path in errors.
        shape: The shape of a value: a column is ragged if it has None for an axis. None makes a ragged column of values that
            differ in shape, and an array of others.

    Raises:
        SpecError: Values differ in shape where the shape has no None, or in their number of axes; or no dtype holds all.
        TypeError: A value is a masked array, or holds PRNG keys.
    """
    if shape is None or None not in shape:
        try:
            return array_of(values, path)
        except _ShapesDifferError:
            if shape is not None:
                raise
    arrays = [_as_array(value, path, index) for index, value in enumerate(values)]
    typed = [n for n, array in enumerate(arrays) if array.size or not isinstance(values[n], list | tuple)]
    for number, array in zip(typed, _of_one_dtype([arrays[n] for n in typed], path, typed), strict=True):
        arrays[number] = array
    dtype = arrays[typed[0]].dtype if typed else None
    try:
        return Ragged.from_list([a if a.size else a.astype(dtype or a.dtype) for a in arrays], dtype, shape)
    except SpecError as uneven:
        raise SpecError(f"field {path.field!r} of {path.title} is no ragged column: {uneven}") from uneven


class _ShapesDifferError(SpecError):
    """Values of one field differ in shape."""


def _of_texts(values: Sequence[Any], kind: type) -> np.ndarray:
    """Return texts, or bytes, as objects: NumPy's dtypes take the room of the longest for each, and drop zeros at the end."""
    array = np.empty(len(values), object)
    array[:] = values if all(type(value) is kind for value in values) else list(map(kind, values))
    return array


def text_as(column: Any, dtype: np.dtype[Any]) -> Any:
    """Return a column of text or bytes in another dtype of its kind if that holds all values unchanged, else as it is."""
    if isinstance(column, Ragged) or column.dtype == dtype or not are_one_kind(column.dtype, dtype):
        return column
    if dtype.hasobject and not column.dtype.hasobject:
        return column.astype(dtype)
    kind: type = bytes if dtype.kind == "S" else str
    if not is_text(dtype) or any(not isinstance(value, kind) for value in column.flat):
        return column
    width = dtype.itemsize // (4 if dtype.kind == "U" else 1)
    zero = kind(b"\0") if kind is bytes else "\0"
    fits = dtype.hasobject or all(len(value) <= width and value[-1:] != zero for value in column.flat)
    return column.astype(dtype) if fits else column


def _is_scalar(type_: type) -> bool:
    """Return whether each value of this type is a single number or text whose dtype follows from the type."""
    if issubclass(type_, np.generic):
        return issubclass(type_, np.number | np.bool_ | np.character) and not issubclass(type_, np.timedelta64)
    return type_ is int or type_ in _DTYPES


def _of_lists(values: Sequence[Any], path: ValuePath) -> np.ndarray:
    _require_one_shape([(len(value),) for value in values], path)
    items = list(chain.from_iterable(values))
    if not items:
        return np.stack(list(map(np.asarray, values)))
    inner = path._replace(per_element=path.per_element * len(values[0]))
    array = array_of(items, inner)
    return array.reshape(len(values), len(values[0]), *array.shape[1:])


def _as_array(value: Any, path: ValuePath, index: int) -> np.ndarray:
    require_no_key(path.of(index), value)
    if isinstance(value, str | bytes):
        return _of_texts([value], str if isinstance(value, str) else bytes).reshape(())
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{path.of(index)} is masked, and its mask would be lost; fill it: array.filled(value)")
    if isinstance(value, list | tuple) and value:
        return array_of(value, ValuePath(path.field, path.title, path.first + index // path.per_element, len(value)))
    return host_array(value, lambda: path.of(index))


def _of_arrays(arrays: list[np.ndarray], path: ValuePath) -> np.ndarray:
    _require_one_shape([array.shape for array in arrays], path)
    return np.stack(_of_one_dtype(arrays, path))


def _of_one_dtype(arrays: list[np.ndarray], path: ValuePath, indices: Sequence[int] | None = None) -> list[np.ndarray]:
    """Return arrays in the dtype that holds the values of all; ``indices`` are theirs among the values of the path."""
    dtypes = [array.dtype for array in arrays]
    if len(set(dtypes)) <= 1:
        return arrays
    if len(kinds := set(map(_text_kind, arrays))) == 1 and None not in kinds:
        return [array.astype(object) for array in arrays]
    dtype = _common_dtype(dtypes, path)
    numbers = range(len(arrays)) if indices is None else indices
    integers = ((index, array) for index, array in zip(numbers, arrays, strict=True) if array.dtype.kind in "iu")
    _require_exact(((index, number) for index, array in integers for number in _large(array)), dtype, path)
    return [array.astype(dtype, copy=False) for array in arrays]


def _text_kind(array: np.ndarray) -> type | None:
    """Return the type of the texts or bytes in an array, which may be one of objects; None if it holds anything else."""
    if array.dtype == object:
        types = set(map(type, array.flat))
        return types.pop() if len(types) == 1 and types <= {str, bytes} else None
    return {"U": str, "T": str, "S": bytes}.get(array.dtype.kind)


def _require_one_shape(shapes: list[tuple[int, ...]], path: ValuePath) -> None:
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise _ShapesDifferError(
                f"{path.of(index)} has shape {list(shape)} where {path.short(0)} has {list(shapes[0])}; records of one "
                "batch have one shape, unless the element spec has None for an axis that varies"
            )


def _of_scalars(values: Sequence[Any], types: set[type], path: ValuePath) -> np.ndarray:
    if types == {int}:
        return _of_integers(values, path)
    if len(types) == 1:
        return np.array(values)
    dtypes = [_dtype_of(value) for value in values]
    dtype = _common_dtype(dtypes, path)
    integers = ((index, int(value)) for index, value in enumerate(values) if isinstance(value, int | np.integer))
    _require_exact(integers, dtype, path)
    return np.array(values, dtype)


def _of_integers(values: Sequence[int], path: ValuePath) -> np.ndarray:
    low, high = min(values), max(values)
    for dtype in (np.int64, np.uint64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return np.array(values, dtype)
    if low < -(2**63) or high >= 2**64:
        return np.array(values, object)
    dtypes = [_dtype_of(value) for value in values]  # some are negative, and some need uint64
    raise _conflict(dtypes, np.dtype(np.uint64), _INT64, path)


def _dtype_of(value: Any) -> np.dtype[Any]:
    if type(value) is not int:
        return _DTYPES.get(type(value)) or value.dtype
    return _INT64 if -(2**63) <= value < 2**63 else np.dtype(np.uint64 if 0 <= value < 2**64 else object)


def _common_dtype(dtypes: Sequence[np.dtype[Any]], path: ValuePath) -> np.dtype[Any]:
    """Return the dtype that holds values of all these dtypes unchanged; integers among floats are checked by the caller."""
    different = list(dict.fromkeys(dtypes))
    comparable = {dtype.kind if dtype.kind in "US" else dtype: dtype for dtype in different}  # ignores lengths of text
    for one, other in combinations(comparable.values(), 2):
        if _joined(one, other) is None:
            raise _conflict(dtypes, one, other, path)
    common = np.result_type(*different)
    for dtype in different:
        if not np.can_cast(dtype, common, "safe"):
            raise _conflict(dtypes, different[0], dtype, path)
    return common


def _joined(one: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the dtype for values of both dtypes, or None."""
    if _family(one) != _family(other):
        return None
    try:
        joined = np.result_type(one, other)
    except TypeError:
        return None
    are_integers = one.kind in "iu" and other.kind in "iu"
    return None if are_integers and joined.kind not in "iu" else joined


def _family(dtype: np.dtype[Any]) -> str:
    """Return a name that is the same for dtypes that may be joined: numbers, text, dates of one unit, equal structures."""
    if dtype.kind in "mM":
        return f"{dtype.kind}{np.datetime_data(dtype)}"
    if dtype.kind in "iufc" or (dtype.kind == "V" and fits_device(dtype)):  # JAX's own dtypes, such as bfloat16, are V
        return "number"
    return str(dtype) if dtype.kind == "V" else dtype.kind


def _conflict(dtypes: Sequence[np.dtype[Any]], one: np.dtype[Any], other: np.dtype[Any], path: ValuePath) -> SpecError:
    first, second = sorted((dtypes.index(one), dtypes.index(other)))
    return SpecError(
        f"{path.of(second)} is {_in_words(dtypes[second])} where {path.short(first)} is {_in_words(dtypes[first])}, and no "
        "dtype holds both unchanged; convert them: a field has one dtype"
    )


def _in_words(dtype: np.dtype[Any]) -> str:
    return _WORDS.get(dtype.kind, str(dtype))


def _large(array: np.ndarray) -> list[int]:
    """Return the integers of an array that float64 may not hold."""
    if array.dtype.itemsize < 8:
        return []
    large: list[int] = array[(array > _EXACT) | (array < -_EXACT)].tolist()
    return large


def _require_exact(integers: Iterable[tuple[int, int]], dtype: np.dtype[Any], path: ValuePath) -> None:
    """Raise if ``dtype`` is one of floats and would change an integer; ``integers`` are (index of the value, integer)."""
    if dtype.kind not in "fc":
        return
    for index, number in integers:
        if not -_EXACT <= number <= _EXACT and int(float(number)) != number:
            raise SpecError(
                f"{path.of(index)} is the integer {number}, which would change in {dtype}, the dtype that the other "
                "values need; convert them: a field has one dtype"
            )
