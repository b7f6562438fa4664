"""Records in files of any format: bad records and their substitutes, and records decoded as one batch.

What sources over files share; a format brings a reader of stored records. The files are those of `files`. Imports `registry`
and `sources`.
"""

from .bad_records import BadRecordPolicy, Substitutes, excluded_records
from .options import BadRecordOptions
from .read_back import changes_of, first_and_last
from .record_reader import ReadError, RecordReader
from .source import RecordFilesSource

__all__ = [
    "BadRecordOptions",
    "BadRecordPolicy",
    "ReadError",
    "RecordFilesSource",
    "RecordReader",
    "Substitutes",
    "changes_of",
    "excluded_records",
    "first_and_last",
]
