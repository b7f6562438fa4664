"""Checks of what a ragged column is made of: offsets, shapes of records, and arrays of one dtype."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from datarax_core.errors import SpecError

from .dtypes import is_text


def rows_of(values: Any) -> np.ndarray:
    """Return values as an array; texts as objects.

    Raises:
        TypeError: They are masked.
    """
    _require_no_mask(values, "the values")
    return np.asarray(values) if text_type(values) is None else np.array(values, object)


def checked_offsets(offsets: Any, num_rows: int) -> np.ndarray:
    """Return offsets as int64; raise unless they never go down, and lie within ``num_rows`` rows of values."""
    given, offsets = offsets, np.asarray(offsets)
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or not len(offsets):
        raise SpecError(
            "offsets are integers (k + 1,), the first row of each record and the end of the last, not "
            f"{offsets.dtype}{list(offsets.shape)}; without records they are [0]"
        )
    if offsets.dtype != np.int64:
        if offsets.dtype == np.uint64 and int(offsets.max()) > num_rows:
            raise _past_end(offsets, num_rows)
        offsets = offsets.astype(np.int64)
    if int(offsets[0]) < 0:
        raise SpecError(f"offsets begin at {offsets[0]}; the first row of values is 0")
    is_down = offsets[1:] < offsets[:-1]
    if is_down.any():
        record = int(np.argmax(is_down))
        raise SpecError(
            f"offsets go down from {offsets[record]} to {offsets[record + 1]} at record {record}; each is the end of one "
            "record and the beginning of the next"
        )
    if int(offsets[-1]) > num_rows:
        raise _past_end(offsets, num_rows)
    checked: np.ndarray = _unchanging(offsets, given)
    return checked


def _unchanging(made: np.ndarray, given: Any) -> np.ndarray:
    """Return a copy of an array whose owner could change it after it was checked; itself for others."""
    shares = isinstance(given, np.ndarray) and given.flags.writeable and np.may_share_memory(made, given)
    return made.copy() if shares else made


def _past_end(offsets: np.ndarray, num_rows: int) -> SpecError:
    end = int(np.argmax(offsets > num_rows))
    return SpecError(
        f"offsets go past the end of the values at record {max(0, end - 1)}: to row {offsets[end]} of {num_rows}; values and "
        "offsets belong to different data, or the values were cut short"
    )


def checked_shapes(
    shapes: Any, offsets: np.ndarray, inner: tuple[int, ...], record_shape: Sequence[int | None] | None
) -> tuple[tuple[int | None, ...], np.ndarray | None]:
    """Return (shape of a record, shapes as int64, None if only the first axis varies); raise unless they fit the offsets."""
    given, shapes = shapes, np.asarray(shapes)
    num_records = len(offsets) - 1
    if shapes.ndim != 2 or shapes.dtype.kind not in "iu" or not shapes.shape[1] or len(shapes) != num_records:
        raise SpecError(
            f"shapes are integers ({num_records}, d), the sizes of the leading axes of each of {num_records} records, not "
            f"{shapes.dtype}{list(shapes.shape)}"
        )
    shapes = shapes.astype(np.int64, copy=False)
    axes = shapes.shape[1]
    form = (*[None] * axes, *inner) if record_shape is None else tuple(record_shape)
    if len(form) != axes + len(inner) or form[axes:] != inner or None not in form[:axes]:
        raise SpecError(
            f"shapes of {axes} axes and values of {list(inner)} make records of {axes + len(inner)} axes that end in "
            f"{list(inner)}, of the others one at least None, not {list(form)}"
        )
    lengths = np.diff(offsets)
    with np.errstate(over="ignore"):
        differ = (shapes < 0).any(1) | (shapes.prod(1) != lengths) | (shapes.astype(float).prod(1) > 2.0**62)
    if differ.any():
        record = int(np.argmax(differ))
        raise SpecError(
            f"record {record} has {lengths[record]} rows of values, and its shape {shapes[record].tolist()} has "
            "another number of them"
        )
    for axis, size in enumerate(form[:axes]):
        if size is not None and (odd := shapes[:, axis] != size).any():
            record = int(np.argmax(odd))
            raise SpecError(f"axis {axis} of record {record} is {shapes[record, axis]} where each record has {size}")
    return form, None if axes == 1 else _unchanging(shapes, given)


def inner_of_uniform(arrays: Sequence[Any], dtype: Any, shape: Sequence[int | None] | None) -> tuple[int, ...] | None:
    """Return the axes after the first of arrays that differ in the first alone, and need no conversion; None for others."""
    if set(map(type, arrays)) != {np.ndarray} or not arrays[0].ndim:
        return None
    inner: tuple[int, ...] = arrays[0].shape[1:]
    wanted = arrays[0].dtype if dtype is None else np.dtype(dtype)
    is_uniform = shape is None or tuple(shape) == (None, *inner)
    if not is_uniform or any(array.dtype != wanted or not array.ndim or array.shape[1:] != inner for array in arrays):
        return None
    return inner


def converted(
    arrays: Sequence[Any], dtype: Any, shape: Sequence[int | None] | None
) -> tuple[list[np.ndarray], tuple[int | None, ...]]:
    """Return (arrays of one dtype, shape of a record); raise for one that has another dtype or does not fit the shape."""
    parts = [_array(value, record) for record, value in enumerate(arrays)]
    form = _form(parts) if shape is None else tuple(shape)
    if shape is not None and None not in form:
        raise SpecError(
            f"records of {list(form)} all have one shape, and make an array; a ragged column has None for an axis"
        )
    for record, part in enumerate(parts):
        fits = part.ndim == len(form) and all(size in (None, n) for size, n in zip(form, part.shape, strict=True))
        if (
            not fits and not part.size and part.ndim == 1 and form[0] is None
        ):  # an empty list, of records with more axes
            parts[record] = np.empty([0, *(size or 0 for size in form[1:])], part.dtype)
        elif not fits:
            raise SpecError(f"record {record} has shape {list(part.shape)} where {list(form)} is expected")
    wanted = _dtype_of(parts, arrays) if dtype is None else np.dtype(dtype)
    return [_as_dtype(part, wanted, record) for record, part in enumerate(parts)], form


def _array(value: Any, record: int) -> np.ndarray:
    _require_no_mask(value, f"record {record}")
    if text_type(value) is not None:
        return _texts(value, record)
    try:
        array = np.asarray(value)
    except ValueError as uneven:
        raise SpecError(f"record {record} is no array: {uneven}") from uneven
    if not array.ndim:
        raise SpecError(
            f"record {record} is a single value, {value!r:.60}; a record of a ragged column has one axis at least"
        )
    if array.dtype.kind in "US" and isinstance(value, list | tuple):
        raise SpecError(f"record {record} holds text among other values, {value!r:.60}; a field has one dtype")
    return array


def _require_no_mask(value: Any, title: str) -> None:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{title} of a ragged column would lose a mask; fill it: array.filled(value)")


def text_type(value: Any) -> type | None:
    """Return the type of the texts, or bytes, of which a list begins; None if it begins with anything else."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return str if isinstance(value, str) else bytes if isinstance(value, bytes) else None


