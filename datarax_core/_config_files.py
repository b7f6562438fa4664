"""Config files as plain mappings: YAML, TOML and JSON, by suffix. No tag, key or value can name code."""

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .errors import ConfigError

if TYPE_CHECKING:
    import yaml

_SUFFIXES: Final = ".yaml, .yml, .toml or .json"


def read_config_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping that a config file holds.

    Raises:
        ConfigError: It cannot be read, does not parse (line and column), names a key twice, or holds no mapping.
    """
    path = Path(path)
    text = _text(path)
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise ConfigError(f"{path}: the suffix {path.suffix!r} says no known format; name the file {_SUFFIXES}")
    try:
        config = parse(text, path) if text.strip() else None
    except RecursionError as cause:
        raise ConfigError(f"{path}: nested too deeply to be a config") from cause
    if config is None or config == {}:
        raise ConfigError(f"{path}: the file is empty; a pipeline config has a source and a batch_size")
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"{path}: the top level is a {type(config).__name__}, not a mapping; write fields such as batch_size: 128"
        )
    return dict(config)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as cause:
        raise ConfigError(f"{path}: no such file; check the path and the working folder {Path.cwd()}") from cause
    except IsADirectoryError as cause:
        raise ConfigError(f"{path}: is a folder; name the config file in it") from cause
    except PermissionError as cause:
        raise ConfigError(f"{path}: permission denied; make the file readable for this user") from cause
    except OSError as cause:
        raise ConfigError(f"{path}: cannot be read: {cause.strerror}") from cause
    except UnicodeDecodeError as cause:
        raise ConfigError(f"{path}: byte {cause.start} is not UTF-8; save the file as UTF-8 text") from cause


def _json(text: str, path: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in pairs:
            if key in mapping:
                raise ConfigError(f"{path}: the key {key!r} is given twice in one object; keep one")
            mapping[key] = value
        return mapping

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as cause:
        raise _syntax_error(path, "JSON", cause.lineno, cause.colno, cause.msg) from cause


def _toml(text: str, path: Path) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:  # its message ends with the line and column
        raise ConfigError(f"{path}: not valid TOML: {cause}") from cause


def _yaml(text: str, path: Path) -> Any:
    import yaml  # noqa: PLC0415 - 20 ms that only YAML files pay

    class UniqueKeyLoader(yaml.SafeLoader):
        """``yaml.safe_load``, which takes the last of two equal keys without a word, but for that."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
            _refuse_repeated_key(node, path)
            return super().construct_mapping(node, deep=deep)

    try:
        return yaml.load(text, UniqueKeyLoader)  # noqa: S506 - derives from SafeLoader
    except yaml.MarkedYAMLError as cause:
        mark = cause.problem_mark or cause.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _syntax_error(path, "YAML", line, column, cause.problem or str(cause)) from cause
    except (yaml.YAMLError, ValueError) as cause:  # control characters; a date such as 2024-13-01
        raise ConfigError(f"{path}: not valid YAML: {cause}") from cause


def _refuse_repeated_key(node: "yaml.MappingNode", path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if key.id != "scalar" or key.tag == "tag:yaml.org,2002:merge":
            continue
        if (key.tag, key.value) in seen:
            mark = key.start_mark
            place = f"line {mark.line + 1}, column {mark.column + 1}"
            raise ConfigError(f"{path}: {place}: the key {key.value!r} is given twice in one mapping; keep one")
        seen.add((key.tag, key.value))


def _syntax_error(path: Path, language: str, line: int, column: int, problem: str) -> ConfigError:
    return ConfigError(f"{path}: line {line}, column {column}: not valid {language}: {problem}")


_PARSERS: Final[Mapping[str, Callable[[str, Path], Any]]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": _toml,
    ".json": _json,
}
