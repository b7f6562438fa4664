"""The data layer for JAX training code: sources, each a plugin, and the pipeline that serves their records.

Names are imported when they are first used: configs, errors and the registry work without loading JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .build import build_source
    from .columns import Columns, columns_of
    from .config import (
        AnySource,
        DataraxModuleConfig,
        LocalPath,
        PipelineConfig,
        SourceConfig,
        StructuralConfig,
        load_config,
    )
    from .eager import EagerSourceBase
    from .errors import (
        ConfigError,
        DataraxError,
        NarrowingError,
        SourceConflictError,
        SourceContractError,
        SourceDisabledError,
        SourceError,
        SourceIncompatibleError,
        SourceLoadError,
        SourceNotFoundError,
        SpecError,
        StateError,
        WorkerError,
    )
    from .graph import Graph
    from .local_files import LocalFilesOnlyMixin
    from .metadata import MetadataManager, RecordMetadata
    from .module import DataraxModule, StructuralModule
    from .order import Order
    from .pipeline import Pipeline
    from .registry import SourceInfo, SourceRegistry
    from .source import Capabilities, DataSourceModule

_HOMES = {
    "build": ("build_source",),
    "columns": ("Columns", "columns_of"),
    "config": (
        "AnySource",
        "DataraxModuleConfig",
        "LocalPath",
        "PipelineConfig",
        "SourceConfig",
        "StructuralConfig",
        "load_config",
    ),
    "eager": ("EagerSourceBase",),
    "errors": (
        "ConfigError",
        "DataraxError",
        "NarrowingError",
        "SourceConflictError",
        "SourceContractError",
        "SourceDisabledError",
        "SourceError",
        "SourceIncompatibleError",
        "SourceLoadError",
        "SourceNotFoundError",
        "SpecError",
        "StateError",
        "WorkerError",
    ),
    "graph": ("Graph",),
    "local_files": ("LocalFilesOnlyMixin",),
    "metadata": ("MetadataManager", "RecordMetadata"),
    "module": ("DataraxModule", "StructuralModule"),
    "order": ("Order",),
    "pipeline": ("Pipeline",),
    "registry": ("SourceInfo", "SourceRegistry"),
    "source": ("Capabilities", "DataSourceModule"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AnySource",
    "Capabilities",
    "Columns",
    "ConfigError",
    "DataSourceModule",
    "DataraxError",
    "DataraxModule",
    "DataraxModuleConfig",
    "EagerSourceBase",
    "Graph",
    "LocalFilesOnlyMixin",
    "LocalPath",
    "MetadataManager",
    "NarrowingError",
    "Order",
    "Pipeline",
    "PipelineConfig",
    "RecordMetadata",
    "SourceConfig",
    "SourceConflictError",
    "SourceContractError",
    "SourceDisabledError",
    "SourceError",
    "SourceIncompatibleError",
    "SourceInfo",
    "SourceLoadError",
    "SourceNotFoundError",
    "SourceRegistry",
    "SpecError",
    "StateError",
    "StructuralConfig",
    "StructuralModule",
    "WorkerError",
    "build_source",
    "columns_of",
    "load_config",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
