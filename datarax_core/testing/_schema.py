"""What the JSON Schema of configs says of one: the registry's, which describes whole pipelines."""

import warnings
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticOmit, core_schema

from datarax_core.config import SourceConfig
from datarax_core.decoders import Decoder
from datarax_core.registry import SourceRegistry


def complaint(registry: SourceRegistry, config: SourceConfig, fields: Mapping[str, Any]) -> str:
    """Why the schema refuses a source with these fields, with their place; empty if it does not."""
    of_pipelines = getattr(registry, "json_schema", None)
    if of_pipelines is None:
        return _complaint(type(config).model_json_schema(schema_generator=_WithoutCode), dict(fields))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about plugins that cannot be used, which this one is none of
        schema = of_pipelines()
    return _complaint(schema, {"source": dict(fields), "batch_size": 1})


def _complaint(schema: dict[str, Any], value: dict[str, Any]) -> str:
    Draft202012Validator.check_schema(schema)
    error: Any = best_match(Draft202012Validator(schema).iter_errors(value))
    return "" if error is None else f"{'.'.join(map(str, error.absolute_path)) or 'it'}: {error.message}"


class _WithoutCode(GenerateJsonSchema):
    """Leaves out fields that no file can hold, such as functions."""

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> JsonSchemaValue:  # noqa: ARG002
        raise PydanticOmit

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        # of what is installed, one each
        return {} if issubclass(schema["cls"], Decoder) else super().model_schema(schema)
