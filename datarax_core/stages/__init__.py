"""Stages: functions of a batch, run in compiled code, and the random keys that they are called with.

Imports `registry`, for the stages that a config names, and the packages below it.
"""

from datarax_core.moved import forward_names

from .cache import Cache, check_record_stages, describe_caches, renew_caches
from .field_paths import field_of, leaf_of, no_such_field, path_of, struct_of, value_at, with_new_field, with_value_at
from .fields import MergeFields, Rename, Select, SplitField
from .graph import SOURCE, Graph
from .numeric import Cast, OneHot, Rescale
from .on_host.astype import AsType
from .on_host.generators import RecordGenerators
from .on_host.lengths import Pad, Truncate
from .on_host.lookup import Lookup
from .on_host.per_record import per_record
from .on_host.tokens import TokenizeBytes
from .rebatch import Rebatch

__all__ = [
    "SOURCE",
    "AsType",
    "Cache",
    "Cast",
    "Graph",
    "Lookup",
    "MergeFields",
    "OneHot",
    "Pad",
    "Rebatch",
    "RecordGenerators",
    "Rename",
    "Rescale",
    "Select",
    "SplitField",
    "TokenizeBytes",
    "Truncate",
    "check_record_stages",
    "describe_caches",
    "field_of",
    "leaf_of",
    "no_such_field",
    "path_of",
    "per_record",
    "renew_caches",
    "struct_of",
    "value_at",
    "with_new_field",
    "with_value_at",
]

__getattr__ = forward_names(
    __name__, dict.fromkeys(("AnyStage", "Stage", "StageRegistry", "default_stages"), "datarax_core.registry")
)
