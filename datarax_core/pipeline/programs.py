"""The compiled programs of a pipeline: a step, a whole ``scan``, and a step in somebody else's trace."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import SingleDeviceSharding

from datarax_core.devices.callbacks import HostRecords, raising_original
from datarax_core.devices.layout import Layout
from datarax_core.errors import SpecError
from datarax_core.order.permutation import DEVICE_LIMIT
from datarax_core.records.spec import Batch, host_fields_after, split_host_fields, with_fields
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.apply import apply_stages
from datarax_core.stages.split_modules import SplitModules, Structure, Values

from .definition import Definition


def regrouped(mask: Any, batch: Mapping[str, Any], field: str) -> Any:
    """The mask bool (N,), in groups (N // g, g) if the stages regrouped the batch like that.

    They did if they regrouped the mask itself; or, where they left it out, if that is how every array of the batch begins.
    """
    if field in batch:
        made = batch[field]
        return mask.reshape(made.shape) if made.size == mask.size else mask
    shapes = {leaf.shape[:2] for leaf in jax.tree.leaves(batch)}
    groups: tuple[int, ...] = shapes.pop() if len(shapes) == 1 else ()
    is_grouped = len(groups) == 2 and groups[0] != mask.size and groups[0] * groups[1] == mask.size
    return mask.reshape(groups) if is_grouped else mask


@dataclass(frozen=True)
class Step:
    """One batch: its records (gathered here, if ``gather`` is given), the mask, the stages, its place on the devices."""

    gather: Callable[[Any, jax.Array], Batch] | None
    stages: Structure
    mask_field: str | None
    layout: Layout

    def __call__(self, values: Values, source: Any, indices: Any, mask: Any, record_ids: Any) -> tuple[Batch, Values]:
        """(batch, new values of the stages' variables); ``source`` is arrays to gather from, or the batch as fetched."""
        stages = self.stages.merge(values)
        batch = source if self.gather is None else self.layout.gathered(self.gather, source, indices)
        batch = served(stages, batch, self.mask_field, mask, record_ids, layout=self.layout)
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

    def __call__(
        self, values: Values, arrays: Any, indices: Any, record_ids: Any, carry: Any
    ) -> tuple[Values, Any, Any]:
        """(new values, last carry, stacked outputs) of one step for each row of ``indices``."""
        mask = None if self.mask_field is None else np.ones(indices.shape[1], np.bool_)
        words, parts = (None, None) if record_ids is None else (record_ids[0], record_ids[1:])

        def body(state: tuple[Values, Any], x: Any) -> tuple[tuple[Values, Any], Any]:
            (values, carry), (rows, names) = state, x
            stages, modules = self.modules.merge(values)
            batch = self.layout.gathered(self.gather, arrays, rows)
            record_ids = None if names is None else (words, *names)
            batch = served(stages, batch, self.mask_field, mask, record_ids, layout=self.layout)
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


def served(stages: Any, batch: Batch, mask_field: str | None, mask: Any, record_ids: Any, *, layout: Layout) -> Batch:
    """The batch after its stages, laid over the devices, as all that goes into the stages is."""
    rows = [leaf.shape[0] for leaf in jax.tree.leaves(batch)]
    if record_ids is not None:
        record_ids = (record_ids[0], *layout.by_row(record_ids[1:]))
    batch = staged(stages, batch, mask_field, layout.by_row(mask), record_ids)
    return layout.laid(batch, rows[0]) if rows else batch


def staged(stages: Any, batch: Batch, mask_field: str | None, mask: Any, record_ids: Any) -> Batch:
    """The batch after its stages. A mask goes in beside the other fields, and comes out even if a stage leaves it out."""
    if mask_field is None:
        return apply_stages(stages, batch, record_ids)
    batch = apply_stages(stages, with_fields(batch, {mask_field: mask}, "the mask of pad_last"), record_ids)
    if not isinstance(batch, Mapping):
        raise SpecError(
            f"pad_last={mask_field!r} adds a field to each batch, but the stages make a {type(batch).__name__}"
        )
    return {**batch, mask_field: regrouped(mask, batch, mask_field)}


def require_carried(source: DataSourceModule, stages: Sequence[Any]) -> None:
    """Refuse to compile a pipeline whole if a field that no device has would be in its batches.

    Raises:
        SpecError: Names the fields.
    """
    if host_fields_after(stages, split_host_fields(source.element_spec())[1]):
        source.require_no_host_fields()


def scan_reader(source: DataSourceModule, layout: Layout) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
    """(gather, arrays) for traced indices: the source's own, or a callback to the host. See `require_carried`."""
    if source.access == "device":
        return source.compiled_records(layout.data_sharding)
    return HostRecords.of(source)


def traced_records(source: DataSourceModule, layout: Layout, indices: jax.Array) -> Batch:
    """The records at traced ``indices`` in anybody's trace, who may hand in the source, but not its data.

    See `require_carried`.
    """
    if split_host_fields(source.element_spec())[1]:
        return layout.gathered(lambda _, own: source.fetch_by_callback(own), (), indices)
    if source.access == "device" and layout.data_sharding is not None:
        graphdef, state = nnx.split(source)
        return layout.gathered(_FetchOverMesh(graphdef), state, indices)  # a map over devices cannot close over tracers
    return layout.gathered(lambda _, own: source.fetch_traced(own), (), indices)


@dataclass(frozen=True, slots=True)
class _FetchOverMesh:
    graphdef: Any

    def __call__(self, state: Any, indices: jax.Array) -> Batch:
        batch: Batch = nnx.merge(self.graphdef, state).fetch_traced(indices, over_mesh=True)
        return batch


_AT_ONCE: Final = 1 << 24  # records that one compiled program serves: 64 MiB of indices; a longer scan is run in parts


class ScanInParts:
    """What `Pipeline.scan` does from a position on; it moves nothing."""

    def __init__(self, plan: Definition) -> None:
        self._definition = plan

    def __call__(
        self, step_fn: Callable[..., Any], *, length: int, modules: Sequence[Any], init_carry: Any, start: int
    ) -> Any:
        """The outputs, stacked; with ``init_carry`` (last carry, outputs). Modules and stages hold their new values."""
        if not callable(step_fn):
            raise TypeError(f"step_fn is a function of modules and a batch, not {step_fn!r:.80}")
        if isinstance(modules, str) or not isinstance(modules, Sequence):
            raise TypeError(f"modules is a tuple of modules, such as (model, optimizer), not {type(modules).__name__}")
        size, has_carry = self._definition.rule.batch_size, init_carry is not None
        at_once = max(1, _AT_ONCE // size)
        split = SplitModules((self._definition.stages, tuple(modules)))
        require_carried(self._definition.source, self._definition.stages)
        gather, arrays = scan_reader(self._definition.source, self._definition.layout)
        run = compiled(
            Scan(gather, split.structure, self._definition.rule.pad_last, step_fn, has_carry, self._definition.layout)
        )
        carry, outs, on_host = init_carry, [], self._definition.source.access == "host"
        for done in range(0, length, at_once):
            rows = self._indices(start + done * size, min(at_once, length - done))
            record_ids = self._definition.randomness.record_ids(self._definition.source, start + done * size, rows)
            arguments = (split.read(), arrays, self._on_its_device(rows), record_ids, carry)
            # what the host raises while it reads is raised as it is, for which the program is waited for
            values, carry, out = raising_original(run, *arguments) if on_host else run(*arguments)
            split.write(values)
            outs.append(out)
        out = outs[0] if len(outs) == 1 else jax.tree.map(lambda *parts: jnp.concatenate(parts), *outs)
        return (carry, out) if has_carry else out

    def _on_its_device(self, rows: np.ndarray) -> Any:
        """Where the program runs, if that is one device: a callback to the host brings nothing that would say so."""
        sharding = self._definition.layout.data_sharding
        return jax.device_put(rows, sharding) if isinstance(sharding, SingleDeviceSharding) else rows

    def _indices(self, start: int, steps: int) -> np.ndarray:
        if self._definition.source.num_records > DEVICE_LIMIT:
            title = self._definition.source.title
            raise ValueError(f"scan addresses at most {DEVICE_LIMIT} records; {title} has more: iterate instead")
        indices = self._definition.source.record_indices_at(
            start, steps * self._definition.rule.batch_size, self._definition.source.order_key_data()
        )
        return np.asarray(indices, np.int32).reshape(steps, self._definition.rule.batch_size)
