"""Script of the process in which `doctor` imports plugins; a plugin may hang, end or crash it.

``python -X importtime -m datarax_core._cli.probe RESULTS source:memory decoder:raw ...`` writes two lines of JSON to the file
RESULTS for each plugin, one before its import and one after, so that the file shows which plugin was the last. On stderr,
the interpreter's report of the imports for a plugin stands between two lines `MARK`.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from time import perf_counter
from typing import Any, Final

from datarax_core.extensions.places import given_places

MARK: Final = "drx-probe"
NEED_JAX: Final = ("source", "stage")
"""Kinds whose base classes are modules of Flax."""


def main(results: str, *labels: str) -> None:
    """Import the plugins with the ``labels`` (each ``kind:name``), and append the results to the file ``results``."""
    with open(results, "a", encoding="utf-8", buffering=1) as file:  # noqa: PTH123 - a line at once
        for label in labels:
            kind, _, name = label.partition(":")
            file.write(json.dumps({"label": label}) + "\n")
            file.write(json.dumps({"label": label, **_imported(kind, name)}) + "\n")
    sys.stderr.flush()
    os._exit(0)  # without waiting for threads that a plugin started


def _imported(kind: str, name: str) -> dict[str, Any]:
    """Return the seconds of the import, without core's own imports for this kind of plugin, and the error, if there is one."""
    load = _loader(kind, name)
    if kind in NEED_JAX:
        import_module("datarax_core.sources.source")
    problem: dict[str, Any] = {}
    _mark()
    began = perf_counter()
    try:
        load()
    except BaseException as error:  # noqa: BLE001 - the boundary to a plugin's code: any error is the result
        problem = {"error": type(error).__name__, "text": str(error)}
    seconds = perf_counter() - began
    _mark()
    return {"seconds": seconds, **problem}


def _loader(kind: str, name: str) -> Callable[[], object]:
    from .findings import PLACE, REGISTRIES  # noqa: PLC0415 - `doctor` imports this module for its constants only

    if kind == PLACE:
        place = next(place for place in given_places() if place.word == name)
        from datarax_core.extensions.named import plugins_of  # noqa: PLC0415 - few processes need it

        return lambda: plugins_of(place)
    registry = REGISTRIES[kind].from_environment()
    return lambda: registry.get(name)


def _mark() -> None:
    sys.stderr.flush()
    os.write(2, f"\n{MARK}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
