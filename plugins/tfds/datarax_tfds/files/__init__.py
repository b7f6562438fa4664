"""Records of a split by their index, as bytes, read from ArrayRecord or TFRecord files without TensorFlow.

Imports `splits`.
"""

from .record_files import RecordFiles
from .table import FileTable

__all__ = [
    "FileTable",
    "RecordFiles",
]
