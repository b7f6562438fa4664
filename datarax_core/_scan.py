"""A user's step over many batches in one compiled program."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from ._host_errors import raising_noted
from ._modules import Split
from ._permutation import DEVICE_LIMIT
from ._plan import Plan
from ._programs import Scan, compiled
from ._routes import require_carried, scan_reader

_AT_ONCE: Final = 1 << 24  # records that one compiled program serves: 64 MiB of indices; a longer scan is run in parts


class ScanInParts:
    """What `Pipeline.scan` does from a position on; it moves nothing."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __call__(
        self, step_fn: Callable[..., Any], *, length: int, modules: Sequence[Any], init_carry: Any, start: int
    ) -> Any:
        """The outputs, stacked; with ``init_carry`` (last carry, outputs). Modules and stages hold their new values."""
        if not callable(step_fn):
            raise TypeError(f"step_fn is a function of modules and a batch, not {step_fn!r:.80}")
        if isinstance(modules, str) or not isinstance(modules, Sequence):
            raise TypeError(f"modules is a tuple of modules, such as (model, optimizer), not {type(modules).__name__}")
        size, has_carry = self._plan.rule.batch_size, init_carry is not None
        at_once = max(1, _AT_ONCE // size)
        split = Split((self._plan.stages, tuple(modules)))
        require_carried(self._plan.source, self._plan.stages)
        gather, arrays = scan_reader(self._plan.source, self._plan.layout)
        run = compiled(Scan(gather, split.structure, self._plan.rule.pad_last, step_fn, has_carry, self._plan.layout))
        carry, outs, on_host = init_carry, [], self._plan.source.access == "host"
        for done in range(0, length, at_once):
            rows = self._indices(start + done * size, min(at_once, length - done))
            keyed = self._plan.randomness.names(self._plan.source, start + done * size, rows)
            arguments = (split.read(), arrays, self._on_its_device(rows), keyed, carry)
            # what the host raises while it reads is raised as it is, for which the program is waited for
            values, carry, out = raising_noted(run, *arguments) if on_host else run(*arguments)
            split.write(values)
            outs.append(out)
        out = outs[0] if len(outs) == 1 else jax.tree.map(lambda *parts: jnp.concatenate(parts), *outs)
        return (carry, out) if has_carry else out

    def _on_its_device(self, rows: np.ndarray) -> Any:
        """Where the program runs, if that is one device: a callback to the host brings nothing that would say so."""
        sharding = self._plan.layout.data_sharding
        return jax.device_put(rows, sharding) if isinstance(sharding, SingleDeviceSharding) else rows

    def _indices(self, start: int, steps: int) -> np.ndarray:
        if self._plan.source.num_records > DEVICE_LIMIT:
            title = self._plan.source.title
            raise ValueError(f"scan addresses at most {DEVICE_LIMIT} records; {title} has more: iterate instead")
        indices = self._plan.source.record_indices_at(
            start, steps * self._plan.rule.batch_size, self._plan.source.order_words()
        )
        return np.asarray(indices, np.int32).reshape(steps, self._plan.rule.batch_size)
