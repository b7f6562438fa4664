"""Stages: functions of a batch, run in compiled code, and the random keys that they are called with.

Imports `registry`, for the stages that a config names, and the packages below it.
"""

from typing import TYPE_CHECKING

from datarax_core.faces import lazy_face
from datarax_core.moved import forward_names

if TYPE_CHECKING:
    from .cache import Cache as Cache
    from .cache import check_record_stages as check_record_stages
    from .cache import describe_caches as describe_caches
    from .cache import renew_caches as renew_caches
    from .field_paths import field_of as field_of
    from .field_paths import leaf_of as leaf_of
    from .field_paths import no_such_field as no_such_field
    from .field_paths import path_of as path_of
    from .field_paths import struct_of as struct_of
    from .field_paths import value_at as value_at
    from .field_paths import with_new_field as with_new_field
    from .field_paths import with_value_at as with_value_at
    from .fields import MergeFields as MergeFields
    from .fields import Rename as Rename
    from .fields import Select as Select
    from .fields import SplitField as SplitField
    from .graph import SOURCE as SOURCE
    from .graph import Graph as Graph
    from .numeric import Cast as Cast
    from .numeric import OneHot as OneHot
    from .numeric import Rescale as Rescale
    from .on_host.astype import AsType as AsType
    from .on_host.generators import RecordGenerators as RecordGenerators
    from .on_host.lengths import Pad as Pad
    from .on_host.lengths import Truncate as Truncate
    from .on_host.lookup import Lookup as Lookup
    from .on_host.per_record import per_record as per_record
    from .on_host.tokens import TokenizeBytes as TokenizeBytes
    from .rebatch import Rebatch as Rebatch

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "cache": ("Cache", "check_record_stages", "describe_caches", "renew_caches"),
        "field_paths": (
            "field_of",
            "leaf_of",
            "no_such_field",
            "path_of",
            "struct_of",
            "value_at",
            "with_new_field",
            "with_value_at",
        ),
        "fields": ("MergeFields", "Rename", "Select", "SplitField"),
        "graph": ("Graph", "SOURCE"),
        "numeric": ("Cast", "OneHot", "Rescale"),
        "on_host.astype": ("AsType",),
        "on_host.generators": ("RecordGenerators",),
        "on_host.lengths": ("Pad", "Truncate"),
        "on_host.lookup": ("Lookup",),
        "on_host.per_record": ("per_record",),
        "on_host.tokens": ("TokenizeBytes",),
        "rebatch": ("Rebatch",),
    },
    forward_names(
        __name__, dict.fromkeys(("AnyStage", "Stage", "StageRegistry", "default_stages"), "datarax_core.registry")
    ),
)
