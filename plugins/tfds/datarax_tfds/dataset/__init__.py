"""Prepared data sets on disk: their folders, their preparation, and the records and fields of a split.

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
