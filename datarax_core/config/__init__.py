"""Configs: immutable pydantic models, the types of their fields, and config files.

A file is read with the line of every value, so that each mistake is reported at its place. Imports `errors`, and pydantic and
PyYAML; never JAX.
"""

from datarax_core.moved import forward_names

from .addresses import NOT_READ, READ_SCHEMES, REMOTE, refusal_of, require_local, scheme_of, without_file_scheme
from .base import (
    NOT_NULL,
    Count,
    Flag,
    FrozenConfig,
    Integer,
    LocalFile,
    LocalPath,
    LocalPattern,
    Name,
    NonNegative,
    Real,
    having,
    never,
    only_if,
    plugin_schema,
)
from .by_name import listed_by_key
from .models import (
    DataraxModuleConfig,
    SourceConfig,
    SourceConfigBase,
    StructuralConfig,
)
from .redaction import redacted, require_no_credentials, without_query
from .shuffling import Shuffling, given_or, require_stochastic, shuffling_is_stochastic, stream_rules

__all__ = [
    "NOT_NULL",
    "NOT_READ",
    "READ_SCHEMES",
    "REMOTE",
    "Count",
    "DataraxModuleConfig",
    "Flag",
    "FrozenConfig",
    "Integer",
    "LocalFile",
    "LocalPath",
    "LocalPattern",
    "Name",
    "NonNegative",
    "Real",
    "Shuffling",
    "SourceConfig",
    "SourceConfigBase",
    "StructuralConfig",
    "given_or",
    "having",
    "listed_by_key",
    "never",
    "only_if",
    "plugin_schema",
    "redacted",
    "refusal_of",
    "require_local",
    "require_no_credentials",
    "require_stochastic",
    "scheme_of",
    "shuffling_is_stochastic",
    "stream_rules",
    "without_file_scheme",
    "without_query",
]

__getattr__ = forward_names(
    __name__,
    {
        **dict.fromkeys(("AnySource", "PipelineConfig", "load_config", "parse_config"), "datarax_core.registry"),
        "SHUFFLE_STREAM": "datarax_core.config.shuffling",
        "named_by_type": "datarax_core.config.base",
    },
)
