"""Records that cannot be read or decoded: the policy for them, their substitutes, and the list of excluded records."""

import json
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from datarax_core.config.redaction import redacted
from datarax_core.errors import ConfigError, RecordError, is_passing
from datarax_core.files.paths import is_remote
from datarax_core.files.table import FileTable
from datarax_core.registry.sources import record_failed
from datarax_core.sources.source import DataSourceModule
from datarax_core.sources.verification import append_to_quarantine, require_quarantine
from datarax_core.storage.range_reader import RangeReader

_MOST_IN_A_ROW: Final = 1000
"""After so many bad records in a row the decoder must be the wrong one, and no more are tried."""


@dataclass(frozen=True, slots=True)
class BadRecordPolicy:
    """Policy for bad records: how many a source allows, and the file that it lists them in."""

    max_errors: int | float | None = None
    """Number of bad records, or a share of all records below 1; None allows any number."""

    quarantine: str | None = None
    """File that bad records are appended to; None warns of each instead."""

    def limit(self, records: int) -> int:
        """Return the number of bad records that are allowed of so many records."""
        if self.max_errors is None:
            return records
        share = self.max_errors
        return share if isinstance(share, int) else int(share * records + 1e-6)  # 0.29 * 100 is 28.999999999999996

    def require_folder(self) -> None:
        """Raise if the quarantine file cannot be written, when the source is built and not at its first bad record.

        Raises:
            OSError: Its folder does not exist, or it may not be written.
        """
        if self.quarantine is not None:
            require_quarantine(self.quarantine)


class Substitutes:
    """Bad records found so far, and the substitute of each: the next record that can be read and decoded.

    A substitute depends on the files alone, so that it is the same in every run, route and order. Any number of threads may use
    the object. Its pickle holds no findings.

    Args:
        policy: How many bad records are allowed, and where they are listed.
        length: Number of records of the source.
    """

    def __init__(self, policy: BadRecordPolicy, length: int) -> None:
        self._policy = policy
        self._length = length
        self._substitute_of: dict[int, int] = {}
        self._reported: set[tuple[str, int]] = set()
        self._lock = threading.RLock()  # reentrant: a hook may read other records

    def __getstate__(self) -> dict[str, Any]:
        return {"policy": self._policy, "length": self._length}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # the state is the constructor's arguments

    def applied(self, records: np.ndarray) -> np.ndarray:
        """Return ``records`` with the substitutes of those that are known to be bad, int64 (k,)."""
        if not self._substitute_of:
            return records
        substitute_of = self._substitute_of
        return np.asarray([substitute_of.get(record, record) for record in records.tolist()], np.int64)

    def find(self, record: int, read: Callable[[int], Any], source: DataSourceModule) -> tuple[int, Any]:
        """Return the first record from ``record`` on that ``read`` accepts, past the end from record 0, and its result.

        Args:
            record: Record index to begin with.
            read: Reads and decodes one record; raises RecordError for a bad one.
            source: The source, for the hooks that are called for each bad record.

        Raises:
            RecordError: There are more bad records than the policy allows, or no good ones; a record fails by trouble that may
                pass, see `is_passing`; or a hook raises it.
        """
        bad: list[int] = []
        cause: RecordError | None = None
        for ahead in range(self._length):
            candidate = (record + ahead) % self._length
            if candidate in self._substitute_of:  # so that a long run of bad records is read once
                continue
            try:
                found = read(candidate)
            except RecordError as error:
                if is_passing(error):  # it would be substituted in this process, and not in the next
                    raise
                self._report(error, source)
                bad.append(candidate)
                cause = error
                if len(bad) == _MOST_IN_A_ROW:
                    break
                continue
            with self._lock:
                self._substitute_of.update(dict.fromkeys(bad, candidate))
            return candidate, found
        raise RecordError(
            f"none of {len(bad)} records from record {record} on can be read: is it the right decoder? The last one: {cause}",
            record=record,
            reason="no record can be read",
        ) from cause

    def _report(self, error: RecordError, source: DataSourceModule) -> None:
        """Call the hooks for a bad record and list it, the first time that it is found."""
        key = (error.path or "", error.record if error.row is None else error.row)
        with self._lock:
            if key in self._reported:
                return
            found, limit = len(self._reported) + 1, self._policy.limit(self._length)
            if found > limit:  # not counted as reported, so that the next read raises again
                raise RecordError(
                    f"{error}; that is bad record number {found}, and max_errors={self._policy.max_errors} allows "
                    f"{limit} of {self._length}",
                    record=error.record,
                    reason=error.reason,
                    path=error.path,
                    row=error.row,
                ) from error
            self._reported.add(key)
            with ExitStack() as undo:
                undo.callback(self._reported.discard, key)  # a hook that raises is called again at the next read
                self._call_hooks_and_list(error, source)
                undo.pop_all()

    def _call_hooks_and_list(self, error: RecordError, source: DataSourceModule) -> None:
        record_failed(source, error.record, error)
        if self._policy.quarantine is None:
            warnings.warn(f"{error}; the next one is served in its place (on_error='substitute')", stacklevel=2)
        else:
            append_to_quarantine(self._policy.quarantine, [error])


