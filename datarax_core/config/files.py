"""Config files as plain mappings: YAML, TOML or JSON, chosen by suffix, with the line of each value."""

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from datarax_core.errors import ConfigError, Problem

from .lines import ValueLine, in_json, in_toml, in_yaml, repeated_in_json

SUFFIXES: Final = (".yaml", ".yml", ".toml", ".json")
"""Suffixes of config files."""

_SUFFIXES: Final = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


class ConfigFile(NamedTuple):
    """A config file: the mapping that it holds, and the lines of the values."""

    mapping: dict[str, Any]
    top: ValueLine


def read_config_file(path: str | os.PathLike[str]) -> ConfigFile:
    """Return the mapping that a config file holds, and the lines of its values.

    Raises:
        ConfigError: It cannot be read, does not parse (line and column), names a key twice, or holds no mapping.
    """
    path = Path(path)
    text = _text(path)
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise _error(path, f"the suffix {path.suffix!r} says no known format; name the file {_SUFFIXES}")
    try:
        config, top = parse(text, path) if text.strip() else (None, ValueLine(1))
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


def _json(text: str, path: Path) -> tuple[Any, ValueLine]:
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
        config.pop("$schema", None)  # for editors: JSON has no comments, where other formats name their schema
    return config, in_json(text)


def _toml(text: str, path: Path) -> tuple[Any, ValueLine]:
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
    return config, ValueLine(1, lambda: in_toml(text).inner())


def _yaml(text: str, path: Path) -> tuple[Any, ValueLine]:
    import yaml  # noqa: PLC0415 - 20 ms that only YAML files pay

    from .yaml_reader import RefusedError, read_yaml  # noqa: PLC0415 - imports yaml

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
    return config, ValueLine(1) if node is None else in_yaml(node)


_PARSERS: Final[Mapping[str, Callable[[str, Path], tuple[Any, ValueLine]]]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": _toml,
    ".json": _json,
}
