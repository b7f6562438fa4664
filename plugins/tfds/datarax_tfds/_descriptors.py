"""Open files of a table, for reads at any place by any number of threads; those unused for longest are closed."""

import os
import threading
from collections import OrderedDict
from typing import Any, Final

from ._file_table import FileTable, Stamp

_MAX_OPEN: Final = 256


class Descriptors:
    """Reads bytes of the files of a table, which are opened when they are first needed. Pickles without those."""

    def __init__(self, table: FileTable) -> None:
        self._table = table
        self._files: OrderedDict[str, _Descriptor] = OrderedDict()  # those used last at the end
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Descriptors, (self._table,)

    def read(self, part: int, begin: int, end: int) -> bytes:
        """The bytes ``begin .. end`` of the file of a part; fewer if it ends before.

        Raises:
            DataFileError: The file is not the one that it was.
        """
        return self._file(part).read(begin, end)

    def require_same(self, part: int) -> None:
        """Refuse the file of a part if it was written to since the table was made."""
        path = self._table.parts[part].path
        self._table.stamps[part].require_same(path, self._file(part).stamp())

    def close(self) -> None:
        """Close all files; those that are being read, when that is over."""
        with self._lock:
            self._files.clear()

    def _file(self, part: int) -> "_Descriptor":
        path = self._table.parts[part].path
        with self._lock:
            if path in self._files:
                self._files.move_to_end(path)
                return self._files[path]
        self._table.require_same(part)
        try:
            file = _Descriptor(path)
        except OSError:  # too many files are open, and these for nobody's use
            self.close()
            file = _Descriptor(path)
        self._table.stamps[part].require_same(path, file.stamp())
        with self._lock:
            self._files[path] = file
            if len(self._files) > _MAX_OPEN:
                self._files.popitem(last=False)
        return file


class _Descriptor:
    """An open file. It is closed when nobody refers to it any more, so that no thread reads by the number of another file."""

    def __init__(self, path: str) -> None:
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)

    def read(self, begin: int, end: int) -> bytes:
        return os.pread(self._number, end - begin, begin)

    def stamp(self) -> Stamp:
        return Stamp.of(self._number)
