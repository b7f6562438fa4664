"""Records on the host: element specs, checks of batches, values stacked to arrays, and checked narrowing.

Imports `errors`.
"""

from .dtypes import are_one_kind, common_text, dtype_title, fits_device, goes_to_device, is_text, limits, require_no_key
from .elements import batch_of, element_spec_of
from .foreign_data import advice_for
from .gathers import ALIGNMENT, aligned_empty, gather_runs
from .intake import Changes, StoredField
from .joining import empty_batch, host_column, joined_batches, joined_columns, placed_batch
from .names import DOTTED_PATTERN, dotted_name, plain_name, split_name
from .narrowed import NarrowedField, narrowed_fields
from .ragged import Ragged
from .spec import (
    Batch,
    ElementSpec,
    batch_struct,
    check_batch,
    common_spec,
    describe,
    device_spec,
    differences,
    has_shape,
    named_fields,
    nbytes_of,
    nested_fields,
    spec_of,
    split_host_fields,
    varying_spec,
    with_host_fields,
)
from .stacking import ValuePath, column_of, text_as
from .tables import HostTable

__all__ = [
    "ALIGNMENT",
    "DOTTED_PATTERN",
    "Batch",
    "Changes",
    "ElementSpec",
    "HostTable",
    "NarrowedField",
    "Ragged",
    "StoredField",
    "ValuePath",
    "advice_for",
    "aligned_empty",
    "are_one_kind",
    "batch_of",
    "batch_struct",
    "check_batch",
    "column_of",
    "common_spec",
    "common_text",
    "describe",
    "device_spec",
    "differences",
    "dotted_name",
    "dtype_title",
    "element_spec_of",
    "empty_batch",
    "fits_device",
    "gather_runs",
    "goes_to_device",
    "has_shape",
    "host_column",
    "is_text",
    "joined_batches",
    "joined_columns",
    "limits",
    "named_fields",
    "narrowed_fields",
    "nbytes_of",
    "nested_fields",
    "placed_batch",
    "plain_name",
    "require_no_key",
    "spec_of",
    "split_host_fields",
    "split_name",
    "text_as",
    "varying_spec",
    "with_host_fields",
]
