"""Examples that TFDS has decoded already, as a batch: what its mocks make."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from datarax_core.records import Batch, Ragged

from .decoder import FeatureDecoder, column_of, nested
from .fields import Field
from .items import object_array
from .numbers import AnyArray
from .stored import UndecodableRecord, Unfit


class DecodedExamples(FeatureDecoder):
    """Decoder whose records are decoded examples, dicts, and not bytes; else as its base class."""

    def decode(self, records: Sequence[Any]) -> Batch:
        """Return examples as a batch of new columns.

        Raises:
            UndecodableRecord: An example is not as declared; the error names the row.
        """
        return nested({field.path: _column(field, records) for field in self._fields})

    def decode_into(self, records: Sequence[Any], out: Batch, first_row: int) -> None:
        """Put examples into the rows from ``first_row`` on of existing arrays; raises as `decode` does."""
        for field in self._fields:
            if not field.is_ragged:
                column = out
                for name in field.path:
                    column = column[name]
                column[first_row : first_row + len(records)] = _column(field, records)

    def require_room(self, record: Any) -> None:
        """Do nothing: an example takes what it takes already."""


def _column(field: Field, examples: Sequence[Any]) -> AnyArray | Ragged:
    values = [_value(field, example, row) for row, example in enumerate(examples)]
    if field.is_ragged:
        return Ragged.from_list(values, field.dtype, field.shape)
    column = column_of(field.struct, len(values))
    for row, value in enumerate(values):
        column[row] = value
    return column


def _value(field: Field, example: Any, row: int) -> Any:
    value = example
    for name in field.path:
        value = value[name]
    value = _as_bytes(value) if field.is_text else value
    if field.is_varying and not field.is_ragged:
        return value
    try:
        return field.as_array(value) if field.shape else value
    except Unfit as error:
        raise UndecodableRecord(
            row, field.name, f"field {field.name!r} has {error} where {field} is expected"
        ) from error


def _as_bytes(value: Any) -> Any:
    """Return texts as bytes, as TFDS returns them from files."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, np.ndarray) and value.dtype.kind in "UO":
        return object_array([_as_bytes(text) for text in value.flat]).reshape(value.shape)
    return value
