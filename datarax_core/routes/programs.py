"""Compiled programs: a batch through its stages and onto the devices, shared by all equal pipelines."""

import itertools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from datarax_core.devices.layout import Layout
from datarax_core.errors import SpecError
from datarax_core.records.intake import completed
from datarax_core.records.spec import Batch, describe, host_fields_after, named_fields, split_host_fields, with_fields
from datarax_core.stages.apply import apply_stages, stage_name
from datarax_core.stages.randomness import RecordIds
from datarax_core.stages.split_modules import Structure, Values

from .definition import Definition, require_one_shape


@dataclass(frozen=True)
class Step:
    """The program of one batch: gather its records (if there is a ``gather``), run the stages, lay it over the devices."""

    gather: Callable[[Any, jax.Array], Batch] | None
    stages: Structure
    mask_field: str | None
    layout: Layout

    def __call__(
        self, values: Values, source: Any, indices: Any, mask: Any, record_ids: RecordIds | None
    ) -> tuple[Batch, Values]:
        """Return (batch, new values of the stages' variables).

        ``source`` is the arrays to gather from; without a ``gather``, the batch as it was read.
        """
        stages = self.stages.merge(values)
        if self.gather is None:
            batch = completed(source, _rows_of(source, mask, record_ids))
        else:
            batch = self.layout.gathered(self.gather, source, indices)
        batch = served(stages, batch, self.mask_field, mask, record_ids, layout=self.layout)
        return batch, self.stages.values(stages, values)


def _rows_of(batch: Batch, mask: Any, record_ids: RecordIds | None) -> int:
    """Return the number of rows of a batch; 1 if nothing of it is left that has rows."""
    known = [
        *jax.tree.leaves(batch),
        *([] if mask is None else [mask]),
        *([] if record_ids is None else record_ids[1:2]),
    ]
    return int(known[0].shape[0]) if known else 1


def served(
    stages: Any, batch: Batch, mask_field: str | None, mask: Any, record_ids: RecordIds | None, *, layout: Layout
) -> Batch:
    """Return the batch after its stages; it, its mask and its record ids are laid over the devices."""
    rows = [leaf.shape[0] for leaf in jax.tree.leaves(batch)]
    if record_ids is not None:
        by_row = layout.by_row(record_ids._replace(key_data=None))
        record_ids = by_row._replace(key_data=record_ids.key_data)
    batch = staged(stages, batch, mask_field, layout.by_row(mask), record_ids)
    return layout.laid(batch, rows[0]) if rows else batch


def staged(stages: Any, batch: Batch, mask_field: str | None, mask: Any, record_ids: RecordIds | None) -> Batch:
    """Return the batch after its stages. A mask goes in as a field, and comes out even if a stage leaves it out."""
    if mask_field is None:
        return apply_stages(stages, batch, record_ids)
    batch = with_fields(batch, {mask_field: mask}, "the mask of pad_last")
    for number, stage in enumerate(stages):
        made = apply_stages((stage,), batch, record_ids, first=number)
        _require_rows(batch, made, mask, mask_field, f"stage {number} ({stage_name(stage)})")
        batch = made
    if not isinstance(batch, Mapping):
        raise SpecError(f"pad_last={mask_field!r} adds a field to each batch, but the stages make {batch_title(batch)}")
    return {**batch, mask_field: _regrouped(mask, batch, mask_field)}


def _require_rows(before: Batch, made: Batch, mask: Any, mask_field: str, title: str) -> None:
    """Raise if a stage changed the number of rows, which the mask no longer fits; scalars have no rows.

    Raises:
        SpecError: Names stage and field.
    """
    if not isinstance(made, Mapping) or not isinstance(before, Mapping):
        return
    size, had = mask.size, {name: np.shape(leaf) for name, leaf in named_fields(before).items()}
    shapes = {name: np.shape(leaf) for name, leaf in named_fields(made).items() if np.ndim(leaf)}
    new = [name for name in shapes if name != mask_field]
    is_fit = {name: _has_rows(shape, size, had.get(name, shape)) for name, shape in shapes.items()}
    changed = [name for name in shapes if name in had and _has_rows(had[name], size, had[name]) and not is_fit[name]]
    if new and not any(is_fit[name] for name in new):
        changed += new
    if changed:
        name = changed[0]
        raise SpecError(
            f"{title} makes {shapes[name][0]} rows of the {size} in field {name!r}, so that the mask {mask_field!r} "
            "of pad_last would not say which rows are real; take drop_last, or change the number of rows in the training step"
        )


def _has_rows(shape: tuple[int, ...], size: int, before: tuple[int, ...]) -> bool:
    """Return whether an array has ``size`` rows: as they came, in groups (N // g, g, ...), or time-major (T, N, ...)."""
    is_time_major = len(shape) > 1 and shape[1] == size and shape[0] in before[1:]
    return is_time_major or size in itertools.accumulate(shape, operator.mul)


def batch_title(batch: Any) -> str:
    """Return the kind of a batch, or of its spec, for messages: ``a single array``, ``a tuple``."""
    is_array = isinstance(batch, jax.Array | jax.ShapeDtypeStruct)
    return "a single array" if is_array else f"a {type(batch).__name__}"


def _regrouped(mask: Any, batch: Mapping[str, Any], field: str) -> Any:
    """Return the mask bool (N,), in groups (N // g, g) if the stages regrouped the batch into such groups.

    They did if they regrouped the mask itself; or, where they left the mask out, if every array of the batch has such leading
    dimensions.
    """
    if field in batch:
        made = batch[field]
        return mask.reshape(made.shape) if made.size == mask.size else mask
    shapes = {leaf.shape[:2] for leaf in jax.tree.leaves(batch)}
    groups: tuple[int, ...] = shapes.pop() if len(shapes) == 1 else ()
    is_grouped = len(groups) == 2 and groups[0] != mask.size and groups[0] * groups[1] == mask.size
    return mask.reshape(groups) if is_grouped else mask


def require_no_served_host_fields(definition: Definition) -> None:
    """Raise if compiled code cannot make the pipeline's batches: they have host fields, or differ in shape.

    Raises:
        SpecError: Names the fields, or the stage.
    """
    require_one_shape(definition)
    spec = definition.reader.element_spec()
    if not (served := host_fields_after(definition.compiled, split_host_fields(spec)[1])):
        return
    if not definition.on_host:
        definition.source.require_no_host_fields()
    raise SpecError(
        f"the host stages of the pipeline over {definition.source.title} make fields that compiled code cannot carry: "
        f"{', '.join(f'{name} ({title})' for name, title in sorted(describe(served).items()))}; leave them out, such as with "
        "{type: select, fields: [image, label]}, bring them to one shape by a host stage, or iterate from Python"
    )
