"""The JSON Schema of pipeline configs, of what is installed or what registries hold."""

from typing import Any

from ._schema import Kind, schema_of
from .config import PipelineConfig
from .decoders import DecoderRegistry, default_decoders
from .registry import SourceRegistry
from .stages import StageRegistry, default_stages


def pipeline_schema(
    sources: SourceRegistry, stages: StageRegistry | None = None, decoders: DecoderRegistry | None = None
) -> tuple[dict[str, Any], list[str]]:
    """(the schema, why plugins are left out of it); what is installed stands in for registries that are not given."""
    stages = default_stages() if stages is None else stages
    decoders = default_decoders() if decoders is None else decoders
    kinds = {
        "source": Kind(sources, sources.config_type),
        "stage": Kind(stages, stages.get),
        "decoder": Kind(decoders, decoders.get),
    }
    return schema_of(PipelineConfig, kinds)
