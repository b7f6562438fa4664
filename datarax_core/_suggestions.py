"""Names that may be meant by one that is unknown."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: ``; did you mean 'image'?``, or nothing if none is like it."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
