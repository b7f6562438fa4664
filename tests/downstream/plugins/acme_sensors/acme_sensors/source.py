"""A source of readings that are computed; some packets of it are lost."""

from typing import Any, Literal

import jax
import numpy as np
from datarax_core import DataSourceModule, RecordError, SourceConfig, record_failed
from datarax_core.config import Count
from datarax_core.indices import record_numbers


class SensorsConfig(SourceConfig):
    """Settings of `Sensors`."""

    type: Literal["acme_sensors"] = "acme_sensors"
    count: Count = 10
    lost: int | None = None


class Sensors(DataSourceModule):
    """Four readings a record, and the name of the sensor, which rides beside the batch."""

    API_VERSION = 1
    config_class = SensorsConfig
    config: SensorsConfig

    def __len__(self) -> int:
        return self.config.count

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            "readings": jax.ShapeDtypeStruct((4,), np.dtype(np.float32)),
            "sensor": jax.ShapeDtypeStruct((), np.dtype("U8")),
        }

    def get_records(self, indices: Any) -> dict[str, np.ndarray]:
        numbers = record_numbers(indices, len(self), self.title)
        if self.config.lost is not None and self.config.lost in numbers:
            lost = self.config.lost
            record_failed(self, lost, RecordError(f"packet {lost} is lost", record=lost, reason="lost"))
            self.note_substituted(1)
            numbers = np.where(numbers == lost, (lost + 1) % len(self), numbers)
        readings = np.arange(4, dtype=np.float32) + numbers[:, None].astype(np.float32)
        return {"readings": readings, "sensor": np.asarray([f"s{number}" for number in numbers.tolist()], "U8")}