def _texts(value: Any, record: int) -> np.ndarray:
    """Return a list of text or bytes as objects: in NumPy's dtypes they drop zeros at the end, and take the longest's room."""
    texts = np.array(value, object)
    kind = text_type(value)
    for text in texts.flat:
        if kind is None or not isinstance(text, kind):
            raise SpecError(f"record {record} holds {text!r:.40} among text, {value!r:.60}; a field has one dtype")
    return texts


def _form(parts: list[np.ndarray]) -> tuple[int | None, ...]:
    if not parts:
        raise SpecError(
            "there are no records to take the shape from; say what they are, Ragged.from_list([], dtype, shape)"
        )
    first = next((part for part in parts if part.size), parts[0])
    shapes = [part.shape for part in parts if part.size or part.ndim == first.ndim]
    if odd := next(
        (n for n, part in enumerate(parts) if part.ndim != first.ndim and (part.size or part.ndim != 1)), None
    ):
        raise SpecError(
            f"record {odd} has {parts[odd].ndim} axes where others have {first.ndim}; each has the same number"
        )
    if len(shapes) < len(parts):
        shapes.append((0, *first.shape[1:]))
    form = tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True))
    return form if None in form else (None, *form[1:])


def _dtype_of(parts: list[np.ndarray], given: Sequence[Any]) -> np.dtype[Any]:
    """Return the one dtype of the arrays; empty lists have none of their own."""
    dtypes = {
        part.dtype: n for n, part in reversed(list(enumerate(parts))) if part.size or isinstance(given[n], np.ndarray)
    }
    if len(dtypes) > 1 and {dtype.kind for dtype in dtypes} <= {"O", next(filter(is_text, dtypes), np.dtype("V")).kind}:
        return np.dtype(object)  # of texts, none takes the room of the longest
    if len(dtypes) > 1:
        (one, first), (other, second) = sorted(dtypes.items(), key=lambda item: item[1])[:2]
        raise SpecError(f"record {second} is {other} where record {first} is {one}; say the dtype, dtype=...")
    return next(iter(dtypes)) if dtypes else np.dtype(float)


def _as_dtype(part: np.ndarray, dtype: np.dtype[Any], record: int) -> np.ndarray:
    if part.dtype == dtype:
        return part
    try:
        with np.errstate(all="ignore"):
            made = part.astype(dtype)
            is_kept = np.can_cast(part.dtype, dtype, "safe") or np.array_equal(
                made, part, equal_nan=part.dtype.kind in "fc"
            )
            is_kept = is_kept or (
                part.dtype.kind == dtype.kind == "f" and np.array_equal(np.isfinite(made), np.isfinite(part))
            )
    except (ValueError, TypeError):
        is_kept = False
    if not is_kept:
        raise SpecError(f"record {record} is {part.dtype}, with values that would change in {dtype}")
    return made


def padding_of(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a value to pad with, in this dtype; raise if integers or booleans would change it."""
    if dtype.hasobject or dtype.kind in "UST":
        return value
    try:
        given = np.asarray(value)
        with np.errstate(all="ignore"):
            made = given.astype(dtype)
        fits = given.ndim == 0 and given.dtype.kind not in "USO" and (dtype.kind not in "iub" or bool(made == given))
    except (OverflowError, ValueError, TypeError):
        fits = False
    if not fits:
        raise SpecError(f"{value!r:.60} is no value of {dtype} to pad with")
    return made
