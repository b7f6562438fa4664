"""Lines of the values in a config file, looked up when a mistake has to be reported at its place."""

import itertools
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from datarax_core.errors import Problem

Location = tuple[int | str, ...]
"""Keys of mappings and numbers of list items, from the outermost to the innermost."""

_BLANK: Final = " \t\n\r"


@dataclass(slots=True)
class ValueLine:
    """Line of a value in a file: the line of its key, or of the list item itself; and the lines of the values inside it.

    Attributes:
        line: Counted from 1.
        look: Finds the lines of the values inside, when they are first asked for; None if they are in ``known``.
        known: Lines of the values inside, by key, or by number as text.
    """

    line: int
    look: Callable[[], dict[str, "ValueLine"]] | None = None
    known: dict[str, "ValueLine"] = field(default_factory=dict)

    def inner(self) -> dict[str, "ValueLine"]:
        """Return the lines of the values inside, by key, or by number as text."""
        if self.look is not None:
            self.known, self.look = self.look(), None
        return self.known

    def at(self, location: Location) -> "ValueLine":
        """Return the line of the value at ``location``, or of the innermost value around it that the file has."""
        found = self
        for part in location:
            if (inner := found.inner().get(str(part))) is None:
                break
            found = inner
        return found


@dataclass(frozen=True, slots=True)
class Origin:
    """Origin of a config: the name of its file, for messages, and the lines of its values if it has a file."""

    name: str = "config"
    top: ValueLine | None = None

    def problem(self, location: Location, message: str) -> Problem:
        """Return a problem with the value at ``location``."""
        line = None if self.top is None else self.top.at(location).line
        return Problem(file=self.name, line=line, place=dotted(location), message=message)

    def __reduce__(self) -> tuple[type["Origin"], tuple[str]]:
        return Origin, (self.name,)  # lines are not pickled: they hold the text of the file


def dotted(location: Location) -> str:
    """Return a location as messages show it: ``source.sources[1].paths``; keys that are no plain names are quoted."""

    def step(part: int | str) -> str:
        if isinstance(part, int):
            return f"[{part}]"
        return f".{part}" if part.replace("-", "_").isidentifier() else f"[{part!r}]"

    return "".join(map(step, location)).removeprefix(".")


# -- YAML ------------------------------------------------------------------------------------------------------------------


def in_yaml(node: Any, line: int = 1) -> ValueLine:
    """Return the lines of a YAML node whose merges are resolved; ``line`` is the line of the node itself."""
    if node.id == "mapping":
        return ValueLine(line, lambda: {k.value: in_yaml(v, _line(k)) for k, v in node.value if k.id == "scalar"})
    if node.id == "sequence":
        return ValueLine(line, lambda: {str(number): in_yaml(v, _line(v)) for number, v in enumerate(node.value)})
    return ValueLine(line)


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


# -- JSON ------------------------------------------------------------------------------------------------------------------


class _Member(NamedTuple):
    """A member of an object, or an item of a list: its key or number, and where it and its value begin in the text."""

    name: str
    begins: int
    value: int


def in_json(text: str, value: int = 0, begins: int = 0) -> ValueLine:
    """Return the lines of the value that begins at the character ``value`` of a JSON text; its key begins at ``begins``."""
    return ValueLine(
        text.count("\n", 0, begins) + 1,
        lambda: {member.name: in_json(text, member.value, member.begins) for member in _members(text, value)},
    )


def repeated_in_json(text: str, value: int = 0) -> tuple[str, int] | None:
    """Return (key, line of its second occurrence) of the first object that has a key twice; None if there is none."""
    names = set()
    is_object = text[_skip(text, value)] == "{"
    for member in _members(text, value):
        if is_object and member.name in names:
            return member.name, text.count("\n", 0, member.begins) + 1
        names.add(member.name)
        if found := repeated_in_json(text, member.value):
            return found
    return None


def _members(text: str, start: int) -> Iterator[_Member]:
    """Yield the members of the object, or the items of the list, that begins at ``start``; nothing for other values."""
    at = _skip(text, start)
    opening = text[at]
    if opening not in "{[":
        return
    at = _skip(text, at + 1)
    decoder = json.JSONDecoder()
    for number in itertools.count():
        if text[at] in "}]":
            return
        name, begins = str(number), at
        if opening == "{":
            name, at = decoder.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        yield _Member(name, begins, at)
        at = _skip(text, decoder.raw_decode(text, at)[1])
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """Return the next position from ``at`` on that is no white space."""
    while text[at] in _BLANK:
        at += 1
    return at


# -- TOML ------------------------------------------------------------------------------------------------------------------


def in_toml(text: str) -> ValueLine:
    """Return the lines of a TOML text: of each value, the line on which its statement begins.

    ``tomllib`` gives no positions, but it says whether a piece of text is TOML. The shortest piece that begins with a
    statement and is TOML ends with that statement.
    """
    top = ValueLine(1)
    table = top
    lines = text.split("\n")
    start = 0
    for end in range(1, len(lines) + 1):
        if (found := _parsed("\n".join(lines[start:end]))) is None:
            continue
        if lines[start].lstrip().startswith("["):
            table = _table(top, found, start + 1)
        else:
            _note(table, found, start + 1)
        start = end
    return top


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _table(top: ValueLine, header: Mapping[str, Any], line: int) -> ValueLine:
    """Return the entry of the table that a header such as ``[a.b]`` or ``[[a.b]]`` begins on this line."""
    entry = top
    inner: Any = header
    while inner:
        ((name, inner),) = inner.items()
        entry = entry.known.setdefault(name, ValueLine(line))
        if inner == [{}]:  # the header adds a table to an array of tables
            return entry.known.setdefault(str(len(entry.known)), ValueLine(line))
        if "0" in entry.known and inner is not None:  # the header continues the last table of an array
            entry = entry.known[str(len(entry.known) - 1)]
    return entry


def _note(entry: ValueLine, found: Any, line: int) -> None:
    """Enter ``line`` for every value of ``found`` that has none yet; a key of thousands of dots is no recursion."""
    waiting = [(entry, found)]
    while waiting:
        around, value = waiting.pop()
        inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [(around.known.setdefault(str(name), ValueLine(line)), part) for name, part in inner]
