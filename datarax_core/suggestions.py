"""Which known name may have been meant by one that is not known."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], *, count: int = 1) -> str:
    """``; did you mean 'train'?``, or nothing if no known name is close: for the middle or the end of a message."""
    close = difflib.get_close_matches(name, list(known), n=count)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
