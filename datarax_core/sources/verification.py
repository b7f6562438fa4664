"""Checks that records can be read, and the quarantine file that lists the records that cannot."""

import fcntl
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datarax_core.errors import DataFileError, RecordError, is_passing, reason_of
from datarax_core.records.narrowed import NarrowedField, merged_reports, narrowed_fields
from datarax_core.records.spec import nbytes_of


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of a check."""

    records: int
    """Number of records that were checked."""

    nbytes: int
    """Bytes of the readable records, as they are served."""

    errors: tuple[RecordError, ...] = ()
    """One error for each record that cannot be read."""

    narrowed: Mapping[str, NarrowedField] = field(default_factory=dict, compare=False)
    """The 64-bit fields that a device keeps in 32 bits, by dotted name, and by how much."""

    def __add__(self, other: "Verified") -> "Verified":
        return Verified(
            self.records + other.records,
            self.nbytes + other.nbytes,
            self.errors + other.errors,
            merged_reports(self.narrowed, other.narrowed),
        )


def verified(read: Callable[[np.ndarray], Any], indices: np.ndarray, title: str) -> Verified:
    """Read the records at ``indices``; where that fails, read halves until every unreadable record is found.

    Cost: one call of ``read`` if all records are readable, and about ``2 log2(k)`` more calls for each unreadable record
    among ``k``.

    Raises:
        DataFileError: A whole file cannot be read.
        Exception: What failed is not the record, see `is_passing`.
    """
    try:
        batch = read(indices)
    except DataFileError:
        raise
    except Exception as error:
        if len(indices) == 1:
            if is_passing(error):
                raise
            return Verified(1, 0, (_record_error(error, int(indices[0]), title),))
        half = len(indices) // 2
        return verified(read, indices[:half], title) + verified(read, indices[half:], title)
    return Verified(len(indices), nbytes_of(batch), narrowed=narrowed_fields(batch, indices))


def _record_error(error: Exception, record: int, title: str) -> RecordError:
    if isinstance(error, RecordError):
        return error
    reason = reason_of(error)
    found = RecordError(f"record {record} of {title} cannot be read: {reason}", record=record, reason=reason)
    found.__cause__ = error
    return found


def require_quarantine(path: str) -> None:
    """Raise if a quarantine file cannot be written; to be called before there is anything to write.

    Raises:
        FileNotFoundError: Its folder does not exist.
        IsADirectoryError: It is a folder.
        PermissionError: File or folder may not be written to.
    """
    file, folder = Path(path), Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}; 'quarantine' names a file to write in it, so make it first")
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; 'quarantine' names a file, such as {file / 'bad.jsonl'}")
    unwritable = file if file.exists() else folder
    needed = os.R_OK | os.W_OK | (0 if file.exists() else os.X_OK)
    if not os.access(unwritable, needed):
        raise PermissionError(
            f"cannot write to {unwritable}: 'quarantine' names a file that bad records are listed in; make it writable for "
            "this user, or name another file"
        )


def append_to_quarantine(path: str, errors: Sequence[RecordError]) -> None:
    """Append a line for each bad record that is not in the file yet: ``{"file": ..., "record": ..., "cause": ...}``.

    ``record`` is the row of the record in its file; for a source without files, ``file`` is null and ``record`` is the record
    index. Several processes may append to one file.
    """
    if not errors:
        return  # without creating the file
    with Path(path).open("a+", encoding="utf-8", errors="surrogateescape") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        file.seek(0)
        text = file.read()
        known = f"\n{text}"
        lines = {_beginning(error): _line(error) for error in errors}
        new = [line for beginning, line in lines.items() if f"\n{beginning}" not in known]
        if new:
            cut_off = "" if text.endswith("\n") or not text else "\n"  # a process died while it wrote a line
            file.write(cut_off + "".join(f"{line}\n" for line in new))


def _line(error: RecordError) -> str:
    return json.dumps({**_place(error), "cause": error.reason}, ensure_ascii=False)


def _beginning(error: RecordError) -> str:
    """Return the beginning of the line of a record, which does not depend on the cause."""
    return json.dumps(_place(error), ensure_ascii=False).removesuffix("}") + ", "


def _place(error: RecordError) -> dict[str, str | int | None]:
    return {"file": error.path, "record": error.record if error.path is None else error.row}
