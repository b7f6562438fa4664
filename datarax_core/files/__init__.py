"""Files of a source: their paths, the table of their records, the pool of those that are open, and names of foreign formats.

A source over files of any format needs three answers, and `FileTable` and `OpenFiles` give them: which file holds a record, is
the file still the one whose records were counted, and which files are open. A format brings two things of its own: a count of
the records of a file, and an object that reads rows of an open file::

    paths = ["train-0.rows", "train-1.rows"]
    stamps = [require_file(path) for path in paths]
    table = FileTable.of(paths, [stamp.size // ROW_BYTES for stamp in stamps], stamps)
    files = OpenFiles(table, RowReader)  # a class with `read(rows)` and `close()`

    def read(records: np.ndarray) -> list[bytes]:
        return table.read_by_part(records, lambda part, rows: files.use(part, lambda reader: reader.read(rows)))

Imports `errors`, `background`, `config` and `storage`.
"""

from datarax_core.storage.stamps import Stamp

from .formats import format_clause
from .names import FileKind, shard_path, without_shard
from .open_files import Closable, OpenFiles
from .paths import LocalFilesOnlyMixin, data_files, is_remote, not_on_this_machine
from .row_ways import RowWays
from .table import FileTable, require_file

__all__ = [
    "Closable",
    "FileKind",
    "FileTable",
    "LocalFilesOnlyMixin",
    "OpenFiles",
    "RowWays",
    "Stamp",
    "data_files",
    "format_clause",
    "is_remote",
    "not_on_this_machine",
    "require_file",
    "shard_path",
    "without_shard",
]
