"""Questions to installed plugins whether they open a file, in a process of their own that may hang or crash."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from datarax_core._cli.trials.process import TrialProcess

from . import ask

SECONDS: Final = 20.0
"""How long the import of a source and its answer may take."""


class Answer(NamedTuple):
    """Answer of a source: fields of a config that opens the file, or None; ``error`` says why there is no answer."""

    name: str
    fields: dict[str, Any] | None = None
    error: str = ""


def answers(path: str, names: Sequence[str], *, timeout: float = SECONDS) -> list[Answer]:
    """Return the answer of each source, in the order of ``names``. One process asks all, unless one hangs or ends it.

    Args:
        path: The file or folder.
        names: Names of installed sources.
        timeout: Seconds that each may take.
    """
    found: dict[str, Answer] = {}
    waiting = list(names)
    while waiting:
        asked = waiting[0]
        with TrialProcess(ask.__name__, [path, *waiting], prefix="drx-guess-") as process:
            for result in process.results(timeout):
                if "asking" in result:
                    asked = result["asking"]
                elif "name" in result:
                    found[asked] = Answer(asked, result.get("fields"), result.get("error", ""))
            if asked not in found:
                code = process.exit_code
                ending = f"gave no answer within {timeout:g} s" if code is None else f"ended the process ({code})"
                found[asked] = Answer(asked, error=f"{ending}{process.last_words()}")
        waiting = [name for name in waiting if name not in found]
    return [found[name] for name in names]
