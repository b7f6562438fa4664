"""Prepared data sets on disk: where they lie, how a missing one is prepared, and which records and fields a split has.

Imports `features`, `config`, `names`, `splits` and `backends`; reads no record.
"""

from .data_set import DataSet
from .folders import data_dirs, expected, find
from .prepare import prepare
from .served_fields import served_fields

__all__ = [
    "DataSet",
    "data_dirs",
    "expected",
    "find",
    "prepare",
    "served_fields",
]
