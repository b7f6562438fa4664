"""The quarantine file: records that cannot be read, a line of JSON each, for people and for sources to leave them out."""

import json
from collections.abc import Sequence
from pathlib import Path

from .errors import RecordError


def append_to_quarantine(path: str, errors: Sequence[RecordError]) -> None:
    """Add a line for each bad record that has none yet: ``{"file": ..., "record": ..., "cause": ...}``.

    ``record`` is the number in its file; of a source without files ``file`` is null, and ``record`` the record index.
    Several processes may do so at once.
    """
    try:
        known = set(Path(path).read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        known = set()
    lines = [line for line in dict.fromkeys(map(_line, errors)) if line not in known]
    if lines:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))  # one write: lines of several processes do not mix


def _line(error: RecordError) -> str:
    record = error.record if error.path is None else error.row
    return json.dumps({"file": error.path, "record": record, "cause": error.reason}, ensure_ascii=False)
