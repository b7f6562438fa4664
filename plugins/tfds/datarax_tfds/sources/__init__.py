"""The sources: eager, streaming by record index, streaming by ``tf.data``, and the choice between them.

Imports every other part of this package. The two streaming classes register with `TFDSStreamingSource` as they are imported.
"""

from .choosing import TFDSSource, from_tfds
from .eager import TFDSEagerSource
from .record_stream import RecordStream
from .streaming import TFDSStreamingSource
from .tf_data_stream import TFDataStream

__all__ = [
    "RecordStream",
    "TFDSEagerSource",
    "TFDSSource",
    "TFDSStreamingSource",
    "TFDataStream",
    "from_tfds",
]
