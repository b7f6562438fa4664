"""The data layer for JAX training code: sources, each a plugin, and the pipeline that serves their records.

Names are imported when they are first used: configs, errors and the registry work without loading JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._stages import Cast, OneHot, Rename, Rescale, Select
    from .buffers import aligned_empty
    from .build import build_source
    from .cache import Cache
    from .capabilities import Access, Capabilities
    from .columns import Columns, columns_of
    from .compatibility import API_VERSION
    from .config import (
        AnySource,
        DataraxModuleConfig,
        LocalPath,
        PipelineConfig,
        SourceConfig,
        SourceConfigBase,
        StructuralConfig,
        load_config,
    )
    from .decoders import AnyDecoder, Decoder, DecoderRegistry
    from .eager import EagerSourceBase
    from .errors import (
        ConfigError,
        DataFileError,
        DataraxError,
        NarrowingError,
        PluginConflictError,
        PluginContractError,
        PluginDisabledError,
        PluginError,
        PluginIncompatibleError,
        PluginLoadError,
        PluginNotFoundError,
        PluginWarning,
        RecordError,
        SpecError,
        StageError,
        StateError,
        WorkerError,
    )
    from .graph import Graph
    from .hooks import HookRegistry, Hooks, default_hooks, record_failed
    from .hookspecs import hookimpl
    from .local_files import LocalFilesOnlyMixin
    from .metadata import MetadataManager, RecordMetadata
    from .module import DataraxModule, StructuralModule
    from .nodes import MergeFields, Rebatch, SplitField
    from .order import Order
    from .pipeline import Pipeline
    from .prefetch import prefetch_to_device
    from .registry import SourceInfo, SourceRegistry
    from .sequence import SequenceSource, SequenceSourceConfig, from_sequence
    from .source import DataSourceModule
    from .stages import AnyStage, Stage, StageRegistry
    from .streaming import StreamingSourceBase
    from .subset import Subset

_HOMES = {
    "_stages": ("Cast", "OneHot", "Rename", "Rescale", "Select"),
    "buffers": ("aligned_empty",),
    "build": ("build_source",),
    "capabilities": ("Access", "Capabilities"),
    "cache": ("Cache",),
    "columns": ("Columns", "columns_of"),
    "compatibility": ("API_VERSION",),
    "config": (
        "AnySource",
        "DataraxModuleConfig",
        "LocalPath",
        "PipelineConfig",
        "SourceConfig",
        "SourceConfigBase",
        "StructuralConfig",
        "load_config",
    ),
    "decoders": ("AnyDecoder", "Decoder", "DecoderRegistry"),
    "eager": ("EagerSourceBase",),
    "errors": (
        "ConfigError",
        "DataFileError",
        "DataraxError",
        "NarrowingError",
        "PluginConflictError",
        "PluginContractError",
        "PluginDisabledError",
        "PluginError",
        "PluginIncompatibleError",
        "PluginLoadError",
        "PluginNotFoundError",
        "PluginWarning",
        "RecordError",
        "SpecError",
        "StageError",
        "StateError",
        "WorkerError",
    ),
    "graph": ("Graph",),
    "hooks": ("HookRegistry", "Hooks", "default_hooks", "record_failed"),
    "hookspecs": ("hookimpl",),
    "local_files": ("LocalFilesOnlyMixin",),
    "metadata": ("MetadataManager", "RecordMetadata"),
    "module": ("DataraxModule", "StructuralModule"),
    "nodes": ("MergeFields", "Rebatch", "SplitField"),
    "order": ("Order",),
    "pipeline": ("Pipeline",),
    "prefetch": ("prefetch_to_device",),
    "registry": ("SourceInfo", "SourceRegistry"),
    "sequence": ("SequenceSource", "SequenceSourceConfig", "from_sequence"),
    "source": ("DataSourceModule",),
    "stages": ("AnyStage", "Stage", "StageRegistry"),
    "subset": ("Subset",),
    "streaming": ("StreamingSourceBase",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "API_VERSION",
    "Access",
    "AnyDecoder",
    "AnySource",
    "AnyStage",
    "Cache",
    "Capabilities",
    "Cast",
    "Columns",
    "ConfigError",
    "DataFileError",
    "DataSourceModule",
    "DataraxError",
    "DataraxModule",
    "DataraxModuleConfig",
    "Decoder",
    "DecoderRegistry",
    "EagerSourceBase",
    "Graph",
    "HookRegistry",
    "Hooks",
    "LocalFilesOnlyMixin",
    "LocalPath",
    "MergeFields",
    "MetadataManager",
    "NarrowingError",
    "OneHot",
    "Order",
    "Pipeline",
    "PipelineConfig",
    "PluginConflictError",
    "PluginContractError",
    "PluginDisabledError",
    "PluginError",
    "PluginIncompatibleError",
    "PluginLoadError",
    "PluginNotFoundError",
    "PluginWarning",
    "Rebatch",
    "RecordError",
    "RecordMetadata",
    "Rename",
    "Rescale",
    "Select",
    "SequenceSource",
    "SequenceSourceConfig",
    "SourceConfig",
    "SourceConfigBase",
    "SourceInfo",
    "SourceRegistry",
    "SpecError",
    "SplitField",
    "Stage",
    "StageError",
    "StageRegistry",
    "StateError",
    "StreamingSourceBase",
    "StructuralConfig",
    "StructuralModule",
    "Subset",
    "WorkerError",
    "aligned_empty",
    "build_source",
    "columns_of",
    "default_hooks",
    "from_sequence",
    "hookimpl",
    "load_config",
    "prefetch_to_device",
    "record_failed",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
