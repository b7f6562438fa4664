"""From the bytes of records to the arrays of a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datarax_core.records import Batch, ElementSpec, aligned_empty, nested_fields

from ._declarations import fields_of
from ._fields import OBJECT, fill_field
from ._numbers import AnyArray
from ._stored import Records


class FeatureDecoder:
    """Decodes the records of a data set, as its features declare them, without TensorFlow.

    A field has the dtype that TFDS declares. Text and other bytes are objects: ``bytes``, as TFDS gives them, or arrays of them
    where there are several. Arrays whose shape differs from record to record are objects too: NumPy arrays, and lists of them
    for sequences in sequences. A sequence of dicts is a dict of sequences.

    It holds no state, so that threads may share it; it pickles.

    Args:
        features: The FeaturesDict of the data set.
        kept: Which of its features to decode.

    Raises:
        NeedsTensorFlow: One of these has no decoder without it.
    """

    def __init__(self, features: Any, kept: Sequence[str]) -> None:
        self._fields = fields_of(features, kept)

    @property
    def spec(self) -> ElementSpec:
        """What one record looks like, from the declarations alone."""
        return nested_fields({field.name: field.struct for field in self._fields})

    @property
    def text(self) -> dict[str, str]:
        """The fields whose values are bytes, which no device holds, each with what is declared of it."""
        return {field.name: str(field) for field in self._fields if field.is_text}

    @property
    def varying(self) -> dict[str, str]:
        """The fields whose arrays differ in shape from record to record, each with what is declared of it."""
        return {field.name: str(field) for field in self._fields if field.is_varying}

    def decode(self, records: Sequence[bytes | memoryview]) -> Batch:
        """The records as a batch of new arrays, rows in their order.

        Raises:
            UndecodableRecord: One is not as declared; says which row, and what is wrong with it.
        """
        columns = {field.name: _column(field.struct, len(records)) for field in self._fields}
        self._fill(records, columns)
        return nested_fields(columns)

    def decode_into(self, records: Sequence[bytes | memoryview], out: Batch, first_row: int) -> None:
        """Fill the rows from ``first_row`` on of the arrays of a batch.

        Raises:
            UndecodableRecord: As `decode`; the rows may be partly filled then.
        """
        rows = slice(first_row, first_row + len(records))
        self._fill(records, {field.name: _at(out, field.name)[rows] for field in self._fields})

    def _fill(self, records: Sequence[bytes | memoryview], columns: Mapping[str, AnyArray]) -> None:
        parsed = Records.parsed(records)
        for field in self._fields:
            fill_field(field, parsed, columns[field.name])


def _column(struct: Any, count: int) -> AnyArray:
    shape = (count, *struct.shape)
    return np.empty(shape, object) if struct.dtype == OBJECT else aligned_empty(shape, struct.dtype)


def _at(tree: Any, name: str) -> Any:
    for part in name.split("."):
        tree = tree[part]
    return tree
