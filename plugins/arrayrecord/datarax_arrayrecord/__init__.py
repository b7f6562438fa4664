"""ArrayRecord source of datarax: random access to records in ArrayRecord files, decoded in whole batches.

`config` declares what can be set and how files are named, `sidecar` notes how they are decoded, `source` is the
source. Packages: `reading` (records of files), `writing` (new files) and `decoders` (bytes of records to arrays, and back).
Imports core through the faces of its packages only.
"""

from datarax_core.moved import forward_modules

from .config import ArrayRecordSourceConfig
from .source import ArrayRecordSourceModule
from .writing import write

__all__ = ["ArrayRecordSourceConfig", "ArrayRecordSourceModule", "write"]

_DECODERS = ("array", "example", "fields", "msgpack", "named_values", "npz", "raw")

_MOVED = {
    "_config": f"{__name__}.config",
    "_faults": "datarax_core.record_files.bad_records",
    "_files": "datarax_core.sources",
    "_open_files": f"{__name__}.reading.array_records",
    "_opening": f"{__name__}.reading.file_set",
    "_reader": f"{__name__}.reading.reader",
    "_records": f"{__name__}.reading.array_records",
    "_source": f"{__name__}.source",
    "paths": "datarax_core.files.paths",
    "reading.bad_records": "datarax_core.record_files.bad_records",
    "reading.record_reader": f"{__name__}.reading.array_records",
    **{f"decoders._{name}": f"{__name__}.decoders.{name}" for name in _DECODERS},
}
"""Modules of version 0.1.0 and later that pickles name, and the modules that have the classes now."""

_RENAMED = {
    "_faults.Policy": "BadRecordPolicy",
    "_open_files.OpenFiles": "OldOpenFiles",
    "_opening.Opened": "FileSet",
    "_records.Records": "ArrayRecordReader",
    "reading.record_reader.RecordReader": "ArrayRecordReader",
    "_source._Loop": "_LoopState",
}
"""New names of classes that pickles of version 0.1.0 name."""

forward_modules(
    {f"{__name__}.{old}": home for old, home in _MOVED.items()},
    {f"{__name__}.{old}": new for old, new in _RENAMED.items()},
)
