"""What the JSON Schema of configs says of one: the registry's, which describes whole pipelines."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from datarax_core.registry.sources import SourceRegistry


def schema_of(registry: SourceRegistry) -> Callable[[Mapping[str, Any]], str]:
    """Says of the fields of a source why the schema refuses them, and where; nothing if it does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about plugins that cannot be used, which this one is none of
        schema = registry.json_schema()
    return lambda fields: _refusal(schema, {"source": dict(fields), "batch_size": 1})


def _refusal(schema: dict[str, Any], value: Mapping[str, Any]) -> str:
    Draft202012Validator.check_schema(schema)
    error: Any = best_match(Draft202012Validator(schema).iter_errors(dict(value)))
    return "" if error is None else f"{'.'.join(map(str, error.absolute_path)) or 'it'}: {error.message}"
