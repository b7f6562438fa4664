"""The element spec of the batches that a pipeline serves, found by tracing its stages; no record is read."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.errors import SpecError
from datarax_core.order.batch_sizes import ScheduledBatchSizes
from datarax_core.records.spec import (
    Batch,
    ElementSpec,
    batch_struct,
    device_spec,
    host_fields_after,
    spec_of,
    split_host_fields,
    with_host_fields,
)
from datarax_core.routes.definition import Definition
from datarax_core.routes.programs import batch_title, staged
from datarax_core.routes.table import route_of
from datarax_core.stages.field_paths import telling_of_host_fields
from datarax_core.stages.randomness import structs_of
from datarax_core.stages.split_modules import SplitModules


def served_spec(definition: Definition) -> ElementSpec:
    """Return the element spec of a served batch's records."""
    spec, host_fields = split_host_fields(definition.reader.element_spec())
    host_fields = host_fields_after(definition.compiled, host_fields)
    made = _through_stages(definition, spec, definition.rule.pad_last)
    return with_host_fields(made, host_fields) if host_fields else made


def require_free_mask(definition: Definition) -> None:
    """Raise if the stages make a field of the mask's name, which the mask would replace, or a batch without names.

    Raises:
        SpecError: Names ``pad_last``.
    """
    mask_field = definition.rule.pad_last
    try:
        made = _through_stages(definition, split_host_fields(definition.reader.element_spec())[0], None)
    except Exception:  # noqa: BLE001 - stages that use the mask do not run without it; others fail where they are served
        return
    if not isinstance(made, Mapping):
        raise SpecError(f"pad_last={mask_field!r} adds a field to each batch, but the stages make {batch_title(made)}")
    if mask_field in made:
        raise SpecError(
            f"pad_last={mask_field!r} is also the name of a field that the stages make, which the mask would replace; "
            "choose another name for one of them"
        )


def require_stages_take_sizes(definition: Definition) -> None:
    """Raise what a stage raises for a later size of a schedule, such as one that groups do not divide: now, not at the border.

    The stages are traced for each size, unless there is only one.
    """
    sizes = definition.rule.batch_size
    if not isinstance(sizes, ScheduledBatchSizes) or not definition.has_compiled_stages:
        return
    spec = split_host_fields(definition.reader.element_spec())[0]
    for size in sizes.distinct:
        try:
            _through_stages(definition, spec, definition.rule.pad_last, size)
        except Exception as error:
            error.add_note(f"while the stages were traced for batches of {size}, one of the sizes {sizes.describe()}")
            raise


def _through_stages(
    definition: Definition, spec: ElementSpec, mask_field: str | None, size: int | None = None
) -> ElementSpec:
    """Return the spec of the records after the stages, given that of the source's fields for devices.

    ``size`` is the number of records in a batch, None for the first of the pipeline's.
    """
    size = definition.rule.sizes.distinct[0] if size is None else size
    stages = SplitModules(tuple(definition.applied))
    mask = None if mask_field is None else jax.ShapeDtypeStruct((size,), jnp.bool_)
    ids = route_of(definition).record_ids(definition, 0, np.zeros(definition.num_parts, np.int64))

    def through(values: Any, batch: Batch, mask: Any, record_ids: Any) -> Batch:
        return staged(stages.structure.merge(values), batch, mask_field, mask, record_ids)

    shapes = batch_struct(device_spec(spec), size)
    with telling_of_host_fields(definition.reader.element_spec()):
        return spec_of(jax.eval_shape(through, stages.read(), shapes, mask, structs_of(ids, size)))
