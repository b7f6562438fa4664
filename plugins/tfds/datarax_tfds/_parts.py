"""Which records of which files a split is."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

FileFormat: TypeAlias = Literal["array_record", "tfrecord"]
"""The formats that are read without TensorFlow."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """The records ``start .. stop`` of a file; the records of a split are those of its parts, one part behind another."""

    path: str
    start: int
    stop: int
    records_in_file: int
    """How many records the data set says the file has; what is on disk is held against it."""

    @property
    def num_records(self) -> int:
        """Records of this part."""
        return self.stop - self.start
