"""ArrayRecord source of datarax: random access to records in ArrayRecord files, decoded in whole batches.

`config` declares what can be set, `paths` finds files, `sidecar` notes how they are decoded, `source` is the source. Packages:
`reading` (records of files), `writing` (new files) and `decoders` (bytes of records to arrays, and back). Imports core through
the faces of its packages only.
"""

from datarax_core.moved import forward_modules

from .config import ArrayRecordSourceConfig
from .source import ArrayRecordSourceModule
from .writing import write

__all__ = ["ArrayRecordSourceConfig", "ArrayRecordSourceModule", "write"]

_DECODERS = ("array", "example", "msgpack", "named_values", "npz", "raw")

forward_modules(
    {  # version 0.1.0 had these modules, which pickled configs name
        f"{__name__}._config": f"{__name__}.config",
        **{f"{__name__}.decoders._{name}": f"{__name__}.decoders.{name}" for name in _DECODERS},
    }
)
