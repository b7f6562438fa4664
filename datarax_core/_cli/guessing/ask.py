"""Script of the process in which `asking` calls ``guess`` of sources; a plugin may hang, end or crash it.

``python -m datarax_core._cli.guessing.ask RESULTS PATH acme_parquet ...`` appends two lines of JSON to the file RESULTS for
each source, one before its import and one with its answer, so that the file shows which source was the last.
"""

import json
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any


def main(results: str, path: str, *names: str) -> None:
    """Ask the sources called ``names`` whether they open ``path``, and append their answers to the file ``results``."""
    from datarax_core.registry.sources import SourceRegistry  # noqa: PLC0415 - `asking` imports this module for its name

    import_module("datarax_core.sources.source")
    registry = SourceRegistry.from_environment()
    with open(results, "a", encoding="utf-8", buffering=1) as file:  # noqa: PTH123 - a line at once
        file.write("{}\n")  # core is imported
        for name in names:
            file.write(json.dumps({"asking": name}) + "\n")
            file.write(json.dumps({"name": name, **answer(registry, name, path)}) + "\n")
    sys.stderr.flush()
    os._exit(0)  # without waiting for threads that a plugin started


def answer(registry: Any, name: str, path: str) -> dict[str, Any]:
    """Return the answer of a source: ``fields`` of a config, or None; or its ``error``."""
    try:
        return read(registry.get(name).guess(path))
    except BaseException as error:  # noqa: BLE001 - the boundary to a plugin's code: any error is the result
        return {"error": f"{type(error).__name__}: {error}"}


def read(fields: Any) -> dict[str, Any]:
    """Return what ``guess`` returned as an answer: its ``fields``, or the ``error`` that it is no answer."""
    if fields is None:
        return {"fields": None}
    if not isinstance(fields, Mapping):
        return {"error": f"guess() returned {fields!r:.80}, which is neither a mapping of config fields nor None"}
    if "type" in fields:
        return {
            "error": f"guess() returned a `type`, {fields['type']!r:.80}; it returns the other fields of its own config"
        }
    try:
        json.dumps(dict(fields))
    except (TypeError, ValueError) as cause:
        return {"error": f"guess() returned {dict(fields)!r:.80}, which no config file can hold: {cause}"}
    return {"fields": dict(fields)}


if __name__ == "__main__":
    main(*sys.argv[1:])
