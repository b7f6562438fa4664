"""Batches and element specs of single elements, as data sets of other libraries and decoders give them.

Dicts and tuples, nested to any depth, are structure. Every other value is a field: the array that NumPy makes of it. Text
and bytes are kept as objects, since their NumPy dtypes would depend on the longest value. Fields of which an axis varies, None
in the element spec, become ragged columns.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import jax
import numpy as np

from datarax_core.errors import SpecError

from .foreign_data import host_array
from .gathers import aligned_empty
from .ragged import Ragged
from .ragged_checks import text_type
from .spec import Batch, ElementSpec, differences, has_shape, varying_spec

_OBJECT = np.dtype(object)

_COMPARED = 8
"""First elements that are compared to see which fields vary in length."""

_PLAIN = (bool, int, float, complex, list)
"""Types of values that have no dtype of their own, and take that of the element spec."""


def element_spec_of(element: Any, origin: str) -> ElementSpec:
    """Return the element spec of a data set from one of its elements; errors call the element ``origin``.

    Raises:
        SpecError: The element is empty, or a field is None or no array; names the field.
        TypeError: A field is a masked array.
    """
    fields = _fields(element, origin)
    if not jax.tree.leaves(fields):
        raise SpecError(f"{origin} is empty, like {element!r}; each needs a field at least")
    return _spec_of(fields)


def spec_of_first_elements(read: Callable[[Sequence[int]], Sequence[Any]], length: int, title: str) -> ElementSpec:
    """Return the element spec of a data set from its first element, with None for axes in which the next few differ.

    Only fields with axes can differ: without any, one element is read. An element that cannot be read changes nothing, since
    it raises when it is served.

    Args:
        read: Returns the elements at some indices.
        length: Number of elements, from 1.
        title: The data set in errors.

    Raises:
        SpecError, TypeError: The first element has no spec, see `element_spec_of`.
        Exception: The first element cannot be read.
    """
    spec = element_spec_of(read([0])[0], f"record 0 of {title}")
    if any(leaf.shape for leaf in jax.tree.leaves(spec)):
        for element in _readable(read, range(1, min(length, _COMPARED))):
            with suppress(SpecError, TypeError):
                spec = varying_spec(spec, element_spec_of(element, title))
    return spec


def _readable(read: Callable[[Sequence[int]], Sequence[Any]], rows: Sequence[int]) -> Iterator[Any]:
    """Yield the elements that can be read."""
    found: Sequence[Any] | None = None
    with suppress(Exception):  # the error is raised when the record is served
        found = read(rows) if rows else []
    if found is not None:
        yield from found
    elif len(rows) > 1:
        for row in rows:
            yield from _readable(read, [row])


def batch_of(elements: Sequence[Any], spec: ElementSpec, origin_of: Callable[[int], str]) -> Batch:
    """Return elements as a batch of NumPy arrays that ``spec`` describes, one row an element.

    Python's numbers, and lists of them, take the dtype of the spec if their values fit it; arrays must have it. Cost: about
    0.1 us a number or text, a microsecond an array; more if an element holds anything else.

    Args:
        elements: Pytrees of values of one structure.
        spec: The element spec of all of them.
        origin_of: From a row to the name of its element in errors.

    Raises:
        SpecError: An element is not as the spec says; names the record, the field, what is expected and what was found.
    """
    try:
        return _uniform_batch(elements, spec)
    except _NotUniformError:
        pass  # convert the elements one by one, and raise for the one that does not fit
    structs, form = jax.tree.flatten(spec)
    columns = [[None] * len(elements) if None in struct.shape else _column(len(elements), struct) for struct in structs]
    for row, element in enumerate(elements):
        origin = origin_of(row)
        found = _fields(element, origin)
        fields, found_form = jax.tree.flatten(found)
        if found_form != form:  # type: ignore[operator]  # jaxlib's stubs leave it out
            wrong = differences(spec, _spec_of(found)) or [f"it is a {type(element).__name__}"]
            raise SpecError(f"{origin} is not what the element spec says: {'; '.join(wrong)}")
        for field, struct, column in zip(fields, structs, columns, strict=True):
            column[row] = field.like(struct)[()]  # [()]: the object itself, if the array holds one
    batch: Batch = jax.tree.unflatten(
        form,
        [
            Ragged.from_list(column, struct.dtype, struct.shape) if isinstance(column, list) else column
            for column, struct in zip(columns, structs, strict=True)
        ],
    )
    return batch


class _NotUniformError(Exception):
    """`_uniform_batch` cannot stack the elements: their structures, types or dtypes differ, or a value needs conversion."""


def _uniform_batch(elements: Sequence[Any], spec: ElementSpec) -> Batch:
    """Return the batch of elements that have one structure and the dtypes of the spec, column by column.

    This is the fast path: it makes no object for each field of each element.

    Raises:
        _NotUniformError: The elements need the slow path.
    """
    if type(spec) is dict:
        if not all(type(element) is dict and len(element) == len(spec) for element in elements):
            raise _NotUniformError
        try:
            return {name: _uniform_batch([element[name] for element in elements], part) for name, part in spec.items()}
        except KeyError as missing:
            raise _NotUniformError from missing
    if type(spec) is tuple:
        if not all(type(element) is tuple and len(element) == len(spec) for element in elements):
            raise _NotUniformError
        return tuple(
            _uniform_batch(column, part) for column, part in zip(zip(*elements, strict=True), spec, strict=True)
        )
    if not isinstance(spec, jax.ShapeDtypeStruct):
        raise _NotUniformError
    return _column_of(elements, spec)


def _column_of(values: Sequence[Any], struct: jax.ShapeDtypeStruct) -> Any:
    if None in struct.shape:
        return _ragged_of(values, struct)
    types = set(map(type, values))
    column = _column(len(values), struct)
    if types == {np.ndarray}:
        if not all(value.dtype == struct.dtype and value.shape == struct.shape for value in values):
            raise _NotUniformError
        for row, value in enumerate(values):
            column[row] = value
    elif struct.shape or len(types) != 1:
        raise _NotUniformError
    elif (type_ := types.pop()) in (np.str_, np.bytes_) and struct.dtype == _OBJECT:
        column[:] = list(map(_plain_text, values))
    elif _has_dtype(type_, struct.dtype):
        column[:] = values
    elif (type_ is int and struct.dtype.kind in "iu") or (type_ is float and struct.dtype.kind == "f"):
        _fill(column, values, type_)
    else:
        raise _NotUniformError
    return column


def _ragged_of(values: Sequence[Any], struct: jax.ShapeDtypeStruct) -> Ragged:
    """Return arrays of the dtype of the spec, or lists of numbers or text, as a ragged column; in one copy of all values."""
    types, only_first = set(map(type, values)), None not in struct.shape[1:]
    if types == {np.ndarray}:
        if not all(value.dtype == struct.dtype and has_shape(value.shape, struct.shape) for value in values):
            raise _NotUniformError
        if not only_first:
            return Ragged.from_list(values, struct.dtype, struct.shape)
        rows = np.concatenate(values, dtype=struct.dtype)  # which keeps the order of bytes
    elif types == {list} and struct.shape == (None,):
        items = list(chain.from_iterable(values))
        inner = jax.ShapeDtypeStruct((), struct.dtype)
        rows = _column_of(items, inner) if items else np.empty(0, struct.dtype)
    else:
        raise _NotUniformError
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=offsets[1:])
    return Ragged(rows, offsets)


def _plain_text(value: str | bytes) -> str | bytes:
    """Return a text of NumPy's own type, as data sets with arrays give them, as Python's."""
    return str(value) if isinstance(value, np.str_) else bytes(value) if isinstance(value, np.bytes_) else value


def _has_dtype(type_: type, dtype: np.dtype[Any]) -> bool:
    """Return whether every value of the type has the dtype."""
    if type_ in (str, bytes):
        return dtype == _OBJECT
    return type_ is bool if dtype == np.bool_ else issubclass(type_, np.generic) and np.dtype(type_) == dtype


def _fill(column: np.ndarray, numbers: Sequence[Any], type_: type) -> None:
    """Fill a column with Python's integers or floats; raise if the dtype of the column cannot hold one."""
    try:
        array = np.array(numbers, np.int64 if type_ is int else np.float64)
    except OverflowError as too_large:
        raise _NotUniformError from too_large
    with np.errstate(all="ignore"):
        column[:] = array
    if not _is_kept(array, column):
        raise _NotUniformError


