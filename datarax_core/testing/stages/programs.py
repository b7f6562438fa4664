"""The compiled stage under test: called with any records, epochs and keys, outside of a pipeline."""

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core.records.intake import completed, stored_fields
from datarax_core.records.narrowing import narrow
from datarax_core.records.spec import Batch, named_fields, spec_of, split_host_fields
from datarax_core.stages.apply import apply_stages
from datarax_core.stages.before_narrowing import intake_of
from datarax_core.stages.randomness import RecordIds, StageKeys
from datarax_core.stages.split_modules import SplitModules, Values

from .comparing import first_difference, rows_of_batch
from .declarations import DeviceDeclarations
from .subject import StageSubject, on_host

_ADDRESS = re.compile(r" at 0x[0-9a-f]+|\bid=\d+")


class Program:
    """A stage in compiled code, or uncompiled. Its variables go on from call to call until `restart`."""

    def __init__(self, stage: Any, *, is_compiled: bool = True) -> None:
        self.modules = SplitModules((stage,))
        self._begin = self.modules.read()
        self._run = jax.jit(self._traced) if is_compiled else self._traced

    def as_traced(self, batch: Batch, ids: RecordIds) -> list[Any]:
        """Return the program for such a batch, with its variables, in a form that ``==`` compares; nothing is compiled."""
        values = self.modules.read()
        program = traced(self._traced, values, batch, ids)
        return [*program, *(np.asarray(value).tobytes() for value in values)]

    def restart(self) -> None:
        """Set the variables to their first values."""
        self.modules.write(self._begin)

    def __call__(self, batch: Batch, ids: RecordIds) -> Batch:
        """Return what the stage makes of a batch, on the host."""
        made, values = self._run(self.modules.read(), batch, ids)
        self.modules.write(values)
        return on_host(made)

    def _traced(self, values: Values, batch: Batch, ids: RecordIds) -> tuple[Batch, Values]:
        stages = self.modules.structure.merge(values)
        made = apply_stages(stages, completed(batch, ids.epoch.shape[0]), ids)
        return made, self.modules.structure.values(stages, values)


class DeviceSubject(StageSubject):
    """A stage that runs in compiled code."""

    author: DeviceDeclarations

    def looks(self, built: Any) -> list[Any]:
        """Return the program of a built stage, what it makes of host fields, and how a pipeline calls it."""
        flags = [getattr(built, name, None) for name in ("stochastic", "takes_record_indices")]
        host_fields = split_host_fields(self.records)[1]
        made = built.host_fields(host_fields) if hasattr(built, "host_fields") else host_fields
        stored = stored_fields(spec_of(self.device_records))
        used = built.before_narrowing(stored) if hasattr(built, "before_narrowing") else None
        return [
            flags,
            *Program(built).as_traced(self.batch(built=built), self.ids()),
            list(named_fields(made)),
            made,
            repr(used),
        ]

    def other_than_made(self, stage: Any) -> str:
        """Return how a stage differs from the one under test in what it makes of all records; "" if it makes the same."""
        program, batch, ids = Program(stage), self.batch(), self.ids()
        if program.as_traced(batch, ids) == self.traced_of_all:
            return ""
        return self.difference(self.made_of_all, program(batch, ids))

    @functools.cached_property
    def traced_of_all(self) -> list[Any]:
        """The program for all records."""
        self.program.restart()
        return self.program.as_traced(self.batch(), self.ids())

    @functools.cached_property
    def program(self) -> Program:
        """The compiled stage, shared by tests that restart it."""
        return Program(self.built)

    @functools.cached_property
    def device_records(self) -> Batch:
        """The fields that devices hold: the stage is called with no others."""
        return split_host_fields(self.records)[0]

    def batch(
        self, rows: Sequence[int] | np.ndarray | None = None, *, is_taken: bool = True, built: Any = None
    ) -> Batch:
        """Return device arrays of rows of the records, all by default, as the stage is called with them.

        With ``is_taken``, fields are left out and converted as ``before_narrowing`` of the stage says, else all are narrowed;
        ``built`` is a stage in place of the one under test.
        """
        columns = self.device_records if rows is None else rows_of_batch(self.device_records, rows)
        if is_taken:
            columns = intake_of(spec_of(self.device_records), (self.built if built is None else built,), None).taken(
                columns
            )
        return jax.tree.map(jnp.asarray, narrow(columns))

    def ids(self, rows: Sequence[int] | np.ndarray | None = None, *, epoch: Any = 0, seed: int = 0) -> RecordIds:
        """Return the ids of records, as those of a pipeline with this seed; ``epoch`` is one for all, or one for each."""
        indices = np.arange(self.size) if rows is None else np.asarray(rows)
        key = StageKeys((self.built,), nnx.Rngs(seed)).raw_key_data
        epochs = np.broadcast_to(epoch, indices.shape).astype(np.uint32)
        return RecordIds(np.zeros(2, np.uint32) if key is None else key, epochs, indices.astype(np.uint32))

    def made(self, rows: Sequence[int] | np.ndarray | None = None, *, epoch: int = 0, seed: int = 0) -> Batch:
        """Return what the compiled stage, with its first variables, makes of rows of the records, all by default."""
        self.program.restart()
        return self.program(self.batch(rows), self.ids(rows, epoch=epoch, seed=seed))

    @functools.cached_property
    def made_of_all(self) -> Batch:
        """What the stage makes of all records."""
        return self.made()

    def difference(self, expected: Batch, found: Batch) -> str:
        """Return the first difference of two batches; "" if they are equal, but for the tolerance of floats."""
        return first_difference(expected, found, self.author.tolerance)


def traced(function: Any, *arguments: Any) -> list[Any]:
    """Return the program of a function of arrays, in a form that ``==`` compares: operations, and the bytes of constants.

    Equal programs make the same, and nothing has to be compiled to tell.
    """
    program = jax.make_jaxpr(function)(*arguments)
    constants = [(str(each.dtype), each.shape, each.tobytes()) for each in _constants(program)]
    return [_ADDRESS.sub("", str(program)), *constants]


def _constants(program: Any) -> Iterator[np.ndarray]:
    """Yield the constants of a program, and of all programs that it calls."""
    yield from map(np.asarray, getattr(program, "consts", ()))
    inner = getattr(program, "jaxpr", program)
    for equation in getattr(inner, "eqns", ()):
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")
        ):
            if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                yield from _constants(value)
