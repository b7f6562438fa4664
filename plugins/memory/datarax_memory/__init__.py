"""The in-memory source of datarax: dicts of arrays, lists of elements, ``.npz`` and ``.npy`` files.

`source` is the source, `records` makes columns of the data that it is given, and `files` maps or reads NumPy's files.
"""

from datarax_core.moved import forward_modules

from .config import MemorySourceConfig
from .source import MemorySource

__all__ = ["MemorySource", "MemorySourceConfig"]

forward_modules(  # for pickles of version 0.1.0
    {
        "datarax_memory._config": "datarax_memory.config",
        "datarax_memory._kept_batches": "datarax_memory.source",
        "datarax_memory._records": "datarax_memory.records",
        "datarax_memory._source": "datarax_memory.source",
    },
    renamed={"datarax_memory._source._HostOnly": "KeptWork"},
)
