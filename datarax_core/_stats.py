"""What a pipeline counts while it serves: a few additions a batch."""

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Stats:
    """Batches, records, and where the seconds went. `source` and `transfer` pass on a background thread, if one reads ahead."""

    batches: int = 0
    records: int = 0
    waiting: float = 0.0
    source: float = 0.0
    transfer: float = 0.0
    stages: float = 0.0

    def add_batch(self, records: int, waiting: float) -> None:
        """Count a batch that was handed over, and how long its user waited for it."""
        self.batches += 1
        self.records += records
        self.waiting += waiting

    def add_reading(self, *, source: float, transfer: float) -> None:
        """Count the seconds that reading a batch took, and handing it to the device."""
        self.source += source
        self.transfer += transfer

    def as_dict(self, record_bytes: int) -> dict[str, Any]:
        """What ``Pipeline.stats()`` gives."""
        return {
            "batches": self.batches,
            "records": self.records,
            "bytes": self.records * record_bytes,
            "seconds_waiting": self.waiting,
            "seconds_in_source": self.source,
            "seconds_in_transfer": self.transfer,
            "seconds_in_stages": self.stages,
        }
