"""What was written of a source's records, and how it is read back."""

from dataclasses import dataclass

from .config import SourceConfig


@dataclass(frozen=True, slots=True)
class Written:
    """Files that hold the records of a source."""

    config: SourceConfig
    """Of the source that reads them back."""

    paths: tuple[str, ...]
    """The files, in the order of their records."""

    num_records: int
    """Records in all of them."""

    nbytes: int
    """Bytes of all of them on disk."""