def _column(count: int, struct: jax.ShapeDtypeStruct) -> np.ndarray:
    """Return an unfilled column; columns of numbers lie in memory that a CPU device takes over."""
    shape = (count, *struct.shape)
    return np.empty(shape, struct.dtype) if struct.dtype.hasobject else aligned_empty(shape, struct.dtype)


def _is_kept(given: np.ndarray, fitted: np.ndarray) -> bool:
    """Return whether a conversion kept every integer unchanged and every finite number finite."""
    same = fitted == given if fitted.dtype.kind in "iu" else np.isfinite(fitted) == np.isfinite(given)
    return bool(np.all(same))


class _Field:
    """A value of an element with its name in errors. JAX sees one leaf, also where the value is a list."""

    __slots__ = ("name", "origin", "value")

    def __init__(self, value: Any, name: str, origin: str) -> None:
        self.value, self.name, self.origin = value, name, origin

    def array(self) -> np.ndarray:
        """Return the value as an array; text and bytes as objects."""
        if isinstance(self.value, str | bytes):
            array = np.empty((), object)  # NumPy's dtypes of bytes drop trailing zeros
            array[()] = _plain_text(self.value)
            return array
        if isinstance(self.value, np.ma.MaskedArray):
            raise TypeError(
                f"field {self.name!r} of {self.origin} is masked, and its mask would be lost; fill it: array.filled(value)"
            )
        if (kind := text_type(self.value)) is not None:
            return self._texts(kind)
        try:
            array = host_array(self.value, lambda: f"field {self.name!r} of {self.origin}")
        except ValueError as ragged:
            raise SpecError(f"field {self.name!r} of {self.origin} is no array: {ragged}") from ragged
        if array.dtype.kind not in "US":
            return array
        if isinstance(self.value, list):
            return self._texts(str if array.dtype.kind == "U" else bytes)
        return array.astype(object)

    def _texts(self, kind: type) -> np.ndarray:
        """Return a list of text, or of bytes, as objects; with NumPy's dtypes, numbers among them would become text."""
        array = np.array(self.value, object)
        for item in array.flat:
            if not isinstance(item, kind):
                raise SpecError(
                    f"field {self.name!r} of {self.origin} is a list of {kind.__name__} with {item!r:.40} in it; a field has "
                    "one dtype"
                )
        return array

    def like(self, struct: jax.ShapeDtypeStruct) -> np.ndarray:
        """Return the value as an array of the shape and dtype of ``struct``; raise if it has others and cannot be converted."""
        array = self.array()
        if array.shape == (0,) and struct.shape[:1] == (None,):  # an empty list says nothing of its items
            array = array.reshape(0, *(size or 0 for size in struct.shape[1:]))
        if has_shape(array.shape, struct.shape):
            if array.dtype == struct.dtype:
                return array
            if (fitted := self._fitted(array, struct.dtype)) is not None:
                return fitted
        found, expected = (f"{each.dtype}{list(each.shape)}" for each in (array, struct))
        value = "" if array.ndim else f" ({self.value!r:.40})"
        raise SpecError(
            f"{self.origin} is not what the element spec says: field {self.name!r} is {found}{value} where {expected} is "
            f"expected{_remedy(array, struct)}"
        )

    def _fitted(self, array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray | None:
        if not array.size and isinstance(self.value, list):
            return np.empty(array.shape, dtype)
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


def _remedy(array: np.ndarray, struct: jax.ShapeDtypeStruct) -> str:
    """Return what to do if only the length of a value is another; "" if there is more to it."""
    if array.ndim != len(struct.shape) or has_shape(array.shape, struct.shape):
        return ""
    shape = tuple(n if n == m else None for n, m in zip(struct.shape, array.shape, strict=True))
    in_decoder = str(list(shape)).replace("None", "null")
    return (
        f"; if it varies from record to record, say so in the element_spec, jax.ShapeDtypeStruct({shape}, "
        f"{struct.dtype.name!r}), or in the fields of the decoder, shape: {in_decoder}, which makes a ragged column"
    )


def _fields(element: Any, origin: str, name: str = "") -> Any:
    """Return the element with each value in a `_Field`, named by its dotted path; ``name`` is the path of the element."""
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
