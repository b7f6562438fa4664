"""The in-memory source of datarax: dicts of arrays, lists of elements, ``.npz`` and ``.npy`` files."""

from ._config import MemorySourceConfig
from ._source import MemorySource

__all__ = ["MemorySource", "MemorySourceConfig"]
