"""The source of plain TFRecord files, which no data set of TFDS describes: found by paths, decoded by a named decoder.

Imports `files`; nothing of TFDS.
"""

from .config import TFRecordSourceConfig
from .source import TFRecordSource

__all__ = ["TFRecordSource", "TFRecordSourceConfig"]
