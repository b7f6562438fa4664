"""Readers of files, opened when they are first needed, lent to one thread at a time, and closed when too many are open."""

import os
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from ._files import FileTable
from ._reader import FileReader


class OpenFiles:
    """Reads rows of files, from any number of threads.

    Args:
        table: The files.
        limit: How many readers stay open when nobody reads; those unused for longest are closed. One holds the index of its
            file, some 8 bytes a record, and a descriptor.
    """

    def __init__(self, table: FileTable, limit: int) -> None:
        self.table = table
        self.limit = limit
        self._idle: OrderedDict[int, list[FileReader]] = OrderedDict()  # by file, those used last at the end
        self._num_idle = 0
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"table": self.table, "limit": self.limit}  # whoever gets the pickle opens the files anew

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # as it was made

    def read(self, file: int, rows: np.ndarray) -> list[bytes]:
        """The records in these rows of a file, in their order.

        Raises:
            ReadError: One of them cannot be read.
            DataFileError: The file is not the one that it was.
            RuntimeError: This process is a fork of the one that the source was built in.
        """
        self.require_own_process()
        reader = self._take(file)
        try:
            records = reader.read(rows)
        except BaseException:  # an interrupted reader, too, may stand anywhere
            reader.close()
            self.table.require_unchanged(file)  # if it changed, that is what went wrong
            raise
        self.table.require_unchanged(file)
        self._give_back(file, reader)
        return records

    def close(self) -> None:
        """Close all readers that nobody uses; they are opened again when they are needed."""
        with self._lock:
            readers = [reader for of_one in self._idle.values() for reader in of_one]
            self._idle.clear()
            self._num_idle = 0
        for reader in readers:
            reader.close()

    def require_own_process(self) -> None:
        """Refuse to read in a forked child: the reader's C++ threads are not there, and it would wait for them for ever."""
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this source was built in process {self._process} and is used in a fork of it, {os.getpid()}, where its "
                "files' readers hang; start processes by 'spawn' or 'forkserver' (of a PyTorch DataLoader: "
                "multiprocessing_context='spawn'), or build the source in the child"
            )

    def _take(self, file: int) -> FileReader:
        with self._lock:
            if readers := self._idle.pop(file, None):
                reader = readers.pop()
                self._num_idle -= 1
                if readers:  # several threads read this file at once
                    self._idle[file] = readers
                return reader
        self.table.require_unchanged(file)
        try:
            return FileReader(self.table.paths[file])
        except OSError:  # too many files are open, and these for nobody's use
            self.close()
            return FileReader(self.table.paths[file])

    def _give_back(self, file: int, reader: FileReader) -> None:
        unused = None
        with self._lock:
            self._idle.setdefault(file, []).append(reader)
            self._idle.move_to_end(file)
            self._num_idle += 1
            if self._num_idle > self.limit:
                oldest, readers = next(iter(self._idle.items()))
                unused = readers.pop()
                self._num_idle -= 1
                if not readers:
                    del self._idle[oldest]
        if unused is not None:
            unused.close()
