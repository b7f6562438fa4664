"""Memory that the records of a data set take as columns: declared, or estimated from some of them."""

import contextlib
import math
from typing import Any, Final

import jax
import numpy as np

from datarax_core.record_files import ReadError
from datarax_core.records import Batch, ElementSpec, Ragged, joined_batches, named_fields
from datarax_tfds.features.stored import UndecodableRecord

from .opened import Records

_SAMPLED_RECORDS: Final = 64
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")


def array_bytes(spec: ElementSpec, num_records: int, others: int) -> int:
    """Return the bytes that the columns of ``num_records`` records take.

    Args:
        spec: Element spec of the records.
        num_records: Number of records.
        others: Bytes of all text, bytes and ragged columns, if there are any.
    """
    fields = named_fields(spec).values()
    fixed = [field for field in fields if None not in field.shape]
    numbers: int = sum(math.prod(field.shape) * field.dtype.itemsize for field in fixed)
    return numbers * num_records + (others if any(map(_is_other, fields)) else 0)


def sampled_bytes(records: Records) -> int:
    """Estimate the memory of all text, bytes and ragged columns from records spread over the split; 0 if there are none."""
    if not any(map(_is_other, named_fields(records.element_spec).values())):
        return 0
    total = records.length
    sampled = np.unique(np.linspace(0, total - 1, _SAMPLED_RECORDS).astype(np.int64))
    columns = named_fields(_sample(records, sampled)).values()
    return sum(map(_column_size, columns)) * total // len(sampled)


def size_text(nbytes: int) -> str:
    """Return a size for messages, such as ``1.3 GiB``."""
    size, unit = float(nbytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def _is_other(field: jax.ShapeDtypeStruct) -> bool:
    """Return whether the size of a field does not follow from its declaration."""
    return bool(field.dtype.hasobject) or None in field.shape


def _sample(records: Records, indices: np.ndarray) -> Batch:
    """Return records; without those that are bad, which are an error, or substituted, when they are served."""
    try:
        return records.decoded(indices)
    except (ReadError, UndecodableRecord):
        good = []
        for index in indices:
            with contextlib.suppress(ReadError, UndecodableRecord):
                good.append(records.decoded(index[None]))
        return joined_batches(good) if good else {}


def _column_size(column: Any) -> int:
    """Return the bytes of a column whose size does not follow from its declaration; 0 for any other."""
    if isinstance(column, Ragged):
        numbers = column.values.ravel() if column.dtype.hasobject else ()
        return column.nbytes + column.offsets.nbytes + sum(map(_object_size, numbers))
    return sum(map(_object_size, column.ravel())) if column.dtype.hasobject else 0


def _object_size(value: Any) -> int:
    """Return the bytes of a value in a column of objects, with the pointer to it, and the objects in it if it is an array."""
    inner = sum(map(_object_size, value.ravel())) if isinstance(value, np.ndarray) and value.dtype.hasobject else 0
    own: int = value.__sizeof__()
    return inner + own + np.dtype(object).itemsize
