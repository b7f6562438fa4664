"""Config files as plain mappings: YAML, TOML and JSON, by suffix, and the line on which each value stands."""

import itertools
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from datarax_core.errors import ConfigError, Problem

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


_SUFFIXES: Final = ".yaml, .yml, .toml or .json"


class ConfigFile(NamedTuple):
    """What a config file holds, and where."""

    mapping: dict[str, Any]
    top: Place


def read_config_file(path: str | os.PathLike[str]) -> ConfigFile:
    """The mapping that a config file holds, and the places of its values.

    Raises:
        ConfigError: It cannot be read, does not parse (line and column), names a key twice, or holds no mapping.
    """
    path = Path(path)
    text = _text(path)
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise _error(path, f"the suffix {path.suffix!r} says no known format; name the file {_SUFFIXES}")
    try:
        config, top = parse(text, path) if text.strip() else (None, Place(1))
    except RecursionError as cause:
        raise _error(path, "nested too deeply to be a config") from cause
    if config is None or config == {}:
        raise _error(path, "the file is empty; a pipeline config has a source and a batch_size")
    if not isinstance(config, Mapping):
        raise _error(
            path, f"the top level is a {type(config).__name__}, not a mapping; write fields such as batch_size: 128"
        )
    return ConfigFile(dict(config), top)


def _error(path: Path, message: str, line: int | None = None, column: int | None = None) -> ConfigError:
    return ConfigError.of([Problem(file=str(path), line=line, column=column, message=message)])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as cause:
        raise _error(path, f"no such file; check the path and the working folder {Path.cwd()}") from cause
    except IsADirectoryError as cause:
        raise _error(path, "is a folder; name the config file in it") from cause
    except PermissionError as cause:
        raise _error(path, "permission denied; make the file readable for this user") from cause
    except OSError as cause:
        raise _error(path, f"cannot be read: {cause.strerror}") from cause
    except UnicodeDecodeError as cause:
        raise _error(path, f"byte {cause.start} is not UTF-8; save the file as UTF-8 text") from cause


def _json(text: str, path: Path) -> tuple[Any, Place]:
    is_repeated = False

    def pairs_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal is_repeated
        mapping = dict(pairs)
        is_repeated |= len(mapping) < len(pairs)
        return mapping

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is no number in JSON")

    try:
        config = json.loads(text, object_pairs_hook=pairs_of, parse_constant=refuse)
    except json.JSONDecodeError as cause:
        raise _error(path, f"not valid JSON: {cause.msg}", cause.lineno, cause.colno) from cause
    except ValueError as cause:  # an integer of thousands of digits
        raise _error(path, f"not valid JSON: {cause}") from cause
    if is_repeated and (found := repeated_in_json(text)):
        key, line = found
        raise _error(path, f"the key {key!r} is given twice in one object; keep one", line)
    if isinstance(config, dict):
        config.pop("$schema", None)  # for editors: JSON has no comments that could say it
    return config, in_json(text)


def _toml(text: str, path: Path) -> tuple[Any, Place]:
    try:
        config = tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        message = str(cause)
        found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
        line, column = (int(found[1]), int(found[2])) if found else (text.count("\n") + 1, None)
        message = re.sub(r" \(at [^()]*\)$", "", message)
        raise _error(path, f"not valid TOML: {message}", line, column) from cause
    except ValueError as cause:  # an integer of thousands of digits; a date such as 2024-13-01
        raise _error(path, f"not valid TOML: {cause}") from cause
    top = Place(1, lambda: in_toml(text).inner())
    return config, top


def _yaml(text: str, path: Path) -> tuple[Any, Place]:
    import yaml  # noqa: PLC0415 - 20 ms that only YAML files pay

    from .yaml_reader import RefusedError, read_yaml  # noqa: PLC0415 - likewise

    try:
        config, node = read_yaml(text)
    except RefusedError as cause:
        raise _error(path, str(cause), cause.line, cause.column) from cause
    except yaml.MarkedYAMLError as cause:
        mark = cause.problem_mark or cause.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _error(path, f"not valid YAML: {cause.problem or cause}", line, column) from cause
    except (yaml.YAMLError, ValueError) as cause:  # control characters; an integer of thousands of digits
        raise _error(path, f"not valid YAML: {cause}") from cause
    return config, Place(1) if node is None else in_yaml(node)


_PARSERS: Final[Mapping[str, Callable[[str, Path], tuple[Any, Place]]]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": _toml,
    ".json": _json,
}
