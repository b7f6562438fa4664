"""The quarantine file: records that cannot be read, a line of JSON each, for people and for sources to leave them out."""

import fcntl
import json
from collections.abc import Sequence
from pathlib import Path

from .errors import RecordError


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
