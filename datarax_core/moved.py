"""Module paths of earlier releases: imports of them work, and pickles that name them load.

Version 0.1.0 had one module for each of these paths; packages took their places. The tables hold every old module that was
public, and every private one whose classes stand in pickles.
"""

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

_MODULES: Final = {
    "_batch_rule": "routes.definition order.numbers",
    "_config_places": "config.lines",
    "_cursor": "modules.cursor",
    "_events": "pipeline.events",
    "_layout": "devices.layout devices.placement",
    "_randomness": "stages.randomness",
    "_reading": "sources.epoch_reader",
    "_routes": "pipeline.progress routes.base",
    "_selection": "order.selection sources.subset",
    "_source_parts": "sources.access",
    "_record_table": "stages.record_table",
    "_stages._beside": "stages.fields",
    "_stages._cast": "stages.numeric",
    "_stages._one_hot": "stages.numeric",
    "_stages._rename": "stages.fields",
    "_stages._rescale": "stages.numeric",
    "_stages._select": "stages.fields",
    "_stats": "routes.base",
    "_streams": "routes.stream_reader",
    "blocks": "sources.blocks",
    "buffers": "records.narrowing records.gathers",
    "build": "pipeline.build",
    "cache": "stages.cache",
    "capabilities": "sources.access",
    "columns": "sources.columns devices.layout",
    "compatibility": "extensions.contract",
    "decoders": "registry.decoders records.elements",
    "eager": "sources.eager",
    "graph": "stages.graph",
    "hooks": "extensions.hooks registry.sources",
    "hookspecs": "extensions.hookspecs",
    "indices": "order.numbers",
    "local_files": "files.paths files.table files.open_files",
    "metadata": "sources.metadata",
    "module": "modules.module",
    "nodes": "stages.fields stages.rebatch",
    "prefetch": "devices.prefetch",
    "quarantine": "sources.verification",
    "sequence": "sources.sequence",
    "source": "sources.source sources.access",
    "sources.files": "files.table files.open_files files.paths",
    "sources.host_state": "modules.host_state",
    "sources.memory": "devices.memory",
    "sources.module": "modules.module",
    "sources.state": "modules.state modules.cursor",
    "spec": "records.spec records.dtypes stages.field_paths",
    "streaming": "sources.streaming",
    "subset": "sources.subset",
    "suggestions": "errors",
    "verification": "sources.verification",
    "writing": "sources.blocks",
    "_stages": "stages.fields stages.numeric",
}
"""For each old path, the modules in which its names are looked up; all of them below ``datarax_core``."""

_RENAMED: Final = {
    "datarax_core._cursor._Run": "RunState",
    "datarax_core._routes.HostParts": "Progress",
    "datarax_core._source_parts.SourceParts": "SavedWork",
    "datarax_core._stages._beside.WithBeside": "StageWithHostFields",
    "datarax_core._stages._beside.nothing": "empty_batch",
    "datarax_core.spec.split_beside": "split_host_fields",
    "datarax_core.spec.with_beside": "with_host_fields",
    "datarax_core.streaming._HostParts": "StreamState",
}
"""New names of classes and functions that had another name at the old path."""


def forward_core() -> None:
    """Make the modules of core importable by the paths they had in version 0.1.0."""
    below = "datarax_core."
    moved = {below + old: " ".join(below + new for new in homes.split()) for old, homes in _MODULES.items()}
    forward_modules(moved, _RENAMED)


def forward_modules(moved: Mapping[str, str], renamed: Mapping[str, str] | None = None) -> None:
    """Make modules importable by the paths they had in an earlier release.

    Args:
        moved: For each old path, the new paths in which its names are looked up, separated by spaces. Importing an old path
            whose last part does not begin with an underscore warns with ``DeprecationWarning``; the others stand in pickles.
        renamed: For names that changed as well: the new name, by old path and old name, such as
            ``{"package.old_module.OldName": "NewName"}``.
    """
    sys.meta_path.append(_MovedModules(moved, renamed or {}))


class _MovedModules:
    """Finder and loader of modules that stand in for moved ones; asked only after every other finder found nothing."""

    def __init__(self, moved: Mapping[str, str], renamed: Mapping[str, str]) -> None:
        self._moved = {old: new.split() for old, new in moved.items()}
        self._renamed = renamed

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        """Return a spec for a moved module; None for every other name."""
        if name not in self._moved:
            return None
        is_package = any(old.startswith(f"{name}.") for old in self._moved)
        return ModuleSpec(name, self, is_package=is_package)  # type: ignore[arg-type]  # importlib.abc is slow to import

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return a module whose attributes are those of the modules that took its place."""
        homes = self._moved[spec.name]
        if not spec.name.rpartition(".")[2].startswith("_"):
            faces = " or ".join(dict.fromkeys(".".join(home.split(".")[:2]) for home in homes))
            warnings.warn(f"{spec.name} was moved: import from {faces}", DeprecationWarning, stacklevel=2)
        module = ModuleType(spec.name, f"Stand-in for a module that was moved to {', '.join(homes)}.")

        def get(name: str) -> Any:
            name = self._renamed.get(f"{spec.name}.{name}", name)
            for home in homes:
                if hasattr(found := import_module(home), name):
                    return getattr(found, name)
            raise AttributeError(f"module {spec.name!r} has no attribute {name!r}; it was moved to {', '.join(homes)}")

        module.__getattr__ = get  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module is complete."""


def rename_attributes(module: Any, names: Mapping[str, str]) -> None:
    """Give the attributes of an unpickled module the names that they have now; for its ``__setstate__``.

    Args:
        module: An ``nnx.Module``, or any other object.
        names: For each name in an earlier release, the name now. Attributes that the module lacks are left out.
    """
    for old, new in names.items():
        if old in vars(module):
            value = vars(module)[old]
            delattr(module, old)
            setattr(module, new, value)


def forward_names(package: str, moved: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package from which names have moved to others.

    Args:
        package: Name of the package, its ``__name__``.
        moved: For each name that an earlier release had there, the module that has it now; ``module:name`` if it has another
            name there.
    """

    def get(name: str) -> Any:
        if name not in moved:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, _, new_name = moved[name].partition(":")
        return getattr(import_module(home), new_name or name)

    return get
