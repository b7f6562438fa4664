"""The ArrayRecord source of datarax: random access to records in files, decoded in whole batches."""

from ._config import ArrayRecordSourceConfig
from ._source import ArrayRecordSourceModule
from ._writing import write

__all__ = ["ArrayRecordSourceConfig", "ArrayRecordSourceModule", "write"]
