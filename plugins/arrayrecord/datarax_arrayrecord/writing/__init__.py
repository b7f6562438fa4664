"""Writing of data sets of ArrayRecord files, with the sidecar file that names their decoder.

Imports `decoders`, and the modules `config` and `sidecar` of the plugin.
"""

from .write import DEFAULT_COMPRESSION, write, write_data_set

__all__ = ["DEFAULT_COMPRESSION", "write", "write_data_set"]
