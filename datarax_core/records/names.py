r"""Dotted names of nested fields: ``pose.left`` is ``left`` in the dict ``pose``, ``pose\.left`` one name with a dot.

A dot inside a name is written ``\.``, in everything that prints or reads dotted names. Backslashes before a dot, or at the end
of a name, are doubled; all others stand for themselves, so that a name without dots is its own dotted name.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

DOTTED_PATTERN: Final = r"^([^.\\]|\\.)+(\.([^.\\]|\\.)+)*$"
"""Regular expression of dotted names: text on both sides of each dot."""

_BEFORE_DOT_OR_END: Final = re.compile(r"(\\*)(\.|$)")

_ESCAPED: Final = re.compile(r"(\\+)(\.|$)")


def dotted_name(names: Iterable[Any]) -> str:
    r"""Return the dotted name of a field from the names on the way to it, outermost first: ``("a", "b.c")`` is ``a.b\.c``."""
    return ".".join(map(_escaped, names))


def split_name(dotted: str) -> tuple[str, ...]:
    r"""Return the names on the way to a field from its dotted name: ``a.b\.c`` is ``("a", "b.c")``."""
    if "\\" not in dotted:
        return tuple(dotted.split("."))
    steps, start = [], 0
    for found in _BEFORE_DOT_OR_END.finditer(dotted):
        if found[2] and len(found[1]) % 2 == 0:
            steps.append(dotted[start : found.start(2)])
            start = found.end()
    return tuple(map(_unescaped, [*steps, dotted[start:]]))


def plain_name(dotted: str) -> str:
    """Return a dotted name without its escapes, as people write the names of files and features that know no nesting."""
    return dotted if "\\" not in dotted else ".".join(split_name(dotted))


def _escaped(name: Any) -> str:
    text = str(name)
    if "." not in text and not text.endswith("\\"):
        return text
    return _BEFORE_DOT_OR_END.sub(lambda found: found[1] * 2 + ("\\." if found[2] else ""), text)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: "\\" * (len(found[1]) // 2) + found[2], text)
