"""Table of the types of config fields: what each takes and refuses, found by trying values, and its JSON Schema."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from datarax_core import config, registry, storage

TRIED: tuple[Any, ...] = (
    3, 0, -1, 2.5, True, "3", "", "train", "data/x.npz", "file:///data/x", "s3://bucket/x", "s3://key:secret@bucket/x", "1 GiB",
    None,
)  # fmt: skip
"""Values that are tried on each type."""

TYPES = {
    config: (
        "Flag", "Integer", "Count", "NonNegative", "Real", "Name", "LocalPath", "LocalFile", "LocalPattern", "Shuffling",
    ),
    storage: ("ByteCount",),
    registry: ("AnySource", "ParentSource", "AnyStage", "AnyDecoder"),
}  # fmt: skip
"""The types of fields, and the faces that they are imported from."""


def table_of_types() -> list[str]:
    """Return the lines of the table."""
    lines = ["## Values of these types", "", "Each value was tried; JSON Schemas are those of `drx schema`.", ""]
    lines += ["| type | takes | refuses | JSON Schema |", "|---|---|---|---|"]
    for face, names in TYPES.items():
        for name in names:
            adapter = TypeAdapter(getattr(face, name))
            schema = adapter.json_schema()
            if (noun := _plugin(schema)) is not None:
                taken = f"the config of a {noun}, or a mapping with its `type`" + (
                    ", or `null` in Python" if "anyOf" in schema else ""
                )
                taken += ", or its name, or in Python a function" if noun == "decoder" else ""
                refused = "everything else"
            else:
                results = [(value, _takes(adapter, value)) for value in TRIED]
                taken = _listed([value for value, is_taken in results if is_taken])
                refused = _listed([value for value, is_taken in results if not is_taken])
            text = json.dumps(schema, sort_keys=True, ensure_ascii=False)
            lines.append(f"| `{name}` | {taken} | {refused} | `{_cell(text)}` |")
    return [*lines, ""]


def _plugin(schema: dict[str, Any]) -> str | None:
    """Return the noun for the plugin whose config a schema describes; None if it describes something else."""
    found: str | None = schema.get("x-datarax-plugin")
    return found or next((noun for each in schema.get("anyOf", ()) if (noun := _plugin(each)) is not None), None)


def _takes(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"`{_cell(json.dumps(value))}`" for value in values) or "nothing of this"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
