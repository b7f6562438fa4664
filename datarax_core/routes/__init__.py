"""Routes: how the records of a source become batches, one class for each way in which a source is reached.

`table` chooses the class by ``source.access``; a further way is one more module and one line there. Routes go by the
definition of a pipeline, and know no pipeline. Imports `stages`, `workers`, and the packages below them.
"""

from .base import Prepared, Route, Stats
from .definition import BatchRule, Definition
from .table import route_class, route_of

__all__ = [
    "BatchRule",
    "Definition",
    "Prepared",
    "Route",
    "Stats",
    "route_class",
    "route_of",
]
