"""Calls of host stages: read-only columns go in, and what comes out is held against the element spec."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import jax
import numpy as np

from datarax_core.errors import SpecError
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec, check_batch, named_fields
from datarax_core.stages.apply import stage_fault, stage_name
from datarax_core.stages.randomness import is_stochastic, takes_record_indices

from .failures import FailedCall
from .generators import RecordGenerators

_COLUMNS: Final = (np.ndarray, Ragged)


class HostCalls:
    """The host stages of a pipeline, called one after another.

    Args:
        stages: The host stages.
        specs: The element specs before, between and after them.
        key_data: uint32 (2,): the pipeline's key; None if no stage is stochastic.
        title: The name of the source in errors.
        first: Number of the first of the stages in its pipeline.
        sizes_vary_from: Number of the first stage whose columns may be smaller than the spec says, and differ from batch to
            batch: one that is called with whole batches, or the first over a source of such batches. None if there is none.
    """

    def __init__(
        self,
        stages: Sequence[Any],
        specs: Sequence[ElementSpec],
        key_data: np.ndarray | None,
        title: str,
        *,
        first: int = 0,
        sizes_vary_from: int | None = None,
    ) -> None:
        self._calls: list[HostCall] = []
        for number, (stage, spec) in enumerate(zip(stages, specs[1:], strict=True), first):
            joined = _joined(self._calls[-1].stage, stage) if self._calls else None
            if joined is not None:
                self._calls.pop()
            made = stage if joined is None else joined
            sizes_vary = sizes_vary_from is not None and number >= sizes_vary_from
            self._calls.append(HostCall(made, number, key_data, _Checked(spec, sizes_vary=sizes_vary)))
        self._title = title

    def __call__(self, batch: Batch, epochs: np.ndarray | None, indices: np.ndarray) -> Batch:
        """Return the batch after all host stages, in read-only columns.

        Args:
            batch: Columns of the source.
            epochs: int64 (k,): the epochs of the records; None if no stage draws random numbers.
            indices: int64 (k,): their record indices.
        """
        batch = read_only(batch)
        for call in self._calls:
            try:
                batch = call(batch, epochs, indices)
            except StopIteration as error:  # a loop over batches would take it for its own end
                raise RuntimeError(f"{call.title} of the pipeline raised StopIteration") from error
            except Exception as error:
                named = FailedCall(call, batch, epochs, indices, self._title).explained(error, call.stage, call.number)
                if named is error:
                    raise
                raise named from error
        return batch


class HostCall:
    """One host stage at its place in a pipeline."""

    __slots__ = ("_checked", "_draws", "_key_data", "_lock", "_takes_indices", "number", "stage")

    def __init__(
        self, stage: Callable[..., Batch], number: int, key_data: np.ndarray | None, checked: "_Checked"
    ) -> None:
        self.stage, self.number = stage, number
        self._key_data, self._checked = key_data, checked
        self._draws, self._takes_indices = is_stochastic(stage), takes_record_indices(stage)
        self._lock = None if getattr(stage, "thread_safe", True) else _lock_of(stage)

    @property
    def title(self) -> str:
        """The name of the stage in errors."""
        return f"stage {self.number} ({stage_name(self.stage)})"

    def __call__(self, batch: Batch, epochs: np.ndarray | None, indices: np.ndarray) -> Batch:
        """Return what the stage makes of the batch, checked, in read-only columns."""
        arguments = self._arguments(epochs, indices) if self._draws or self._takes_indices else ()
        if self._lock is None:
            made = self.stage(batch, *arguments)
        else:
            with self._lock:
                made = self.stage(batch, *arguments)
        return self._checked(made, len(indices), self)

    def _arguments(self, epochs: np.ndarray | None, indices: np.ndarray) -> Sequence[Any]:
        arguments: list[Any] = []
        if self._draws:
            if self._key_data is None or epochs is None:
                raise ValueError(f"{self.title} is stochastic, and has its generators from the pipeline; iterate that")
            arguments.append(RecordGenerators(self._key_data, self.number, epochs, indices))
        if self._takes_indices:
            arguments.append(np.asarray(indices, np.int64))
        return arguments


def _lock_of(stage: Any) -> Any:
    """Return the lock of a stage that one thread calls at a time: a loop calls it ahead while step() or a clone does."""
    try:
        return _locks.setdefault(stage, threading.RLock())
    except TypeError:  # no hash, or no weak references
        return threading.RLock()


_locks: Final[WeakKeyDictionary[Any, Any]] = WeakKeyDictionary()


def _joined(stage: Any, following: Any) -> Any:
    """Return one stage in place of two, which the first makes by its method ``join``; None if it makes none.

    A stage that draws random numbers stays by itself: the joined one draws with the number of the second.
    """
    join = getattr(stage, "join", None)
    return None if join is None or is_stochastic(stage) else join(following)


class _Checked:
    """The check of a stage's batches against the spec after the stage."""

    __slots__ = ("_fields", "_sizes_vary", "_spec")

    def __init__(self, spec: ElementSpec | None, *, sizes_vary: bool) -> None:
        self._spec, self._sizes_vary = spec, sizes_vary
        self._fields: list[tuple[str, tuple[int | None, ...], np.dtype[Any]]] | None = None
        if isinstance(spec, dict) and spec and all(hasattr(leaf, "dtype") for leaf in spec.values()):
            self._fields = [(name, leaf.shape, leaf.dtype) for name, leaf in spec.items()]

    def __call__(self, made: Any, size: int, call: HostCall) -> Batch:
        """Return the batch that a stage made, in read-only columns.

        Raises:
            TypeError, SpecError: It is no batch of ``size`` rows that the spec describes; says what is wrong.
        """
        if self._fields is not None and type(made) is dict and len(made) == len(self._fields):
            batch = {}
            for name, shape, dtype in self._fields:
                column: Any = made.get(name)
                if type(column) not in _COLUMNS or column.dtype != dtype or column.shape != (size, *shape):
                    break
                batch[name] = _view(column) if type(column) is np.ndarray and column.flags.writeable else column
            else:
                return batch
        require_batch(made, size, call.stage, call.number)
        if self._spec is not None:
            check_batch(made, self._spec, size, origin=call.title, may_be_smaller=self._sizes_vary)
        return read_only(made)


