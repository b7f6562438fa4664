"""Files at addresses, which array_record reads only from a disk: fetched whole into the cache, the next ones ahead of need."""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any, Final

from datarax_core.files import is_remote
from datarax_core.record_files import ReadError
from datarax_core.sources import FileTable, Stamp
from datarax_core.storage import RangeReader, redacted

from .reader import FileReader

_log = logging.getLogger("datarax_arrayrecord")

_AT_ONCE: Final = 4
"""Files that are fetched at once, each by several requests."""

FILES_AHEAD: Final = 2
"""Files that are fetched before they are needed, where an order reads file after file."""

Held = AbstractContextManager[str]


class ShardReader(FileReader):
    """Open file that was fetched from an address, which stays in the cache until this reader is closed.

    Args:
        address: The address of the file, for messages.
        held: The file on this machine.
        on_close: Called with the address when this reader is closed.
    """

    def __init__(self, address: str, held: Held, on_close: Callable[[str], None]) -> None:
        self._held, self._on_close = held, on_close
        self._local = held.__enter__()
        self._stamp = Stamp.of(self._local)
        super().__init__(address, self._local)

    def read(self, rows: list[int]) -> list[bytes]:
        """Return the records of these rows; see `FileReader.read`."""
        records = super().read(rows)
        with suppress(OSError):  # removed
            if Stamp.of(self._local) == self._stamp:
                return records
        raise ReplacedError("its file in the cache was written to or removed")

    def close(self) -> None:
        """Close the file, and let the cache remove it."""
        super().close()
        self._held.__exit__(None, None, None)
        self._on_close(self.path)


class ReplacedError(ReadError):
    """A file in the cache is not the one that was opened."""


