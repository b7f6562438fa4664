"""Routes: how the records of a source become batches, one class for each way in which a source is reached.

`table` chooses the class by ``source.access``; a further way is one more module and one line there.
"""

from .base import Prepared, Route
from .table import route_class

__all__ = [
    "Prepared",
    "Route",
    "route_class",
]
