"""Files: the records of a split by record index, as bytes, from ArrayRecord or TFRecord files without TensorFlow.

Imports `splits`, and of core the table and the pool of files.
"""

from .record_files import RecordFiles
from .table import fingerprint_of, table_of

__all__ = [
    "RecordFiles",
    "fingerprint_of",
    "table_of",
]
