"""How batches are made from positions: gathered by the compiled step, or fetched by the host and handed to it."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from ._batch_rule import BatchRule
from ._modules import Split
from ._narrow import narrow
from ._programs import Step, compiled, with_fields
from ._randomness import RecordNames, StageKeys
from ._stats import Stats
from .source import DataSourceModule
from .spec import Batch, split_beside


class Prepared(NamedTuple):
    """A batch before its stages: what the compiled step takes, and the fields that ride beside it."""

    content: Any
    rows: np.ndarray | None
    keyed: RecordNames | None
    mask: np.ndarray | None
    beside: dict[str, Any]


class Route:
    """Makes batches of one source through its stages, which are taken apart here, once for many batches.

    `prepare` reads records and may run on another thread, one at a time; `finish` runs the stages, and is for the thread
    that the batches are served on. The route of a loop may use threads, which end with it.
    """

    def __init__(
        self,
        source: DataSourceModule,
        stages: Any,
        rule: BatchRule,
        randomness: StageKeys,
        stats: Stats,
        *,
        is_loop: bool,
    ) -> None:
        self._source = source
        self._rule = rule
        self._stats = stats
        self._randomness = randomness
        self._stages = tuple(stages)
        self._split = Split(self._stages)
        self._gather: Callable[[Any, jax.Array], Batch] | None = None
        self._arrays: Any = None
        if source.access == "device":
            self._gather, self._arrays = source.compiled_records()
        self._has_beside = bool(split_beside(source.element_spec())[1])
        self._is_plain = self._gather is None and not stages and rule.pad_last is None
        self._run = compiled(Step(self._gather, self._split.structure, rule.pad_last))
        self._is_loop = is_loop
        self._words = source.order_words()
        self._version = 0
        self._window = source.order_window(rule.batch_size, background=is_loop)

    @property
    def reads_on_host(self) -> bool:
        """Whether `prepare` does work that is worth doing ahead."""
        return self._gather is None

    def serves(self, source: DataSourceModule, stages: tuple[Any, ...]) -> bool:
        """Whether this is a route from ``source`` through these very stages, none of which can have changed since."""
        same = len(stages) == len(self._stages) and all(map(operator.is_, stages, self._stages))
        return self._source is source and same and not any(isinstance(stage, nnx.Module) for stage in stages)

    def version(self) -> int:
        """A number for the order that the source has now: it moves on when the source is seeded or shuffled anew."""
        words = self._source.order_words()
        if words is not self._words:
            self._words, self._version = words, self._version + 1
            self._window = self._source.order_window(self._rule.batch_size, background=self._is_loop)
        return self._version

    def batch_at(self, start: int, size: int) -> Batch:
        """The batch of the ``size`` records from position ``start`` on, completed if the rule says so."""
        return self.finish(self.prepare((start, size, self.version())))

    def prepare(self, wanted: tuple[int, int, int]) -> Prepared:
        """Read the records of (start, size, version)."""
        start, size, _ = wanted
        indices, mask = self._rule.padded(self._window.take(start, size))
        keyed = self._randomness.names(self._source, start, indices)
        if self._gather is not None:
            beside = self._source.beside_records(indices) if self._has_beside else {}
            return Prepared(self._arrays, indices, keyed, mask, beside)
        began = perf_counter()
        try:
            batch, beside = split_beside(self._source.fetch(indices))
            read = perf_counter()
            placed = jax.device_put(narrow(batch))
        except Exception as error:
            error.add_note(f"while {self._source.title} read the records at positions {start} to {start + size - 1}")
            raise
        self._stats.add_reading(source=read - began, transfer=perf_counter() - read)
        return Prepared(placed, None, keyed, mask, beside)

    def finish(self, prepared: Prepared) -> Batch:
        """The batch after its stages, whose variables are written."""
        batch = prepared.content
        if not self._is_plain:
            began = perf_counter()
            batch, values = self._run(self._split.read(), batch, prepared.rows, prepared.mask, prepared.keyed)
            self._split.write(values)
            self._stats.stages += perf_counter() - began
        if prepared.beside:
            return with_fields(batch, prepared.beside, "text or object fields, which ride beside the batch,")
        return batch


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
