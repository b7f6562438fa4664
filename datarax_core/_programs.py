"""The compiled programs of a pipeline: one batch, and a whole ``scan``. Equal pipelines share them."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ._layout import Layout
from ._mask import regrouped
from ._modules import Structure, Values, apply_stages
from .errors import SpecError
from .spec import Batch


@dataclass(frozen=True)
class Step:
    """One batch: its records (gathered here, if ``gather`` is given), the mask, the stages, its place on the devices."""

    gather: Callable[[Any, jax.Array], Batch] | None
    stages: Structure
    mask_field: str | None
    layout: Layout

    def __call__(self, values: Values, source: Any, indices: Any, mask: Any, keyed: Any) -> tuple[Batch, Values]:
        """(batch, new values of the stages' variables); ``source`` is arrays to gather from, or the batch as fetched."""
        stages = self.stages.merge(values)
        batch = source if self.gather is None else self.layout.gathered(self.gather, source, indices)
        batch = served(stages, batch, self.mask_field, mask, keyed, layout=self.layout)
        return batch, self.stages.values(stages)


@dataclass(frozen=True)
class Scan:
    """A ``lax.scan`` of a user's step over batches. ``modules`` is (stages, the user's modules), variables shared."""

    gather: Callable[[Any, jax.Array], Batch]
    modules: Structure
    mask_field: str | None
    step_fn: Callable[..., Any]
    has_carry: bool
    layout: Layout

    def __call__(self, values: Values, arrays: Any, indices: Any, keyed: Any, carry: Any) -> tuple[Values, Any, Any]:
        """(new values, last carry, stacked outputs) of one step for each row of ``indices``; ``keyed`` names its records."""
        mask = None if self.mask_field is None else np.ones(indices.shape[1], np.bool_)
        words, parts = (None, None) if keyed is None else (keyed[0], keyed[1:])

        def body(state: tuple[Values, Any], x: Any) -> tuple[tuple[Values, Any], Any]:
            (values, carry), (rows, names) = state, x
            stages, modules = self.modules.merge(values)
            batch = self.layout.gathered(self.gather, arrays, rows)
            keyed = None if names is None else (words, *names)
            batch = served(stages, batch, self.mask_field, mask, keyed, layout=self.layout)
            if self.has_carry:
                carry, out = self.step_fn(carry, *modules, batch)
            else:
                out = self.step_fn(*modules, batch)
            return (self.modules.values((stages, modules)), carry), out

        (values, carry), outs = jax.lax.scan(body, (values, carry), (indices, parts))
        return values, carry, outs


def compiled(program: Step | Scan) -> Callable[..., Any]:
    """The program under ``jax.jit``: one for all equal programs, so that a second pipeline like the first compiles nothing.

    Looked up once a route; a call then hashes nothing. Bounded, because a program holds its user's functions.
    """
    table = (program.stages if isinstance(program, Step) else program.modules).table
    return _shared(program) if table is None else table.compiled(program)


_shared = functools.lru_cache(maxsize=256)(jax.jit)


def served(stages: Any, batch: Batch, mask_field: str | None, mask: Any, keyed: Any, *, layout: Layout) -> Batch:
    """The batch after its stages, laid over the devices, as all that goes into the stages is."""
    rows = [leaf.shape[0] for leaf in jax.tree.leaves(batch)]
    if keyed is not None:
        keyed = (keyed[0], *layout.by_row(keyed[1:]))
    batch = staged(stages, batch, mask_field, layout.by_row(mask), keyed)
    return layout.laid(batch, rows[0]) if rows else batch


def staged(stages: Any, batch: Batch, mask_field: str | None, mask: Any, keyed: Any) -> Batch:
    """The batch after its stages. A mask goes in beside the other fields, and comes out even if a stage leaves it out."""
    if mask_field is None:
        return apply_stages(stages, batch, keyed)
    batch = apply_stages(stages, with_fields(batch, {mask_field: mask}, "the mask of pad_last"), keyed)
    if not isinstance(batch, Mapping):
        raise SpecError(
            f"pad_last={mask_field!r} adds a field to each batch, but the stages make a {type(batch).__name__}"
        )
    return {**batch, mask_field: regrouped(mask, batch, mask_field)}


def with_fields(batch: Batch, fields: Mapping[str, Any], what: str) -> Batch:
    """The batch with more fields, none of which it may have already."""
    if not isinstance(batch, Mapping):
        raise SpecError(f"{what} needs batches that are dicts of named fields, not {type(batch).__name__}")
    if taken := sorted(fields.keys() & batch.keys()):
        raise SpecError(f"{what} cannot be added: the batch has a field {taken[0]!r} already; choose another name")
    return {**batch, **fields}