def excluded_records(
    path: str, table: FileTable, other_files: Collection[str] = (), ranges: RangeReader | None = None
) -> np.ndarray:
    """Return the records that a quarantine file lists: int64 (k,), ascending, each once.

    A line of the file names a data file by its path; where the data was moved, its name alone is enough.

    Args:
        path: The quarantine file.
        table: Files of the source, or parts of them.
        other_files: Names of further files of the same data set, of which the table has a part; lines may name their records,
            and others that are not in the table.
        ranges: Reads a quarantine file at an address.

    Raises:
        FileNotFoundError: There is no quarantine file at ``path``.
        ConfigError: A line is not one of a quarantine file or names a record that its file does not have, or no line names a
            file of this source.
    """
    try:
        content = (ranges or RangeReader()).content(path) if is_remote(path) else Path(path).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no such file: {redacted(path)}; 'exclude' names a list that drx verify wrote"
        ) from error
    text = content.decode(errors="surrogateescape").replace("\r\n", "\n")
    path = redacted(path)
    # not splitlines(): paths may hold other line separators
    lines = text.removesuffix("\n").split("\n") if text else []
    parts_of = _parts_by_name(table)
    first_rows = table.ends - table.counts - table.offsets
    found, listed, is_known = set(), 0, False
    for place, name, row in _entries(lines, path):
        listed += 1
        parts = parts_of.get(name, parts_of.get(Path(name).name))
        if parts is None:
            is_known |= Path(name).name in other_files
            continue
        if not parts:
            raise ConfigError(
                f"{place}: {name} is no file of this source, and several of its files have that name; write the path of the "
                f"one that is meant, such as {table.paths[0]}"
            )
        records = [int(table.offsets[part]) + row for part in parts if 0 <= row - first_rows[part] < table.counts[part]]
        if not records and not other_files:
            raise ConfigError(f"{place}: {name} has {table.counts[parts[0]]} records, and none with the number {row}")
        found.update(records)
        is_known = True
    if listed and not is_known:
        raise ConfigError(f"{path}: none of its {listed} lines names a file of this source, such as {table.paths[0]}")
    return np.asarray(sorted(found), np.int64)


def _parts_by_name(table: FileTable) -> dict[str, list[int]]:
    """Return the parts of each file, by its path and by its name; none for a name that several files have."""
    by_path: dict[str, list[int]] = {}
    for part, path in enumerate(table.paths):
        by_path.setdefault(path, []).append(part)
    times = Counter(Path(path).name for path in by_path)
    by_name = {Path(path).name: parts if times[Path(path).name] == 1 else [] for path, parts in by_path.items()}
    return {**by_name, **by_path}


def _entries(lines: list[str], path: str) -> Iterator[tuple[str, str, int]]:
    """Yield the place of each line, for errors, with the file and the row that it names."""
    for number, line in enumerate(lines, 1):
        place = f"{path}: line {number}"
        try:
            entry = json.loads(line)
            name, row = entry["file"], entry["record"]
        except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(
                f'{place} is no line of a quarantine file: it lacks "file" and "record": {line!r:.80}'
            ) from error
        if name is None:
            continue  # lists a bad record of a source without files
        if not isinstance(name, str) or not isinstance(row, int) or isinstance(row, bool):
            raise ConfigError(f'{place}: "file" is text and "record" a number, not {name!r:.40} and {row!r:.40}')
        yield place, name, row
