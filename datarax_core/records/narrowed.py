"""Reports of narrowing: which fields a device keeps in 32 bits, and by how much that changes their values."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import jax
import numpy as np

from datarax_core.errors import NarrowingError

from .dtypes import fits_device
from .narrowing import narrow_field
from .spec import Batch, named_fields


@dataclass(frozen=True, slots=True)
class NarrowedField:
    """A field that a device keeps in 32 bits, and the changes of the values that were looked at."""

    stored: str
    """The dtype in the source."""
    kept: str
    """The dtype on a device."""
    max_relative_error: float = 0.0
    """The largest change of a finite value, as a share of the value; 0 if all are exact."""
    refused: str | None = None
    """The error for the first value that does not fit; None if all do."""

    def __str__(self) -> str:
        change = f"largest relative error {self.max_relative_error:.2g}" if self.max_relative_error else "exact"
        return f"{self.stored} as {self.kept}: {f'refused, {self.refused}' if self.refused else change}"

    def merged(self, other: Self) -> Self:
        """Return the report of both parts of the records."""
        error = max(self.max_relative_error, other.max_relative_error)
        return type(self)(self.stored, self.kept, error, self.refused or other.refused)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return asdict(self)


def narrowed_fields(batch: Batch, records: Sequence[int] | np.ndarray | None = None) -> dict[str, NarrowedField]:
    """Return the fields of a batch, as a source stores them, that a device narrows, by dotted name.

    Args:
        batch: NumPy columns; host fields, and arrays of JAX, are left out of the report.
        records: The record index of each row, for the report of a value that does not fit.
    """
    found = {}
    for name, column in named_fields(batch).items():
        if not isinstance(column, np.ndarray) or not fits_device(column.dtype):
            continue
        native = column.dtype.newbyteorder("=")
        if (kept := jax.dtypes.canonicalize_dtype(native)) != native:
            found[name] = _narrowed(name, column.astype(native, copy=False), kept, records)
    return found


def _narrowed(
    name: str, column: np.ndarray, kept: np.dtype[Any], records: Sequence[int] | np.ndarray | None
) -> NarrowedField:
    try:
        made = narrow_field(name, column, records=records)
    except NarrowingError as refused:
        return NarrowedField(str(column.dtype), str(kept), refused=str(refused).partition(";")[0])
    error = 0.0
    if column.dtype.kind in "fc":
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            changes, sizes = np.abs(made.astype(column.dtype) - column), np.abs(column)
            shares = changes[(sizes > 0) & np.isfinite(sizes)] / sizes[(sizes > 0) & np.isfinite(sizes)]
        error = float(shares.max(initial=0.0))
    return NarrowedField(str(column.dtype), str(kept), error)


def merged_reports(one: Mapping[str, NarrowedField], other: Mapping[str, NarrowedField]) -> dict[str, NarrowedField]:
    """Return the reports of two parts of the records as one."""
    both = {name: one[name].merged(other[name]) for name in one.keys() & other.keys()}
    return {name: both.get(name, report) for name, report in {**one, **other}.items()}
