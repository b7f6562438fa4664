"""TensorFlow Datasets for datarax: prepared data sets, eager or streamed, without TensorFlow wherever the files allow it.

From the bottom up: `backends` (which reader fits which format, and what is installed), `names` and `splits`, `config`,
`features` (decoding), `files` (records as bytes), `dataset` (what is on disk), `tf_data` (TensorFlow's reader), `sources`.
"""

from datarax_core.moved import forward_modules

from .config import TFDSConfig, TFDSEagerConfig, TFDSStreamingConfig
from .sources import TFDSEagerSource, TFDSSource, TFDSStreamingSource, from_tfds

__all__ = [
    "TFDSConfig",
    "TFDSEagerConfig",
    "TFDSEagerSource",
    "TFDSSource",
    "TFDSStreamingConfig",
    "TFDSStreamingSource",
    "from_tfds",
]

_MOVED = {
    "_array_record_files": "files.array_record",
    "_choosing": "sources.choosing",
    "_config": "config",
    "_data_set": "dataset.data_set",
    "_declarations": "features.decoder",
    "_decoding": "features.decoder",
    "_descriptors": "files.tfrecord",
    "_eager": "sources.eager",
    "_fields": "features.fields",
    "_file_table": "files.table",
    "_foreign": "features.fields",
    "_images": "features.images",
    "_installed": "backends",
    "_items": "features.items",
    "_names": "names",
    "_opening": "sources.opened",
    "_parts": "splits",
    "_ragged": "features.ragged",
    "_read_ahead": "sources.record_stream",
    "_record_files": "files.record_files",
    "_record_stream": "sources.record_stream",
    "_records": "sources.opened",
    "_requirements": "backends",
    "_streaming": "sources.streaming",
    "_tf_data_stream": "sources.tf_data_stream",
    "_tf_graph": "tf_data.graph",
    "_tfrecord_files": "files.tfrecord",
    "_undecodable": "features.stored",
    "_unreadable": "files.table",
}
"""Modules of version 0.1.0 that defined the classes of what can be pickled, and the modules that define these classes now."""

forward_modules({f"{__name__}.{old}": f"{__name__}.{new}" for old, new in _MOVED.items()})
