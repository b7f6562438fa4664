"""`Pipeline.scan`: a user's step over many batches in one compiled program, or a few for a long scan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from datarax_core.devices.callbacks import raising_original
from datarax_core.devices.layout import Layout
from datarax_core.errors import SpecError
from datarax_core.order.permutation import DEVICE_LIMIT
from datarax_core.records.spec import Batch
from datarax_core.routes.definition import Definition
from datarax_core.routes.programs import require_no_served_host_fields, served
from datarax_core.routes.shared_programs import Programs
from datarax_core.routes.table import route_of
from datarax_core.stages.randomness import RecordIds
from datarax_core.stages.split_modules import SplitModules, Structure, Values

_AT_ONCE: Final = 1 << 24  # records that one compiled program serves: 64 MiB of indices; a longer scan is run in parts


class ScanInParts:
    """The work of `Pipeline.scan` from a position on; it moves nothing.

    Raises:
        NotImplementedError: Compiled code cannot reach the source.
    """

    def __init__(self, definition: Definition, programs: Programs) -> None:
        self._definition = definition
        self._programs = programs
        self._route = route_of(definition)
        self._route.require_scan(definition.source)

    def __call__(
        self, step_fn: Callable[..., Any], *, length: int, modules: Sequence[Any], init_carry: Any, start: int
    ) -> Any:
        """Return the outputs, stacked; with ``init_carry`` (last carry, outputs). Modules and stages hold their new values."""
        if not callable(step_fn):
            raise TypeError(f"step_fn is a function of modules and a batch, not {step_fn!r:.80}")
        if isinstance(modules, str) or not isinstance(modules, Sequence):
            raise TypeError(f"modules is a tuple of modules, such as (model, optimizer), not {type(modules).__name__}")
        definition = self._definition
        require_no_served_host_fields(definition)
        size, has_carry = self._one_size(start, length), init_carry is not None
        at_once = max(1, _AT_ONCE // size)
        split = SplitModules((tuple(definition.applied), tuple(modules)))
        gather, arrays = self._route.compiled_reader(definition.reader, definition.layout, definition.intake)
        program = Scan(gather, split.structure, definition.rule.pad_last, step_fn, has_carry, definition.layout)
        run = self._programs.compiled(program, split.structure)
        run_compiled = raising_original if split.structure.moves_positions else self._route.run_compiled
        carry, outs = init_carry, []
        for done in range(0, length, at_once):
            rows = self._indices(start + done * size, min(at_once, length - done), size)
            record_ids = self._route.record_ids(definition, start + done * size, rows)
            to_read = self._to_read(start + done * size, rows)
            arguments = (split.read(), arrays, self._on_its_device(to_read), record_ids, carry)
            values, carry, out = run_compiled(run, *arguments)
            split.write(values)
            outs.append(out)
        out = outs[0] if len(outs) == 1 else jax.tree.map(lambda *parts: jnp.concatenate(parts), *outs)
        return (carry, out) if has_carry else out

    def _on_its_device(self, rows: np.ndarray) -> Any:
        """Return the indices on the device where the program runs, if that is one given device.

        A program that reads by a callback to the host has no other argument that would say where it runs.
        """
        sharding = self._definition.layout.data_sharding
        return jax.device_put(rows, sharding) if isinstance(sharding, SingleDeviceSharding) else rows

    def _one_size(self, start: int, length: int) -> int:
        """Return the size of the ``length`` batches from position ``start`` on.

        Raises:
            SpecError: They have several sizes; names the batch that begins to have another one.
        """
        sizes, at, left = self._definition.rule.sizes, start, length
        size = sizes.at(start)
        while left and (change := sizes.next_change(at)) is not None:
            alike = min(left, sizes.batches_between(at, change))
            at, left = sizes.position_after(at, alike), left - alike
            if left and sizes.at(at) != size:
                raise SpecError(
                    f"scan(length={length}) from position {start} on has batches of {size} up to position {at}, where its step "
                    f"{length - left} has {sizes.at(at)} (batches of {sizes.describe()}), and one program has one shape for "
                    f"all: take length={length - left}, and scan on from there, or iterate the pipeline over "
                    f"{self._definition.source.title}"
                )
        return size

    def _indices(self, start: int, steps: int, size: int) -> np.ndarray:
        """Return the record indices int32 (steps, batch size) of the batches from position ``start`` on."""
        source = self._definition.source
        if source.num_records > DEVICE_LIMIT:
            raise ValueError(f"scan addresses at most {DEVICE_LIMIT} records; {source.title} has more: iterate instead")
        indices = source.record_indices_at(start, steps * size, source.order_key_data())
        return np.asarray(indices, np.int32).reshape(steps, size)

    def _to_read(self, start: int, rows: np.ndarray) -> np.ndarray:
        """Return the indices by which the program reads: of a source that varies by epoch int32 (steps, batch size, 2)."""
        definition = self._definition
        if not definition.reader.varies_by_epoch:
            return rows
        epochs = np.asarray(definition.source.epochs_at(start, rows.size), np.int32).reshape(rows.shape)
        return np.stack([rows, epochs], axis=-1)


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
        self, values: Values, arrays: Any, indices: Any, record_ids: RecordIds | None, carry: Any
    ) -> tuple[Values, Any, Any]:
        """Return (new values, last carry, stacked outputs) of one step for each row of ``indices``."""
        mask = None if self.mask_field is None else np.ones(indices.shape[1], np.bool_)
        key_data = None if record_ids is None else record_ids.key_data
        by_step = None if record_ids is None else record_ids._replace(key_data=None)

        def body(state: tuple[Values, Any], x: Any) -> tuple[tuple[Values, Any], Any]:
            (values, carry), (rows, record_ids) = state, x
            stages, modules = self.modules.merge(values)
            batch = self.layout.gathered(self.gather, arrays, rows)
            record_ids = None if record_ids is None else record_ids._replace(key_data=key_data)
            batch = served(stages, batch, self.mask_field, mask, record_ids, layout=self.layout)
            if self.has_carry:
                carry, out = self.step_fn(carry, *modules, batch)
            else:
                out = self.step_fn(*modules, batch)
            return (self.modules.values((stages, modules), values), carry), out

        (values, carry), outs = jax.lax.scan(body, (values, carry), (indices, by_step))
        return values, carry, outs
