"""Host stages written as a function of one record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from datarax_core.records.elements import batch_of, element_spec_of
from datarax_core.records.spec import Batch, ElementSpec, spec_of


def per_record(
    fn: Callable[..., Any],
    element_spec: ElementSpec | Callable[[ElementSpec], ElementSpec] | None = None,
    *,
    stochastic: bool = False,
    takes_record_indices: bool = False,
) -> "PerRecord":
    """Return a host stage that calls ``fn(record[, rng][, index])`` for each record of a batch.

    Args:
        fn: A function of one record, which has the structure of the batch: NumPy arrays (read-only), NumPy scalars, texts,
            bytes. It returns a record of the same fields or others; ``{**record, "image": ...}`` hands on those that it does
            not name, as they are. The others are stacked to columns without conversions that change a value. To be used with
            ``workers``, it is defined in a module.
        element_spec: The element spec of what ``fn`` returns, or a function from the spec of its argument to that. None for the
            axes of a shape that vary from record to record. Without it, the stage is run on one record, whose shapes and dtypes
            all others must have.
        stochastic: Whether ``fn`` is called with a ``np.random.Generator`` of the record.
        takes_record_indices: Whether ``fn`` is called with the record's index.
    """
    return PerRecord(fn, element_spec, stochastic=stochastic, takes_record_indices=takes_record_indices)


class PerRecord:
    """Host stage that calls a function for each record; made by `per_record`."""

    on_host = True

    def __init__(
        self,
        fn: Callable[..., Any],
        element_spec: ElementSpec | Callable[[ElementSpec], ElementSpec] | None,
        *,
        stochastic: bool,
        takes_record_indices: bool,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"per_record takes a function of one record, not {fn!r:.80}")
        self.fn, self.given_spec = fn, element_spec
        self.stochastic, self.takes_record_indices = bool(stochastic), bool(takes_record_indices)
        self.name = f"per_record({getattr(fn, '__name__', type(fn).__name__)})"

    def element_spec(self, spec: ElementSpec) -> ElementSpec | None:
        """Return the element spec of what the function returns; None if that is not known before it is called."""
        return self.given_spec(spec) if callable(self.given_spec) else self.given_spec

    def __call__(self, batch: Batch, *rngs_and_indices: Sequence[Any]) -> Batch:
        """Return the results of the function for each record, stacked.

        Raises:
            SpecError: A result is not as the spec says, or not as the first one; names row and field.
        """
        records = _records(batch)
        arguments = [list(map(int, each)) if isinstance(each, np.ndarray) else each for each in rngs_and_indices]
        fn = self.fn
        if arguments:
            made = [fn(record, *(each[row] for each in arguments)) for row, record in enumerate(records)]
        else:
            made = [fn(record) for record in records]
        spec = None if self.given_spec is None else self.element_spec(spec_of(batch))
        kept = _handed_on(batch, records, made)
        if not kept:
            return self._stacked(made, spec)
        names = list(made[0])
        if len(kept) < len(names):
            made = [{name: value for name, value in result.items() if name not in kept} for result in made]
            if isinstance(spec, Mapping):
                spec = {name: struct for name, struct in spec.items() if name not in kept}
            kept |= self._stacked(made, spec)
        return {name: kept[name] for name in names}

    def _stacked(self, made: list[Any], spec: ElementSpec | None) -> Batch:
        return batch_of(made, element_spec_of(made[0], self._title(0)) if spec is None else spec, self._title)

    def _title(self, row: int) -> str:
        return f"the result of {self.name} for row {row}"


def _records(batch: Batch) -> list[Any]:
    """Return the records of a batch, in its structure: views of arrays, NumPy scalars, and objects."""
    if type(batch) is dict and all(hasattr(column, "dtype") for column in batch.values()):
        names = tuple(batch)
        return [dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    leaves, form = jax.tree.flatten(batch)
    return [jax.tree.unflatten(form, [leaf[row] for leaf in leaves]) for row in range(len(leaves[0]))]


def _handed_on(batch: Batch, records: list[Any], made: list[Any]) -> dict[str, Any]:
    """Return the columns of fields that are in all results what they were in the records: they need not be stacked again."""
    if type(batch) is not dict or not all(type(result) is dict for result in made):
        return {}
    kept = {}
    for name in made[0]:
        if name in batch and all(
            result.get(name, made) is record[name] for record, result in zip(records, made, strict=True)
        ):
            kept[name] = batch[name]
    return kept
