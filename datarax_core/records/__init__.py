"""Records on the host: element specs, checks of batches, values stacked to arrays, and checked narrowing.

Imports `errors`.
"""

from .dtypes import fits_device, limits, require_no_key
from .elements import batch_of, element_spec_of
from .narrowing import ALIGNMENT, aligned_empty
from .spec import (
    Batch,
    ElementSpec,
    batch_struct,
    check_batch,
    describe,
    device_spec,
    differences,
    named_fields,
    nbytes_of,
    nested_fields,
    spec_of,
    split_host_fields,
    with_host_fields,
)

__all__ = [
    "ALIGNMENT",
    "Batch",
    "ElementSpec",
    "aligned_empty",
    "batch_of",
    "batch_struct",
    "check_batch",
    "describe",
    "device_spec",
    "differences",
    "element_spec_of",
    "fits_device",
    "limits",
    "named_fields",
    "nbytes_of",
    "nested_fields",
    "require_no_key",
    "spec_of",
    "split_host_fields",
    "with_host_fields",
]
