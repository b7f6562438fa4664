"""Reading records for no other reason than to see whether they can be read, and the list of those that cannot."""

import fcntl
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datarax_core.errors import DataFileError, RecordError
from datarax_core.records.spec import nbytes_of


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of it."""

    records: int
    """How many were read, or tried."""

    nbytes: int
    """Bytes of those that can be read, as they are served."""

    errors: tuple[RecordError, ...] = ()
    """One for each record that cannot be read."""

    def __add__(self, other: "Verified") -> "Verified":
        return Verified(self.records + other.records, self.nbytes + other.nbytes, self.errors + other.errors)


def verified(read: Callable[[np.ndarray], Any], indices: np.ndarray, title: str) -> Verified:
    """Read the records at ``indices``, in ever smaller parts where that fails, until it is known which ones are to blame.

    Cost: one call of ``read`` where all can be read; ``2 log2(k)`` more for each of ``k`` records that cannot.

    Raises:
        DataFileError: It is a whole file that cannot be read.
    """
    try:
        batch = read(indices)
    except DataFileError:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary to sources of others, which fail in any way they like
        if len(indices) == 1:
            return Verified(1, 0, (_record_error(error, int(indices[0]), title),))
        half = len(indices) // 2
        return verified(read, indices[:half], title) + verified(read, indices[half:], title)
    return Verified(len(indices), nbytes_of(batch))


def reason_of(error: Exception) -> str:
    """The cause in words, as reports of bad records have it."""
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _record_error(error: Exception, record: int, title: str) -> RecordError:
    if isinstance(error, RecordError):
        return error
    reason = reason_of(error)
    found = RecordError(f"record {record} of {title} cannot be read: {reason}", record=record, reason=reason)
    found.__cause__ = error
    return found


def append_to_quarantine(path: str, errors: Sequence[RecordError]) -> None:
    """Add a line for each bad record that has none yet: ``{"file": ..., "record": ..., "cause": ...}``.

    ``record`` is the number in its file; of a source without files ``file`` is null, and ``record`` the record index.
    Several processes may do so at once.
    """
    if not errors:
        return  # and no file where there was none
    with Path(path).open("a+", encoding="utf-8", errors="surrogateescape") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
        file.seek(0)
        text = file.read()
        known = f"\n{text}"
        lines = {_beginning(error): _line(error) for error in errors}
        new = [line for beginning, line in lines.items() if f"\n{beginning}" not in known]
        if new:
            cut_off = "" if text.endswith("\n") or not text else "\n"  # by a process that died as it wrote
            file.write(cut_off + "".join(f"{line}\n" for line in new))


def _line(error: RecordError) -> str:
    return json.dumps({**_place(error), "cause": error.reason}, ensure_ascii=False)


def _beginning(error: RecordError) -> str:
    """How the line of a record begins, whatever the cause."""
    return json.dumps(_place(error), ensure_ascii=False).removesuffix("}") + ", "


def _place(error: RecordError) -> dict[str, str | int | None]:
    return {"file": error.path, "record": error.record if error.path is None else error.row}
