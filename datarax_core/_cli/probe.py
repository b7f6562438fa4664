"""Run as a script by `doctor`: imports plugins, in a process that they may hang, end or crash.

``python -X importtime -m datarax_core._cli.probe RESULTS SOURCE:memory DECODER:raw ...`` writes two lines of JSON to the file
RESULTS for each plugin, one before and one after, so that it is known which one was the last. Between a plugin's two lines on
stderr that begin with `MARK`, the interpreter says what was imported for it.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from time import perf_counter
from typing import Any, Final

MARK: Final = "drx-probe"
NEED_JAX: Final = ("source", "stage")
"""Kinds whose base classes are modules of Flax."""


def main(results: str, *labels: str) -> None:
    """Import the plugins that ``labels``, ``kind:name``, stand for."""
    with open(results, "a", encoding="utf-8", buffering=1) as file:  # noqa: PTH123 - a line at once
        for label in labels:
            kind, _, name = label.partition(":")
            file.write(json.dumps({"label": label}) + "\n")
            file.write(json.dumps({"label": label, **_imported(kind, name)}) + "\n")
    sys.stderr.flush()
    os._exit(0)  # threads that a plugin started are not waited for


def _imported(kind: str, name: str) -> dict[str, Any]:
    """How long the import took, beyond what core imports itself for this kind of plugin; and what is wrong, if anything."""
    load = _loader(kind, name)
    if kind in NEED_JAX:
        import_module("datarax_core.source")
    problem: dict[str, Any] = {}
    _mark()
    began = perf_counter()
    try:
        load()
    except BaseException as error:  # noqa: BLE001 - the boundary to code of others: whatever it raises is the result
        problem = {"error": type(error).__name__, "text": str(error)}
    seconds = perf_counter() - began
    _mark()
    return {"seconds": seconds, **problem}


def _loader(kind: str, name: str) -> Callable[[], object]:
    from .kinds import REGISTRIES  # noqa: PLC0415 - whoever asks for the names of this module needs none of it

    registry = REGISTRIES[kind].from_environment()
    return lambda: registry.get(name)


def _mark() -> None:
    sys.stderr.flush()
    os.write(2, f"\n{MARK}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
