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

from typing import TYPE_CHECKING

from datarax_core.faces import lazy_face

if TYPE_CHECKING:
    from datarax_core.storage.stores.stamps import Stamp as Stamp

    from .formats import format_clause as format_clause
    from .names import FileKind as FileKind
    from .names import is_of_kind as is_of_kind
    from .names import shard_path as shard_path
    from .names import without_shard as without_shard
    from .open_files import Closable as Closable
    from .open_files import OpenFiles as OpenFiles
    from .paths import LocalFilesOnlyMixin as LocalFilesOnlyMixin
    from .paths import data_files as data_files
    from .paths import is_remote as is_remote
    from .paths import not_on_this_machine as not_on_this_machine
    from .row_ways import RowWays as RowWays
    from .table import FileTable as FileTable
    from .table import require_file as require_file

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        ".storage.stores.stamps": ("Stamp",),
        "formats": ("format_clause",),
        "names": ("FileKind", "is_of_kind", "shard_path", "without_shard"),
        "open_files": ("Closable", "OpenFiles"),
        "paths": ("LocalFilesOnlyMixin", "data_files", "is_remote", "not_on_this_machine"),
        "row_ways": ("RowWays",),
        "table": ("FileTable", "require_file"),
    },
)
