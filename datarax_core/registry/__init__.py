"""Registries: the sources, stages and decoders that a config can name, the pipeline config and its JSON Schema.

Names are imported when they are first used, since listing the installed plugins loads neither pydantic, pluggy nor JAX.
Imports `extensions`, `config` and, when a class is checked, `sources`.
"""

from typing import TYPE_CHECKING

from datarax_core.faces import lazy_face
from datarax_core.moved import forward_names

if TYPE_CHECKING:
    from .decoders import AnyDecoder as AnyDecoder
    from .decoders import Decoder as Decoder
    from .decoders import DecoderRegistry as DecoderRegistry
    from .decoders import FunctionDecoder as FunctionDecoder
    from .decoders import default_decoders as default_decoders
    from .decoders import stack_values as stack_values
    from .pipeline_config import AnySource as AnySource
    from .pipeline_config import PipelineConfig as PipelineConfig
    from .pipeline_config import load_config as load_config
    from .pipeline_config import parse_config as parse_config
    from .sources import SourceInfo as SourceInfo
    from .sources import SourceRegistry as SourceRegistry
    from .sources import default_hooks as default_hooks
    from .sources import default_registry as default_registry
    from .sources import given_or_default as given_or_default
    from .sources import record_failed as record_failed
    from .stages import AnyStage as AnyStage
    from .stages import Stage as Stage
    from .stages import StageRegistry as StageRegistry
    from .stages import default_stages as default_stages
    from .view_config import ParentSource as ParentSource
    from .view_config import ViewConfig as ViewConfig
    from .view_config import given_in_a_file as given_in_a_file

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "decoders": ("AnyDecoder", "Decoder", "DecoderRegistry", "FunctionDecoder", "default_decoders", "stack_values"),
        "pipeline_config": ("AnySource", "PipelineConfig", "load_config", "parse_config"),
        "sources": (
            "SourceInfo",
            "SourceRegistry",
            "default_hooks",
            "default_registry",
            "given_or_default",
            "record_failed",
        ),
        "stages": ("AnyStage", "Stage", "StageRegistry", "default_stages"),
        "view_config": ("ParentSource", "ViewConfig", "given_in_a_file"),
    },
    forward_names(
        __name__,
        {
            "PluginInfo": "datarax_core.extensions",
            "PluginListing": "datarax_core.extensions:PluginRegistry",
            "PluginRegistry": "datarax_core.extensions",
        },
    ),
)
