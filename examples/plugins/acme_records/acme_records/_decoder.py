"""The decoder."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import jax
import numpy as np
from pydantic import Field

from datarax_core import Decoder, Ragged
from datarax_core.config import Count
from datarax_core.records import Batch, ElementSpec, describe, differences, spec_of

from ._packet import Packet, packed, unpacked


class AcmeRecords(Decoder):
    """Decoder of the packets of a sensor: its number, a second, and samples, of any number or of one that is given.

    With ``num_samples``, samples are an array of one shape, which compiled code can carry, and a packet with another number is
    refused. Without, they are a ragged column.
    """

    type: Literal["acme_records"] = "acme_records"
    num_samples: Count | None = Field(
        default=None, description="The number of samples of all packets; null is any number."
    )

    def element_spec(self) -> ElementSpec:
        """Return dtype and shape of each field; no record is needed to know them."""
        number = jax.ShapeDtypeStruct((), np.dtype(np.uint32))
        samples = jax.ShapeDtypeStruct((self.num_samples,), np.dtype(np.float32))
        return {"sensor": number, "second": number, "samples": samples}

    def decode(self, records: Sequence[bytes], spec: ElementSpec) -> Batch:  # noqa: ARG002 - equals `element_spec`
        """Return the packets as columns.

        Raises:
            ValueError: A record is no packet, is damaged, or has another number of samples than ``num_samples``.
        """
        packets = [unpacked(record) for record in records]
        return {
            "sensor": np.array([packet.sensor for packet in packets], np.uint32),
            "second": np.array([packet.second for packet in packets], np.uint32),
            "samples": self._samples([packet.samples for packet in packets]),
        }

    def encode(self, batch: Batch) -> list[bytes]:
        """Return the packet of each row.

        Raises:
            ValueError: The batch has other fields than a packet, or other dtypes or shapes; names each difference.
        """
        if wrong := differences(self.element_spec(), spec_of(batch)):
            raise ValueError(f"a packet cannot hold this batch: {'; '.join(wrong)}")
        rows = zip(batch["sensor"], batch["second"], batch["samples"], strict=True)
        return [packed(Packet(int(sensor), int(second), np.asarray(samples))) for sensor, second, samples in rows]

    @classmethod
    def for_spec(cls, spec: ElementSpec) -> Self:
        """Return the decoder that reads and writes records of ``spec``.

        Raises:
            ValueError: Records of this spec are no packets.
        """
        samples = spec.get("samples") if isinstance(spec, dict) else None
        length = samples.shape[0] if samples is not None and len(samples.shape) == 1 else None
        made = cls(num_samples=length or None)
        if spec != made.element_spec():
            raise ValueError(f"a packet is {describe(made.element_spec())}, and the records are {describe(spec)}")
        return made

    def _samples(self, samples: list[np.ndarray]) -> Any:
        """Return the column of samples: of one shape, or ragged."""
        if self.num_samples is None:
            return Ragged.from_list([values.astype(np.float32, copy=False) for values in samples])
        odd = next((values for values in samples if len(values) != self.num_samples), None)
        if odd is not None:
            raise ValueError(
                f"the packet has {len(odd)} samples where num_samples is {self.num_samples}; leave that out to read any number"
            )
        return np.stack(samples).astype(np.float32, copy=False)
