"""The data layer for JAX training code: sources, each a plugin, and the pipeline that serves their records.

Names are imported when they are first used: configs, errors and the registry work without loading JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config.base import LocalPath
    from .config.models import DataraxModuleConfig, SourceConfig, SourceConfigBase, StructuralConfig
    from .devices.prefetch import prefetch_to_device
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
    from .order.order import Order
    from .pipeline.build import build_source
    from .pipeline.pipeline import Pipeline
    from .plugins.contract import API_VERSION
    from .plugins.hooks import HookRegistry, Hooks
    from .plugins.hookspecs import hookimpl
    from .plugins.listing import SourceInfo
    from .records.narrowing import aligned_empty
    from .registry.decoders import AnyDecoder, Decoder, DecoderRegistry
    from .registry.pipeline_config import AnySource, PipelineConfig, load_config
    from .registry.sources import SourceRegistry, default_hooks, record_failed
    from .registry.stages import AnyStage, Stage, StageRegistry
    from .sources.access import Access, Capabilities
    from .sources.columns import Columns, columns_of
    from .sources.eager import EagerSourceBase
    from .sources.local_files import LocalFilesOnlyMixin
    from .sources.metadata import MetadataManager, RecordMetadata
    from .sources.module import DataraxModule, StructuralModule
    from .sources.sequence import SequenceSource, SequenceSourceConfig, from_sequence
    from .sources.source import DataSourceModule
    from .sources.streaming import StreamingSourceBase
    from .sources.subset import Subset
    from .stages.cache import Cache
    from .stages.fields import Rename, Select
    from .stages.graph import Graph, MergeFields, Rebatch, SplitField
    from .stages.numeric import Cast, OneHot, Rescale

_HOMES = {
    "config.base": ("LocalPath",),
    "config.models": (
        "DataraxModuleConfig",
        "SourceConfig",
        "SourceConfigBase",
        "StructuralConfig",
    ),
    "devices.prefetch": ("prefetch_to_device",),
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
    "order.order": ("Order",),
    "pipeline.build": ("build_source",),
    "pipeline.pipeline": ("Pipeline",),
    "plugins.contract": ("API_VERSION",),
    "plugins.hooks": (
        "HookRegistry",
        "Hooks",
    ),
    "plugins.hookspecs": ("hookimpl",),
    "plugins.listing": ("SourceInfo",),
    "records.narrowing": ("aligned_empty",),
    "registry.decoders": (
        "AnyDecoder",
        "Decoder",
        "DecoderRegistry",
    ),
    "registry.pipeline_config": (
        "AnySource",
        "PipelineConfig",
        "load_config",
    ),
    "registry.sources": (
        "SourceRegistry",
        "default_hooks",
        "record_failed",
    ),
    "registry.stages": (
        "AnyStage",
        "Stage",
        "StageRegistry",
    ),
    "sources.access": (
        "Access",
        "Capabilities",
    ),
    "sources.columns": (
        "Columns",
        "columns_of",
    ),
    "sources.eager": ("EagerSourceBase",),
    "sources.local_files": ("LocalFilesOnlyMixin",),
    "sources.metadata": (
        "MetadataManager",
        "RecordMetadata",
    ),
    "sources.module": (
        "DataraxModule",
        "StructuralModule",
    ),
    "sources.sequence": (
        "SequenceSource",
        "SequenceSourceConfig",
        "from_sequence",
    ),
    "sources.source": ("DataSourceModule",),
    "sources.streaming": ("StreamingSourceBase",),
    "sources.subset": ("Subset",),
    "stages.cache": ("Cache",),
    "stages.fields": (
        "Rename",
        "Select",
    ),
    "stages.graph": (
        "Graph",
        "MergeFields",
        "Rebatch",
        "SplitField",
    ),
    "stages.numeric": (
        "Cast",
        "OneHot",
        "Rescale",
    ),
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
