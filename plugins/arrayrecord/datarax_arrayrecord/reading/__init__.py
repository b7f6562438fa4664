"""Reading of ArrayRecord files: open files, the order of files, records by index, and substitutes of bad records.

Imports `decoders`, and the modules `config` and `sidecar` of the plugin.
"""

from .file_order import FileOrder
from .file_set import FileSet, PathsLike, open_file_set
from .shards import FILES_AHEAD

__all__ = ["FILES_AHEAD", "FileOrder", "FileSet", "PathsLike", "open_file_set"]