def require_batch(made: Any, size: int, stage: Any, number: int) -> None:
    """Raise if what a host stage returned is no batch of ``size`` rows on the host.

    Raises:
        TypeError, PluginContractError: It is None, or has no columns on the host: a device array, a list, a number.
        SpecError: A column has another number of rows.
    """
    title = f"stage {number}"
    if made is None:
        raise stage_fault(stage, title, "returned None; a host stage returns the batch it made")
    fields = named_fields(made)
    if not fields:
        raise stage_fault(stage, title, "returned a batch without fields; a host stage returns the batch it made")
    for name, column in (_lists(made) or fields).items():
        if isinstance(column, jax.Array):
            problem = (
                f"returned a device array in field {name!r}; a host stage computes with NumPy alone, since it also runs on "
                "threads, in worker processes and in callbacks of compiled code"
            )
            raise stage_fault(stage, title, problem)
        if not isinstance(column, _COLUMNS) or not len(column.shape):
            kind = "an array without rows" if isinstance(column, np.ndarray) else f"a {type(column).__name__}"
            problem = (
                f"returned {kind} in field {name!r}; a column is a NumPy array or a Ragged, with a row for each record"
            )
            raise stage_fault(stage, title, problem)
        if column.shape[0] != size:
            raise SpecError(
                f"{title} ({stage_name(stage)}) returned {column.shape[0]} rows in field {name!r} for {size} records; a host "
                "stage returns a row for each record, in their order"
            )


def _lists(made: Any) -> dict[str, Any]:
    """Return, by name, lists of values that stand where a column should, so that messages do not name their items."""
    parts = made.items() if isinstance(made, Mapping) else ()
    return {str(name): part for name, part in parts if isinstance(part, list) and not any(map(np.ndim, part))}


def read_only(batch: Batch) -> Batch:
    """Return a batch in read-only views of its columns, on the host; ragged columns are read-only as they are."""
    if type(batch) is dict:
        return {name: _view(part) if type(part) is np.ndarray else read_only(part) for name, part in batch.items()}
    if type(batch) is np.ndarray:
        return _view(batch) if batch.flags.writeable else batch
    if isinstance(batch, Mapping | tuple | list):
        return jax.tree.map(read_only, batch)
    return read_only(np.asarray(batch)) if isinstance(batch, jax.Array | np.ndarray) else batch


def _view(column: np.ndarray) -> np.ndarray:
    view = column[:] if column.ndim else column[...]
    view.setflags(write=False)
    return view