class Shards:
    """Files of a table, opened where they lie, or in the cache. Picklable, without what is fetched.

    Args:
        table: The files.
        ranges: Fetches those at addresses.
    """

    def __init__(self, table: FileTable, ranges: RangeReader) -> None:
        self._table, self._ranges = table, ranges
        self._stamps = {
            path: stamp for path, stamp in zip(table.paths, table.stamps, strict=True) if stamp and is_remote(path)
        }
        self.has_addresses = bool(self._stamps)
        self.make_room: Callable[[], None] | None = None
        """Closes files that are open and not in use."""
        self._lock = threading.Lock()
        self._coming: dict[str, Future[Held]] = {}
        self._queue: deque[str] = deque()
        self._workers = 0
        self._next: list[str] = []
        self._all_at_once = False
        self._seen: set[str] = set()
        self._open: Counter[str] = Counter()
        self._sound: dict[str, Stamp] = {}
        self._kept_open: list[Held] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Shards, (self._table, self._ranges)

    def open(self, path: str) -> FileReader:
        """Return the open file; of an address, once it is on this machine."""
        if path not in self._stamps:
            return FileReader(path)
        held = self._held(path)
        with self._lock:
            self._open[path] += 1
        with ExitStack() as left_again:
            left_again.callback(self._closed, path)
            left_again.callback(held.__exit__, None, None, None)
            reader = ShardReader(path, held, self._closed)
            left_again.pop_all()  # it is open: whoever closes the reader leaves the file
        return reader

    def prepare(self, parts: Iterable[int]) -> None:
        """Begin to fetch the files that are going to be read, all at once, and those that the order reads next."""
        paths = [path for part in parts if (path := self._table.paths[part]) in self._stamps]
        with self._lock:
            new = [path for path in paths if not self._open[path]]
            self._seen.update(paths)
            self._begin(new, is_needed=True)
            ahead = self._to_fetch_ahead(paths)
            self._begin(ahead, is_needed=False)
        if len(new) > 1:
            size = sum(self._stamps[path].size for path in new)
            _log.info("fetching %d files, %.1f MB, of which %s is one", len(new), size / 1e6, redacted(new[0]))

    def expect(self, parts: Sequence[int], *, all_at_once: bool) -> None:
        """Note the files that the order reads next.

        Args:
            parts: Parts of the table, those needed first at the beginning.
            all_at_once: Whether records of all of them are read in turn, not file after file.
        """
        with self._lock:
            self._next = [path for part in parts if (path := self._table.paths[part]) in self._stamps]
            self._all_at_once = all_at_once
            for path in [path for path in self._coming if path not in self._next]:
                if path not in self._seen:  # the order was left
                    self._forget(path)

    def is_stale(self, part: int, error: Exception) -> bool:
        """Return whether a file could not be read since its copy in the cache is damaged, which is then fetched anew."""
        path = self._table.paths[part]
        if path not in self._stamps:
            return False
        if isinstance(error, ReplacedError):
            return True
        assert self._ranges.cache is not None  # noqa: S101 - there is one for addresses
        if self._sound.get(path) == self._stamps[path]:
            return False
        if self._ranges.cache.is_damaged(path, self._stamps[path]):
            _log.warning("%s is damaged in the cache, and fetched again", redacted(path))
            return True
        self._sound[path] = self._stamps[path]
        return False

    def all_on_this_machine(self) -> list[str]:
        """Return paths of this machine of all files, which stay in the cache as long as this object is used."""
        self.prepare(range(len(self._table.paths)))
        paths = []
        for path in self._table.paths:
            if path in self._stamps:
                self._kept_open.append(self._held(path))
                paths.append(self._kept_open[-1].__enter__())
            else:
                paths.append(path)
        return paths

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _closed(self, path: str) -> None:
        with self._lock:
            self._open[path] -= 1

    def _to_fetch_ahead(self, paths: Sequence[str]) -> list[str]:
        """Return files that the order reads after these, as far as the limit of the cache allows."""
        if not paths:
            return []
        places = [place for place, path in enumerate(self._next) if path in paths]
        if self._all_at_once:
            ahead = self._next
        elif places:
            before = self._next[: max(places)]
            first = next((place for place, path in enumerate(before) if path in self._seen), len(before))
            # other processes read what this one leaves out, and this one leaves out the next ones, too
            is_all_read = all(path in self._seen for path in before[first:])
            ahead = self._next[max(places) + 1 :][:FILES_AHEAD] if is_all_read else []
        else:
            ahead = []
        cache = self._ranges.cache
        room = float("inf") if cache is None or cache.limit is None else cache.limit / 2
        found = []
        for path in ahead:
            room -= self._stamps[path].size
            if room < 0:
                break
            if path not in self._seen:
                found.append(path)
        return found

    def _begin(self, paths: Sequence[str], *, is_needed: bool) -> None:
        """Begin to fetch files; those that are needed come before those that are not yet."""
        for path in reversed(paths) if is_needed else paths:
            if path not in self._coming:
                self._coming[path] = Future()
            elif not (is_needed and path in self._queue):
                continue
            else:
                self._queue.remove(path)
            if is_needed:
                self._queue.appendleft(path)
            else:
                self._queue.append(path)
        while self._workers < min(_AT_ONCE, len(self._queue)):
            self._workers += 1
            threading.Thread(target=self._work, name="datarax-shards", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._workers -= 1
                    return
                path = self._queue.popleft()
                future = self._coming.get(path)
            if future is None or not future.set_running_or_notify_cancel():
                continue
            try:
                held = self._fetched(path)
            except BaseException as error:  # noqa: BLE001 - raised where the file is opened
                future.set_exception(error)
            else:
                future.set_result(held)

    def _held(self, path: str) -> Held:
        """Return a file on this machine, fetched before or now."""
        with self._lock:
            future = self._coming.pop(path, None)
            if future is not None and path in self._queue:  # nobody has begun
                self._queue.remove(path)
                future = None
        if future is not None:
            with suppress(OSError):  # it may have failed long ago
                return future.result()
        return self._fetched(path)

    def _fetched(self, path: str) -> Held:
        return self._ranges.file(path, self._stamps[path], verify=False, make_room=self.make_room)

    def _forget(self, path: str) -> None:
        """Let go of a file that was fetched ahead."""
        future = self._coming.pop(path)
        if path in self._queue:
            self._queue.remove(path)
        else:
            future.add_done_callback(_let_go)


def _let_go(future: "Future[Held]") -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().__exit__(None, None, None)
