"""Records that cannot be read or decoded: the list of them on disk, and what is served in their place."""

import json
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from datarax_core.errors import ConfigError, RecordError
from datarax_core.registry import record_failed
from datarax_core.sources import DataSourceModule, FileTable, append_to_quarantine

_SEVERAL: Final = -1
_IN_A_ROW: Final = 1000
"""Bad records one after the other that no file has, unless it is read with the wrong decoder."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How many bad records a source puts up with, and where it lists them; see `ArrayRecordSourceConfig`."""

    max_errors: int | float | None = None
    quarantine: str | None = None

    def limit(self, records: int) -> int:
        """The number of bad records that are put up with, of so many."""
        if self.max_errors is None:
            return records
        share = self.max_errors
        return share if isinstance(share, int) else int(share * records + 1e-6)  # 0.29 * 100 is 28.999999999999996

    def require_place(self) -> None:
        """Refuse a quarantine file that cannot be written, before the first bad record does.

        Raises:
            FileNotFoundError: Its folder does not exist.
        """
        if self.quarantine is not None and not Path(self.quarantine).parent.is_dir():
            folder = Path(self.quarantine).parent
            raise FileNotFoundError(
                f"no such folder: {folder}; 'quarantine' names a file to write in it, so make it first"
            )


class Substitutes:
    """Bad records that were found, and for each the next one that can be read, which is served in its place.

    Which record that is depends on the files alone: the same in every run, route and order.
    """

    def __init__(self, policy: Policy, length: int) -> None:
        self._policy = policy
        self._length = length
        self._instead: dict[int, int] = {}
        self._noted: set[tuple[str, int]] = set()
        self._lock = threading.RLock()  # a hook may read other records

    def __getstate__(self) -> dict[str, Any]:
        return {"policy": self._policy, "length": self._length}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # as it was made

    def applied(self, records: np.ndarray) -> np.ndarray:
        """The records to read for ``records``: themselves, but those known to be bad."""
        if not self._instead:
            return records
        instead = self._instead
        return np.asarray([instead.get(record, record) for record in records.tolist()], np.int64)

    def find(self, record: int, read: Callable[[int], Any], source: DataSourceModule) -> tuple[int, Any]:
        """(the first record from ``record`` on that can be read, around the end if need be; what ``read`` gives of it).

        Raises:
            RecordError: There are more bad records than the policy puts up with, or no other kind; or a hook says so.
        """
        bad: list[int] = []
        cause: RecordError | None = None
        for ahead in range(self._length):
            candidate = (record + ahead) % self._length
            if candidate in self._instead:  # a long stretch of bad ones is walked once
                continue
            try:
                found = read(candidate)
            except RecordError as error:
                self._note(error, source)
                bad.append(candidate)
                cause = error
                if len(bad) == _IN_A_ROW:
                    break
                continue
            with self._lock:
                self._instead.update(dict.fromkeys(bad, candidate))
            return candidate, found
        raise RecordError(
            f"none of {len(bad)} records from record {record} on can be read: is it the right decoder? The last one: {cause}",
            record=record,
            reason="no record can be read",
        ) from cause

    def _note(self, error: RecordError, source: DataSourceModule) -> None:
        """Take note of a bad record, and tell the hooks, if it is the first time that it is met."""
        key = (error.path or "", error.record if error.row is None else error.row)
        with self._lock:
            if key in self._noted:
                return
            found, limit = len(self._noted) + 1, self._policy.limit(self._length)
            if found > limit:  # it is not noted, so that it is too many again the next time
                raise RecordError(
                    f"{error}; that is bad record number {found}, and max_errors={self._policy.max_errors} puts up with "
                    f"{limit} of {self._length}",
                    record=error.record,
                    reason=error.reason,
                    path=error.path,
                    row=error.row,
                ) from error
            self._noted.add(key)
            with ExitStack() as undo:
                undo.callback(self._noted.discard, key)  # likewise, if a hook objects
                self._tell(error, source)
                undo.pop_all()

    def _tell(self, error: RecordError, source: DataSourceModule) -> None:
        record_failed(source, error.record, error)
        if self._policy.quarantine is None:
            warnings.warn(f"{error}; the next one is served in its place (on_error='substitute')", stacklevel=2)
        else:
            append_to_quarantine(self._policy.quarantine, [error])


def excluded_records(path: str, table: FileTable) -> np.ndarray:
    """int64 (k,): the records that a quarantine file lists, ascending, each once.

    Files are told by their path or, where data was moved, by their name.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: A line of it is no line of a quarantine file, names a record that its file does not have, or none of its
            lines names a file of this source.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no such file: {path}; 'exclude' names a list that drx verify wrote") from error
    lines = text.removesuffix("\n").split("\n") if text else []  # paths may hold other ends of lines
    numbers = _numbers_of(table)
    found, listed = set(), 0
    for place, name, row in _entries(lines, path):
        listed += 1
        file = numbers.get(name, numbers.get(Path(name).name))
        if file is None:
            continue
        if file == _SEVERAL:
            raise ConfigError(
                f"{place}: {name} is no file of this source, and several of its files have that name; write the path of the "
                f"one that is meant, such as {table.paths[0]}"
            )
        if not 0 <= row < table.counts[file]:
            raise ConfigError(f"{place}: {name} has {table.counts[file]} records, and none with the number {row}")
        found.add(int(table.offsets[file]) + row)
    if listed and not found:
        raise ConfigError(f"{path}: none of its {listed} lines names a file of this source, such as {table.paths[0]}")
    return np.asarray(sorted(found), np.int64)


def _numbers_of(table: FileTable) -> dict[str, int]:
    names = [Path(path).name for path in table.paths]
    times = Counter(names)
    by_name = {name: number if times[name] == 1 else _SEVERAL for number, name in enumerate(names)}
    return {**by_name, **{path: number for number, path in enumerate(table.paths)}}


def _entries(lines: list[str], path: str) -> Iterator[tuple[str, str, int]]:
    for number, line in enumerate(lines, 1):
        place = f"{path}: line {number}"
        try:
            entry = json.loads(line)
            name, row = entry["file"], entry["record"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ConfigError(
                f'{place} is no line of a quarantine file: it lacks "file" and "record": {line!r:.80}'
            ) from error
        if name is None:
            continue  # a bad record of a source without files
        if not isinstance(name, str) or not isinstance(row, int) or isinstance(row, bool):
            raise ConfigError(f'{place}: "file" is text and "record" a number, not {name!r:.40} and {row!r:.40}')
        yield place, name, row
