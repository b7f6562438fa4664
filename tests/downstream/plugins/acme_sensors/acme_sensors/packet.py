"""The decoder of packets: an id, and four readings."""

import struct
from typing import Any, Literal

import jax
import numpy as np
from datarax_core import Decoder
from datarax_core.spec import Batch, ElementSpec

LAYOUT = struct.Struct("<i4f")


class Packet(Decoder):
    """Twenty bytes: a little-endian int32, and four float32."""

    type: Literal["acme_packet"] = "acme_packet"

    def element_spec(self) -> ElementSpec:
        return {
            "id": jax.ShapeDtypeStruct((), np.dtype(np.int32)),
            "readings": jax.ShapeDtypeStruct((4,), np.dtype(np.float32)),
        }

    def decode_record(self, record: bytes) -> Any:
        if len(record) != LAYOUT.size:
            raise ValueError(f"a packet has {LAYOUT.size} bytes, and this one has {len(record)}")
        number, *readings = LAYOUT.unpack(record)
        return {"id": number, "readings": readings}

    def encode(self, batch: Batch) -> list[bytes]:
        return [
            LAYOUT.pack(number, *row) for number, row in zip(batch["id"].tolist(), batch["readings"].tolist(), strict=True)
        ]
