"""Damage of installed metadata: it hides plugins without a word, or stops libraries that look for theirs."""

import difflib
from collections.abc import Iterable, Iterator
from importlib import metadata

from datarax_core.config.pydantic_scan import place_of, unreadable

from .discovery import GROUPS
from .distributions import by_folder, canonical_name, is_bare, read_text

_BOM = "\ufeff"


def damages(distributions: Iterable[metadata.Distribution]) -> list[str]:
    """Return a sentence for each damage, with its remedy."""
    distributions = list(distributions)
    texts = [_of_text(dist) for dist in distributions]
    return [*unreadable(distributions), *_hidden(distributions), *(sentence for found in texts for sentence in found)]


def _hidden(distributions: Iterable[metadata.Distribution]) -> Iterator[str]:
    """Yield a sentence for each folder without metadata that stands before a distribution of the same name."""
    empty: dict[str, metadata.Distribution] = {}
    for dist in distributions:
        name = canonical_name(by_folder(dist)[0])
        if is_bare(dist):
            empty.setdefault(name, dist)
        elif name in empty:
            yield f"{place_of(empty.pop(name))} is empty, and hides {place_of(dist)} from Python; remove the empty folder"


def _of_text(dist: metadata.Distribution) -> Iterator[str]:
    """Yield the damage of an ``entry_points.txt`` that can be read."""
    try:
        text = read_text(dist, "entry_points.txt") or ""
    except ValueError:  # reported by `unreadable`
        return
    name = by_folder(dist)[0]
    if text.startswith(_BOM):
        yield (
            f"{place_of(dist)}/entry_points.txt begins with a byte order mark, which hides its first group from Python; "
            f"save it as UTF-8 without one, or install {name} again"
        )
    for line in map(str.strip, text.removeprefix(_BOM).splitlines()):
        group = line.removeprefix("[").removesuffix("]")
        if line != f"[{group}]" or group in GROUPS:
            continue
        plain = group.lower().replace("_", ".").replace("-", ".")
        close = difflib.get_close_matches(plain, GROUPS, n=1, cutoff=0.85)
        if close or plain.startswith("datarax."):
            hint = f"; did you mean {close[0]!r}?" if close else f" (groups: {', '.join(GROUPS)})"
            yield f"{name} has entry points in the group {group!r}, which nothing reads{hint}"
