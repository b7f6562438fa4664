"""The JSON Schema of a config: one place to ask for it."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticOmit, core_schema

from datarax_core.config import SourceConfig
from datarax_core.decoders import Decoder
from datarax_core.registry import SourceRegistry


class _WithoutCode(GenerateJsonSchema):
    """Leaves out fields that no file can hold, such as functions."""

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> JsonSchemaValue:  # noqa: ARG002
        raise PydanticOmit

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return (
            {} if issubclass(schema["cls"], Decoder) else super().model_schema(schema)
        )  # of what is installed, one each


def schema_of(registry: SourceRegistry, config: SourceConfig) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that a config of this type has to pass: the registry's, or that of its class alone."""
    of_registry = getattr(registry, "json_schema", None)
    if of_registry is not None:
        schema: dict[str, Any] = of_registry()
        return schema
    return type(config).model_json_schema(schema_generator=_WithoutCode)
