"""How batches are made from positions: gathered by the compiled step, or fetched by the host and handed to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ._batch_rule import BatchRule
from ._modules import Split
from ._narrow import narrow
from ._programs import Step, compiled, with_fields
from .source import DataSourceModule
from .spec import Batch, split_beside


class Route:
    """Makes batches of one source through its stages, which are taken apart here, once for many batches."""

    def __init__(self, source: DataSourceModule, stages: Any, rule: BatchRule) -> None:
        self._source = source
        self._rule = rule
        self._split = Split(tuple(stages))
        self._read, gather = _reader(source)
        self._gathers = gather is not None
        self._is_plain = gather is None and not stages and rule.pad_last is None
        self._run = compiled(Step(gather, self._split.structure, rule.pad_last))

    def reads(self, source: DataSourceModule) -> bool:
        """Whether this is a route to ``source``, and not to a copy of it."""
        return self._source is source

    def batch_at(self, start: int, size: int) -> Batch:
        """The batch of the ``size`` records from position ``start`` on, completed if the rule says so."""
        indices, mask = self._rule.padded(self._source.host_indices(start, size))
        batch, beside = self._read(indices)
        if not self._is_plain:
            rows = indices if self._gathers else None
            batch, values = self._run(self._split.read(), batch, rows, mask)
            self._split.write(values)
        return with_fields(batch, beside, "text or object fields, which ride beside the batch,") if beside else batch


def _reader(source: DataSourceModule) -> tuple[Callable[[np.ndarray], tuple[Any, dict[str, Any]]], Any]:
    """(what reads at concrete indices: the step's argument and the fields beside it; the step's gather, or None)."""
    if source.access == "device":
        gather, arrays = source.compiled_records()
        has_beside = bool(split_beside(source.element_spec())[1])
        if not has_beside:
            return lambda _: (arrays, {}), gather
        return lambda indices: (arrays, source.beside_records(indices)), gather

    def fetch(indices: np.ndarray) -> tuple[Any, dict[str, Any]]:
        batch, beside = split_beside(source.fetch(indices))
        return jax.device_put(narrow(batch)), beside

    return fetch, None


def scan_reader(source: DataSourceModule) -> tuple[Callable[[Any, jax.Array], Batch], Any]:
    """(gather, arrays) for traced indices: the source's own, or a callback to the host."""
    _, beside = split_beside(source.element_spec())
    if source.access == "device" and not beside:
        return source.compiled_records()
    return _TracedFetch(source), ()


@dataclass(frozen=True, eq=False)
class _TracedFetch:
    source: DataSourceModule

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _TracedFetch) and self.source is other.source

    def __hash__(self) -> int:
        return id(self.source)

    def __call__(self, _: Any, indices: jax.Array) -> Batch:
        return self.source.fetch_traced(indices)
