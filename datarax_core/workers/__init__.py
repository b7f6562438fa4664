"""Worker processes that read a source's records for a pipeline.

Batches come back through shared memory. Imports `sources` and the packages below it.
"""

from .pool import Workers

__all__ = [
    "Workers",
]
