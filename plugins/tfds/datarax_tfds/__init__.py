"""TensorFlow Datasets for datarax: prepared data sets, eager or streamed, without TensorFlow if the files allow it.

From the bottom up: `backends` (which reader fits which format, and what is installed), `names` and `splits`,
`unprepared` (of files that are never prepared), `config`, `features` (decoding), `files` (records as bytes), `dataset`
(what is on disk), `tf_data` (TensorFlow's reader), and on top `sources` (of data sets) and `tfrecord` (of plain files).
"""

from datarax_core.moved import forward_modules

from .config import TFDSConfig, TFDSEagerConfig, TFDSStreamingConfig
from .sources import TFDSEagerSource, TFDSSource, TFDSStreamingSource, from_tfds
from .tfrecord import TFRecordSource, TFRecordSourceConfig

__all__ = [
    "TFDSConfig",
    "TFDSEagerConfig",
    "TFDSEagerSource",
    "TFDSSource",
    "TFDSStreamingConfig",
    "TFDSStreamingSource",
    "TFRecordSource",
    "TFRecordSourceConfig",
    "from_tfds",
]

_MOVED = {
    "_array_record_files": "files.table",
    "_config": "config",
    "_data_set": "dataset.data_set",
    "_decoding": "features.decoder",
    "_descriptors": "files.table",
    "_eager": "sources.eager",
    "_fields": "features.fields",
    "_file_table": "files.table files.tfrecord",
    "_foreign": "features.fields",
    "_images": "features.images",
    "_installed": "backends",
    "_items": "features.items",
    "_opening": "sources.opened",
    "_parts": "splits",
    "_ragged": "features.ragged",
    "_read_ahead": "sources.record_stream",
    "_record_files": "files.record_files",
    "_record_stream": "sources.record_stream",
    "_records": "sources.opened",
    "_requirements": "backends",
    "_tf_data_stream": "sources.tf_data_stream files.table",
    "_tf_graph": "tf_data.graph",
    "_tfrecord_files": "files.table",
    "_undecodable": "features.stored",
}
"""Modules of version 0.1.0 that pickles name, and the modules that have the classes now."""

_RENAMED = {
    "_array_record_files.ArrayRecordFiles": "OldFiles",
    "_descriptors.Descriptors": "OldFiles",
    "_file_table.FileTable": "OldFileTable",
    "_tf_data_stream._Blocks": "_BlockReader",
    "_tf_data_stream._Reads": "OldFiles",
    "_tfrecord_files.TFRecordFiles": "OldFiles",
}
"""New names of classes that pickles of version 0.1.0 name."""

forward_modules(
    {f"{__name__}.{old}": " ".join(f"{__name__}.{home}" for home in homes.split()) for old, homes in _MOVED.items()},
    {f"{__name__}.{old}": new for old, new in _RENAMED.items()},
)
