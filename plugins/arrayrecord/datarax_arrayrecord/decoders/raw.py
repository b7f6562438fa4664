"""Decoder that returns records undecoded."""

from collections.abc import Sequence
from typing import Final, Literal

import jax
import numpy as np

from datarax_core.records import Batch, ElementSpec, named_fields
from datarax_core.registry import Decoder

RECORD_FIELD: Final = "record"
"""Name of the only field."""


class RawDecoder(Decoder):
    """Serves the bytes of each record, undecoded, as the field ``record``."""

    type: Literal["raw"] = "raw"

    def element_spec(self) -> ElementSpec:
        """Return the element spec of one field of objects."""
        return {RECORD_FIELD: jax.ShapeDtypeStruct((), np.dtype(object))}

    def decode(self, records: Sequence[bytes], spec: ElementSpec) -> Batch:  # noqa: ARG002 - the signature of Decoder
        """Return the records as one column of objects, (k,)."""
        column = np.empty(len(records), object)
        column[:] = records
        return {RECORD_FIELD: column}

    def encode(self, batch: Batch) -> list[bytes]:
        """Return the records of the field ``record``.

        Raises:
            ValueError: There are other fields, or a record is no ``bytes``.
        """
        if not isinstance(batch, dict) or batch.keys() != {RECORD_FIELD}:
            found = ", ".join(sorted(named_fields(batch)))
            raise ValueError(f"the decoder 'raw' writes one field, {RECORD_FIELD!r}, of bytes, not the fields {found}")
        for record in batch[RECORD_FIELD]:
            if not isinstance(record, bytes):
                raise ValueError(  # noqa: TRY004
                    f"field {RECORD_FIELD!r} holds {record!r:.80}, and the decoder 'raw' writes records that are bytes"
                )
        return list(batch[RECORD_FIELD])
