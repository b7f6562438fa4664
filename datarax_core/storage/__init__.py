"""Bytes of files wherever they lie: on this machine, on mounts, and at addresses (``s3://``, ``gs://``, ``https://``).

`ranges` reads many ranges of many files at once; `stamp_of` says whether a file or an object is still the same; `Cache` keeps
what was fetched on a disk of this machine; `RemoteOptions` are the options of sources that read addresses. Of them a source
makes a `RangeReader`, by which it reads all its files; `ObjectFile` is for libraries that take file objects, not ranges. What
is special about stores of objects is here, so that sources name paths and read ranges, and know nothing else. Addresses are
read by fsspec, which is imported when the first one is read (``pip install 'datarax-core[remote]'``).

Imports `errors`, `background` and `config`; never JAX.
"""

from datarax_core.config.redaction import redacted

from .cache.cache import Cache, user_cache_folder
from .object_file import ObjectFile
from .options import ByteCount, RemoteOptions
from .range_reader import RangeReader
from .ranges import ranges
from .stores.objects import download
from .stores.stamps import Stamp, stamp_of, stamps_of

__all__ = [
    "ByteCount",
    "Cache",
    "ObjectFile",
    "RangeReader",
    "RemoteOptions",
    "Stamp",
    "download",
    "ranges",
    "redacted",
    "stamp_of",
    "stamps_of",
    "user_cache_folder",
]
