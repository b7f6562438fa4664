"""Table of the types of config fields: what each takes and refuses, found by trying values, and its JSON Schema."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from datarax_core import config, registry, storage

TRIED: tuple[Any, ...] = (
    3, 0, -1, 2.5, True, "3", "0.5", "", "train", "data/x.npz", "~/x", "file:///data/x", "s3://bucket/x",
    "s3://key:secret@bucket/x", "1 GiB", [1, 2], None, float("inf"), {"type": "unknown"},
)  # fmt: skip
"""Values that are tried on each type."""


def table_of_types(names: Sequence[str]) -> list[str]:
    """Return the lines of the table, for those names that are types of fields."""
    lines = ["## Values of these types", ""]
    lines += ["Each value was tried. JSON Schemas are those of `drx schema`.", ""]
    lines += ["| type | takes | refuses | JSON Schema |", "|---|---|---|---|"]
    for name in (*names, "ByteCount"):
        kind = getattr(config, name, None) or getattr(registry, name, None) or getattr(storage, name, None)
        if kind is None or isinstance(kind, str | frozenset | dict):
            continue
        adapter = TypeAdapter(kind)
        taken = [value for value in TRIED if _takes(adapter, value)]
        refused = [value for value in TRIED if value not in taken or type(value) not in map(type, taken)]
        schema = json.dumps(adapter.json_schema(), sort_keys=True, ensure_ascii=False)
        lines.append(f"| `{name}` | {_listed(taken)} | {_listed(refused)} | `{_cell(schema)}` |")
    return [*lines, ""]


def _takes(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"`{_cell(json.dumps(value))}`" for value in values) or "none of those tried"


def _cell(text: str) -> str:
    return re.sub(r"\|", r"\\|", text).replace(str(Path.home()), "~")
