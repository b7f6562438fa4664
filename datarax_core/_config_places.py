"""Where in its file each value of a config stands: looked up when there is something to say about it, and only then."""

import itertools
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from ._problem import Problem

Location = tuple[int | str, ...]
"""Keys of mappings and numbers of list items, from the outside in."""

_BLANK: Final = " \t\n\r"
_DEPTH: Final = 3  # how many brackets that a line of TOML leaves open are looked through


@dataclass(slots=True)
class Place:
    """A value in a file: the line of its key, or of the item itself, and the places of what it holds."""

    line: int
    look: Callable[[], dict[str, "Place"]] | None = None
    known: dict[str, "Place"] = field(default_factory=dict)

    def inner(self) -> dict[str, "Place"]:
        """The places of what it holds, by key or number as text."""
        if self.look is not None:
            self.known, self.look = self.look(), None
        return self.known

    def at(self, location: Location) -> "Place":
        """The place of what is found there, or of the innermost thing around it that the file has."""
        place = self
        for part in location:
            if (inner := place.inner().get(str(part))) is None:
                break
            place = inner
        return place


@dataclass(frozen=True, slots=True)
class Origin:
    """What messages call a config, such as the name of its file, and where in that its values stand."""

    name: str = "config"
    top: Place | None = None

    def problem(self, location: Location, message: str) -> Problem:
        """A problem with the value at ``location``."""
        line = None if self.top is None else self.top.at(location).line
        return Problem(file=self.name, line=line, place=dotted(location), message=message)

    def __reduce__(self) -> tuple[type["Origin"], tuple[str]]:
        return Origin, (self.name,)  # a config that went to another process has left its text behind


def dotted(location: Location) -> str:
    """A location in words: ``source.sources[1].paths``; keys that are no plain names are quoted."""

    def step(part: int | str) -> str:
        if isinstance(part, int):
            return f"[{part}]"
        return f".{part}" if part.replace("-", "_").isidentifier() else f"[{part!r}]"

    return "".join(map(step, location)).removeprefix(".")


# -- YAML ------------------------------------------------------------------------------------------------------------------


def in_yaml(node: Any, line: int = 1) -> Place:
    """The places of a YAML node, whose merges are resolved."""
    if node.id == "mapping":
        return Place(line, lambda: {k.value: in_yaml(v, _line(k)) for k, v in node.value if k.id == "scalar"})
    if node.id == "sequence":
        return Place(line, lambda: {str(number): in_yaml(item, _line(item)) for number, item in enumerate(node.value)})
    return Place(line)


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


# -- JSON ------------------------------------------------------------------------------------------------------------------


class _Member(NamedTuple):
    """A key or number, and where it and its value begin in the text."""

    name: str
    begins: int
    value: int


def in_json(text: str, value: int = 0, begins: int = 0) -> Place:
    """The places of the value that begins at ``value`` in a text that is JSON."""
    return Place(
        text.count("\n", 0, begins) + 1,
        lambda: {member.name: in_json(text, member.value, member.begins) for member in _members(text, value)},
    )


def repeated_in_json(text: str, value: int = 0) -> tuple[str, int] | None:
    """(a key that an object has twice, the line of the second one), of the first such object."""
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
    while text[at] in _BLANK:
        at += 1
    return at


# -- TOML ------------------------------------------------------------------------------------------------------------------


def in_toml(text: str) -> Place:
    """The places of a text that is TOML.

    ``tomllib`` gives no positions, but it says of a piece of text whether it is TOML. A piece of valid TOML that ends with a
    line is TOML itself exactly if no statement is cut, which finds the statements; and a cut one, with its open brackets
    closed, says what stands above the cut. Only an item of an array that begins with a text of several lines is found late, on
    the last line of that text.
    """
    top = Place(1)
    table = top
    lines = text.split("\n")
    start = 0
    for end in range(1, len(lines) + 1):
        statement = lines[start:end]
        if (found := _parsed("\n".join(statement))) is None:
            continue
        head = statement[0].lstrip()
        if head.startswith("["):
            table = _table(top, found, start + 1)
        else:
            _note(table, _spine(found), start + 1)
            for count in range(1, len(statement)):
                _note(table, _closed(statement[:count]), start + count)
            _note(table, found, start + len(statement))
        start = end
    return top


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _spine(found: Any) -> Any:
    """The one key of a statement, with the keys that its dots lead through; they stand where it begins."""
    if not isinstance(found, dict) or len(found) != 1:
        return {}
    ((name, value),) = found.items()
    return {name: _spine(value)}


def _closed(cut: list[str]) -> dict[str, Any]:
    """What the first lines of a statement hold; empty if they end within a text."""
    for depth in range(1, _DEPTH + 1):
        for brackets in itertools.product("]}", repeat=depth):
            if (found := _parsed("\n".join([*cut, "".join(brackets)]))) is not None:
                return found
    return {}


def _table(top: Place, header: Mapping[str, Any], line: int) -> Place:
    """The place of the table that a header such as ``[a.b]`` or ``[[a.b]]`` begins."""
    place: Place = top
    inner: Any = header
    while inner:
        ((name, inner),) = inner.items()
        place = place.known.setdefault(name, Place(line))
        if inner == [{}]:  # one more of an array of tables
            return place.known.setdefault(str(len(place.known)), Place(line))
        if "0" in place.known and inner is not None:  # its last one
            place = place.known[str(len(place.known) - 1)]
    return place


def _note(place: Place, found: Any, line: int) -> None:
    """Everything that was found and is new has its key on this line."""
    inner: Any = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for name, value in inner:
        _note(place.known.setdefault(str(name), Place(line)), value, line)
