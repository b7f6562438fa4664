"""The data layer for JAX training code: sources, each a plugin, and the pipeline that serves their records.

Names are imported when they are first used, so that configs, errors and the registry work without loading JAX.
"""

from typing import TYPE_CHECKING

from .faces import lazy_face
from .moved import forward_core

if TYPE_CHECKING:
    from .config.base import LocalPath as LocalPath
    from .config.models import DataraxModuleConfig as DataraxModuleConfig
    from .config.models import SourceConfig as SourceConfig
    from .config.models import SourceConfigBase as SourceConfigBase
    from .config.models import StructuralConfig as StructuralConfig
    from .devices.callbacks import original_errors as original_errors
    from .devices.prefetch import prefetch_to_device as prefetch_to_device
    from .errors import ConfigError as ConfigError
    from .errors import DataFileError as DataFileError
    from .errors import DataraxError as DataraxError
    from .errors import NarrowingError as NarrowingError
    from .errors import PluginConflictError as PluginConflictError
    from .errors import PluginContractError as PluginContractError
    from .errors import PluginDisabledError as PluginDisabledError
    from .errors import PluginError as PluginError
    from .errors import PluginIncompatibleError as PluginIncompatibleError
    from .errors import PluginLoadError as PluginLoadError
    from .errors import PluginNotFoundError as PluginNotFoundError
    from .errors import PluginWarning as PluginWarning
    from .errors import RecordError as RecordError
    from .errors import SpecError as SpecError
    from .errors import StageError as StageError
    from .errors import StateError as StateError
    from .errors import WorkerError as WorkerError
    from .extensions.contract import API_VERSION as API_VERSION
    from .extensions.hooks import HookRegistry as HookRegistry
    from .extensions.hooks import Hooks as Hooks
    from .extensions.hookspecs import hookimpl as hookimpl
    from .files.paths import LocalFilesOnlyMixin as LocalFilesOnlyMixin
    from .modules.module import DataraxModule as DataraxModule
    from .modules.module import StructuralModule as StructuralModule
    from .order.order import Order as Order
    from .pipeline.build import build_source as build_source
    from .pipeline.pipeline import Pipeline as Pipeline
    from .records.gathers import aligned_empty as aligned_empty
    from .records.ragged import Ragged as Ragged
    from .registry.decoders import AnyDecoder as AnyDecoder
    from .registry.decoders import Decoder as Decoder
    from .registry.decoders import DecoderRegistry as DecoderRegistry
    from .registry.pipeline_config import AnySource as AnySource
    from .registry.pipeline_config import PipelineConfig as PipelineConfig
    from .registry.pipeline_config import load_config as load_config
    from .registry.sources import SourceInfo as SourceInfo
    from .registry.sources import SourceRegistry as SourceRegistry
    from .registry.sources import default_hooks as default_hooks
    from .registry.sources import record_failed as record_failed
    from .registry.stages import AnyStage as AnyStage
    from .registry.stages import Stage as Stage
    from .registry.stages import StageRegistry as StageRegistry
    from .registry.view_config import ViewConfig as ViewConfig
    from .sources.access import Access as Access
    from .sources.access import Capabilities as Capabilities
    from .sources.columns import Columns as Columns
    from .sources.columns import columns_of as columns_of
    from .sources.eager import EagerSourceBase as EagerSourceBase
    from .sources.iterables.source import IterableSource as IterableSource
    from .sources.iterables.source import from_iterable as from_iterable
    from .sources.metadata import MetadataManager as MetadataManager
    from .sources.metadata import RecordMetadata as RecordMetadata
    from .sources.sequence import SequenceSource as SequenceSource
    from .sources.sequence import SequenceSourceConfig as SequenceSourceConfig
    from .sources.sequence import from_sequence as from_sequence
    from .sources.source import DataSourceModule as DataSourceModule
    from .sources.streaming import StreamingSourceBase as StreamingSourceBase
    from .sources.subset import Subset as Subset
    from .sources.views.view import SourceView as SourceView
    from .stages.cache import Cache as Cache
    from .stages.fields import MergeFields as MergeFields
    from .stages.fields import Rename as Rename
    from .stages.fields import Select as Select
    from .stages.fields import SplitField as SplitField
    from .stages.graph import Graph as Graph
    from .stages.numeric import Cast as Cast
    from .stages.numeric import OneHot as OneHot
    from .stages.numeric import Rescale as Rescale
    from .stages.on_host.astype import AsType as AsType
    from .stages.on_host.lengths import Pad as Pad
    from .stages.on_host.lengths import Truncate as Truncate
    from .stages.on_host.lookup import Lookup as Lookup
    from .stages.on_host.tokens import TokenizeBytes as TokenizeBytes
    from .stages.rebatch import Rebatch as Rebatch

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "config.base": ("LocalPath",),
        "config.models": ("DataraxModuleConfig", "SourceConfig", "SourceConfigBase", "StructuralConfig"),
        "devices.callbacks": ("original_errors",),
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
        "extensions.contract": ("API_VERSION",),
        "extensions.hooks": ("HookRegistry", "Hooks"),
        "extensions.hookspecs": ("hookimpl",),
        "files.paths": ("LocalFilesOnlyMixin",),
        "modules.module": ("DataraxModule", "StructuralModule"),
        "order.order": ("Order",),
        "pipeline.build": ("build_source",),
        "pipeline.pipeline": ("Pipeline",),
        "records.gathers": ("aligned_empty",),
        "records.ragged": ("Ragged",),
        "registry.decoders": ("AnyDecoder", "Decoder", "DecoderRegistry"),
        "registry.pipeline_config": ("AnySource", "PipelineConfig", "load_config"),
        "registry.sources": ("SourceInfo", "SourceRegistry", "default_hooks", "record_failed"),
        "registry.stages": ("AnyStage", "Stage", "StageRegistry"),
        "registry.view_config": ("ViewConfig",),
        "sources.access": ("Access", "Capabilities"),
        "sources.columns": ("Columns", "columns_of"),
        "sources.eager": ("EagerSourceBase",),
        "sources.metadata": ("MetadataManager", "RecordMetadata"),
        "sources.iterables.source": ("IterableSource", "from_iterable"),
        "sources.sequence": ("SequenceSource", "SequenceSourceConfig", "from_sequence"),
        "sources.source": ("DataSourceModule",),
        "sources.streaming": ("StreamingSourceBase",),
        "sources.subset": ("Subset",),
        "sources.views.view": ("SourceView",),
        "stages.cache": ("Cache",),
        "stages.fields": ("MergeFields", "Rename", "Select", "SplitField"),
        "stages.graph": ("Graph",),
        "stages.numeric": ("Cast", "OneHot", "Rescale"),
        "stages.on_host.astype": ("AsType",),
        "stages.on_host.lengths": ("Pad", "Truncate"),
        "stages.on_host.lookup": ("Lookup",),
        "stages.on_host.tokens": ("TokenizeBytes",),
        "stages.rebatch": ("Rebatch",),
    },
)
forward_core()
