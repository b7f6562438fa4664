"""Elements that somebody else's data set gives, one by one, as batches that an element spec describes.

Dicts and tuples are structure, nested as they may be. Everything else is a field: what NumPy makes of it. Text and bytes,
whose NumPy dtypes would depend on the longest, are kept as objects.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from datarax_core.errors import SpecError

from .narrowing import aligned_empty
from .spec import Batch, ElementSpec, differences

_OBJECT = np.dtype(object)

_PLAIN = (bool, int, float, complex, list)
"""What has no dtype of its own."""


def element_spec_of(element: Any, origin: str) -> ElementSpec:
    """The element spec of records of which this is one; errors call it ``origin``.

    Raises:
        SpecError: There is nothing in it, or a field is None or no array; names the field.
    """
    fields = _fields(element, origin)
    if not jax.tree.leaves(fields):
        raise SpecError(f"{origin} is empty, like {element!r}; each needs a field at least")
    return _spec_of(fields)


def stacked(elements: Sequence[Any], spec: ElementSpec, origin_of: Callable[[int], str]) -> Batch:
    """The elements as a batch; ``origin_of`` says what errors call the one in a row.

    Numbers and lists, which have no dtype of their own, take the spec's if their values fit it; arrays must have it.

    Raises:
        SpecError: An element is not like the spec; names the record, the field, what is expected and what was found.
    """
    try:
        return _alike(elements, spec)
    except _UnlikeError:
        pass  # something that is to be looked at one by one, to be fitted or to be named
    structs, form = jax.tree.flatten(spec)
    columns = [_column(len(elements), struct) for struct in structs]
    for row, element in enumerate(elements):
        origin = origin_of(row)
        found = _fields(element, origin)
        fields, found_form = jax.tree.flatten(found)
        if found_form != form:  # type: ignore[operator]  # jaxlib's stubs leave it out
            wrong = differences(spec, _spec_of(found)) or [f"it is a {type(element).__name__}"]
            raise SpecError(f"{origin} is not what the element spec says: {'; '.join(wrong)}")
        for field, struct, column in zip(fields, structs, columns, strict=True):
            column[row] = field.like(struct)[()]  # an object itself, where it is one
    batch: Batch = jax.tree.unflatten(form, columns)
    return batch


class _UnlikeError(Exception):
    """Not every element has the structure, and the plain values of just the dtypes, that `_alike` is quick with."""


def _alike(elements: Sequence[Any], spec: ElementSpec) -> Batch:
    """The batch, column by column, of elements that are all alike; nothing is made for each field of each."""
    if type(spec) is dict:
        if not all(type(element) is dict and len(element) == len(spec) for element in elements):
            raise _UnlikeError
        try:
            return {name: _alike([element[name] for element in elements], part) for name, part in spec.items()}
        except KeyError as missing:
            raise _UnlikeError from missing
    if type(spec) is tuple:
        if not all(type(element) is tuple and len(element) == len(spec) for element in elements):
            raise _UnlikeError
        return tuple(_alike(column, part) for column, part in zip(zip(*elements, strict=True), spec, strict=True))
    if not isinstance(spec, jax.ShapeDtypeStruct):
        raise _UnlikeError
    return _column_of(elements, spec)


def _column_of(values: Sequence[Any], struct: jax.ShapeDtypeStruct) -> np.ndarray:
    kinds = set(map(type, values))
    column = _column(len(values), struct)
    if kinds == {np.ndarray}:
        if not all(value.dtype == struct.dtype and value.shape == struct.shape for value in values):
            raise _UnlikeError
        for row, value in enumerate(values):
            column[row] = value
    elif struct.shape or len(kinds) != 1:
        raise _UnlikeError
    elif _is_of(kind := kinds.pop(), struct.dtype):
        column[:] = values
    elif (kind is int and struct.dtype.kind in "iu") or (kind is float and struct.dtype.kind == "f"):
        _fill(column, values, kind)
    else:
        raise _UnlikeError
    return column


def _is_of(kind: type, dtype: np.dtype[Any]) -> bool:
    """Whether every value of the type is of the dtype."""
    if kind in (str, bytes):
        return dtype == _OBJECT
    return kind is bool if dtype == np.bool_ else issubclass(kind, np.generic) and np.dtype(kind) == dtype


def _fill(column: np.ndarray, numbers: Sequence[Any], kind: type) -> None:
    try:
        array = np.array(numbers, np.int64 if kind is int else np.float64)
    except OverflowError as too_large:
        raise _UnlikeError from too_large
    with np.errstate(all="ignore"):
        column[:] = array
    if not _is_kept(array, column):
        raise _UnlikeError


def _column(count: int, struct: jax.ShapeDtypeStruct) -> np.ndarray:
    """A column to be filled; of numbers, in memory that a device can take over."""
    shape = (count, *struct.shape)
    return np.empty(shape, struct.dtype) if struct.dtype.hasobject else aligned_empty(shape, struct.dtype)


def _is_kept(given: np.ndarray, fitted: np.ndarray) -> bool:
    """Whether integers are the same as before, and finite numbers still finite."""
    same = fitted == given if fitted.dtype.kind in "iu" else np.isfinite(fitted) == np.isfinite(given)
    return bool(np.all(same))


class _Field:
    """A value that is a leaf whatever JAX would make of it, and what errors call it."""

    __slots__ = ("name", "origin", "value")

    def __init__(self, value: Any, name: str, origin: str) -> None:
        self.value, self.name, self.origin = value, name, origin

    def array(self) -> np.ndarray:
        """What NumPy makes of the value; text and bytes as objects."""
        if isinstance(self.value, str | bytes):
            array = np.empty((), object)  # NumPy would make bytes of it that lose their trailing zeros
            array[()] = self.value
            return array
        if isinstance(self.value, np.ma.MaskedArray):
            raise TypeError(
                f"field {self.name!r} of {self.origin} is masked, and its mask would be lost; fill it: array.filled(value)"
            )
        try:
            array = np.asarray(self.value)
        except ValueError as ragged:
            raise SpecError(f"field {self.name!r} of {self.origin} is no array: {ragged}") from ragged
        if array.dtype.kind not in "US":
            return array
        if isinstance(self.value, list):
            return self._texts(str if array.dtype.kind == "U" else bytes)
        return array.astype(object)

    def _texts(self, kind: type) -> np.ndarray:
        """A list of text, or of bytes, as objects; not by way of NumPy's dtypes, which make text of numbers among them."""
        array = np.array(self.value, object)
        for item in array.flat:
            if not isinstance(item, kind):
                raise SpecError(
                    f"field {self.name!r} of {self.origin} is a list of {kind.__name__} with {item!r:.40} in it; a field has "
                    "one dtype"
                )
        return array

    def like(self, struct: jax.ShapeDtypeStruct) -> np.ndarray:
        """The same, in the dtype of the spec."""
        array = self.array()
        if array.shape == struct.shape:
            if array.dtype == struct.dtype:
                return array
            if (fitted := self._fitted(array, struct.dtype)) is not None:
                return fitted
        found, expected = (f"{each.dtype}{list(each.shape)}" for each in (array, struct))
        value = "" if array.ndim else f" ({self.value!r:.40})"
        raise SpecError(
            f"{self.origin} is not what the element spec says: field {self.name!r} is {found}{value} where {expected} is "
            "expected"
        )

    def _fitted(self, array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray | None:
        if array.dtype == _OBJECT and dtype.kind in "US":
            text = np.asarray(array.tolist())
            return text if text.dtype.kind == dtype.kind and text.dtype.itemsize <= dtype.itemsize else None
        kinds = array.dtype.kind + dtype.kind
        is_number = isinstance(self.value, _PLAIN) and "O" not in kinds
        if not is_number or not (np.can_cast(array.dtype, dtype, "same_kind") or kinds == "iu"):
            return None
        with np.errstate(all="ignore"):
            fitted = array.astype(dtype)
        return fitted if _is_kept(array, fitted) else None


def _fields(element: Any, origin: str, name: str = "") -> Any:
    """The element with each value in a `_Field`."""
    at = f"{name}." if name else ""
    if isinstance(element, Mapping):
        if odd := [key for key in element if not isinstance(key, str)]:
            raise SpecError(f"the fields of {origin} have names, which are text, not {odd[0]!r}")
        return {key: _fields(value, origin, at + key) for key, value in element.items()}
    if isinstance(element, tuple):
        names = getattr(element, "_fields", range(len(element)))
        made = [_fields(value, origin, f"{at}{key}") for key, value in zip(names, element, strict=True)]
        return type(element)(*made) if hasattr(element, "_fields") else tuple(made)
    if element is None and not name:
        raise SpecError(
            f"{origin} is None: the data set has no such record, as when Grain's filter() dropped it; filter records before "
            "they are wrapped, such as [record for record in data if record is not None]"
        )
    if element is None:
        raise SpecError(f"field {name!r} of {origin} is None, which no array holds; give it a value")
    return _Field(element, name or "record", origin)


def _spec_of(fields: Any) -> ElementSpec:
    def struct(field: _Field) -> jax.ShapeDtypeStruct:
        array = field.array()
        return jax.ShapeDtypeStruct(array.shape, array.dtype)

    return jax.tree.map(struct, fields)
