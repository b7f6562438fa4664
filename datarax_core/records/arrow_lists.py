"""Arrow's lists as values and offsets, and the other way, without a copy of the values. Needs pyarrow when it is called."""

from typing import Any

import numpy as np

from datarax_core.errors import SpecError


def arrow_of_lists(values: np.ndarray, offsets: np.ndarray) -> Any:
    """Return the large list array of values and offsets, which shares their memory where Arrow has the dtype as it is."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    values = values.astype(values.dtype.newbyteorder("="), copy=False)  # Arrow has the machine's byte order only
    try:
        items = pa.array(values.reshape(-1))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as cause:
        raise SpecError(f"Arrow has no lists of {values.dtype}: {cause}") from cause
    if 0 in values.shape[1:]:
        raise SpecError(f"Arrow has no lists of no items, as records of {[None, *values.shape[1:]]} would need them")
    for size in reversed(values.shape[1:]):
        items = pa.FixedSizeListArray.from_arrays(items, size)
    return pa.LargeListArray.from_arrays(pa.array(offsets), items)


def is_arrow_lists(array: Any) -> bool:
    """Return whether an object is an array of pyarrow with lists of numbers or text, whose lengths may differ."""
    if not type(array).__module__.startswith("pyarrow"):
        return False
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    kind = getattr(array, "type", None)
    if kind is None or not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or _is_view(kind)):
        return False
    kind = kind.value_type
    while pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return not (pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType))


def fixed_lists_of_arrow(array: Any) -> np.ndarray | None:
    """Return the array of a pyarrow array of fixed-size lists of numbers or text; None for any other object.

    Raises:
        SpecError: It has nulls, or is one of whole numbers or booleans with nulls, which NumPy would get as floats or objects.
    """
    kind = getattr(array, "type", None)
    if not type(array).__module__.startswith("pyarrow") or kind is None:
        return None
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        _require_no_nulls(array)
    if not pa.types.is_fixed_size_list(kind):
        return None
    while pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
        return None
    return _values_of(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array)


def lists_of_arrow(array: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return (values, offsets) of an array of lists; numbers share its memory, but those of list views."""
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.Array) and _is_view(array.type):
        _require_no_nulls(array)
        ends = array.sizes.to_numpy().cumsum(dtype=np.int64)  # a cast to lists gives wrong offsets in pyarrow 26
        return _values_of(array.flatten()), np.concatenate([np.zeros(1, np.int64), ends])
    kind = getattr(array, "type", f"{type(array).__module__}.{type(array).__qualname__}")
    if not isinstance(array, pa.Array) or not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise SpecError(f"a ragged column is made of a pyarrow ListArray or LargeListArray, not of {kind}")
    _require_no_nulls(array)
    offsets = array.offsets.to_numpy().astype(np.int64, copy=False)
    first, last = int(offsets[0]), int(offsets[-1])
    return _values_of(array.values[first:last]), offsets - first if first else offsets


def _values_of(items: Any) -> np.ndarray:
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    rows, inner = len(items), []
    while pa.types.is_fixed_size_list(items.type):
        size = items.type.list_size
        _require_no_nulls(items)
        items = items.values[items.offset * size : (items.offset + len(items)) * size]
        inner.append(size)
    kind = items.type
    if isinstance(kind, pa.BaseExtensionType):
        raise SpecError(
            f"lists of {kind} are no ragged column, since NumPy has no such dtype; take their storage: array.values.storage"
        )
    if pa.types.is_nested(kind):
        raise SpecError(
            f"records of {kind} items vary in more than their first axis; a ragged column of Arrow has lists of numbers or text"
        )
    _require_no_nulls(items)
    values: np.ndarray = items.to_numpy(zero_copy_only=pa.types.is_integer(kind) or pa.types.is_floating(kind))
    return values.reshape(rows, *inner) if inner else values


def _is_view(kind: Any) -> bool:
    """Return whether this is a type of list views, which pyarrow has since version 16."""
    return str(kind).startswith(("list_view<", "large_list_view<"))


def _require_no_nulls(items: Any) -> None:
    if items.null_count:
        raise SpecError(
            f"{items.null_count} of {len(items)} values of {items.type} are null, which no array holds; fill or drop them"
        )
