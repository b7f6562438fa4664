"""Reader of YAML 1.2, the version of editors and JSON Schema: ``no`` is a text, 010 is ten, and 1e-3 is a number.

No file can name code. Keys that are given twice, and aliases that would fill the memory, are refused.
"""

import re
from typing import Any, Final

import yaml

_LARGEST: Final = 1_000_000
"""Largest number of values in a file, after its aliases are replaced."""


class RefusedError(Exception):
    """Content that a config file may not have, with its line and column."""

    def __init__(self, mark: yaml.Mark, message: str) -> None:
        super().__init__(message)
        self.line, self.column = mark.line + 1, mark.column + 1


def read_yaml(text: str) -> tuple[Any, yaml.Node | None]:
    """Return (value of a YAML text, its node with merges resolved).

    Raises:
        yaml.YAMLError, ValueError: It is not YAML.
        RefusedError: It is YAML, with content that a config may not have.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        _require_finite(node)
        return loader.construct_document(node), node
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's attribute; drops the rules of YAML 1.1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        _refuse_repeated_key(node)
        return super().construct_mapping(node, deep=deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)


for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), first)

_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)


def _refuse_repeated_key(node: yaml.MappingNode) -> None:
    """Raise RefusedError if a mapping has a key twice."""
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if key.id != "scalar" or key.tag == "tag:yaml.org,2002:merge":
            continue
        if (key.tag, key.value) in seen:
            raise RefusedError(key.start_mark, f"the key {key.value!r} is given twice in one mapping; keep one")
        seen.add((key.tag, key.value))


def _require_finite(top: yaml.Node) -> None:
    """Raise RefusedError for an alias that stands for a value around it, or for more values than a config can hold."""
    sizes: dict[int, int | None] = {}

    def size(node: yaml.Node) -> int:
        known = sizes.setdefault(id(node), -1)
        if known is None:
            raise RefusedError(node.start_mark, "an alias stands for a value that it is part of; write it out")
        if known != -1:
            return known
        sizes[id(node)] = None
        total = 1 + sum(map(size, _children(node)))
        if total > _LARGEST:
            raise RefusedError(node.start_mark, f"its aliases stand for more than {_LARGEST:,} values")
        sizes[id(node)] = total
        return total

    size(top)


def _children(node: yaml.Node) -> list[yaml.Node]:
    """Return the nodes directly inside a node: keys and values, or items."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []
