"""Records in files of any format: paths to files, bad records and their substitutes, and records decoded as one batch.

What sources over files share; a format brings its suffixes and a reader of stored records. Imports `registry` and `sources`.
"""

from .bad_records import BadRecordPolicy, Substitutes, excluded_records
from .formats import format_clause
from .options import BadRecordOptions
from .paths import FileKind, data_files, is_remote, shard_path, without_shard
from .read_back import changes_of, first_and_last
from .record_reader import ReadError, RecordReader

__all__ = [
    "BadRecordOptions",
    "BadRecordPolicy",
    "FileKind",
    "ReadError",
    "RecordReader",
    "Substitutes",
    "changes_of",
    "data_files",
    "excluded_records",
    "first_and_last",
    "format_clause",
    "is_remote",
    "shard_path",
    "without_shard",
]
