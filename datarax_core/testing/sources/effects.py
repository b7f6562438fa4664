"""Effects of a source's options: what can be observed of every source, and options that every config has."""

from itertools import islice
from typing import Any, Final
from unittest.mock import patch

import jax
import numpy as np

from datarax_core.records.spec import describe
from datarax_core.sources.source import DataSourceModule
from datarax_core.testing.checks import batches
from datarax_core.testing.options import Look, Shows

_POSITIONS: Final = 512
_RECORDS: Final = 4

OF_EVERY_CONFIG: Final[dict[str, list[Shows]]] = {
    "cacheable": [Shows(value=True), Shows(value=False)],
    "batch_stats_fn": [Shows(value=jax.tree.structure)],
    "precomputed_stats": [Shows(value={"mean": 0.0})],
    "stochastic": [Shows(value=True, needs={"stream_name": "another"}), Shows(value=False)],
    "stream_name": [Shows(value="another"), Shows(value="another", needs={"stochastic": True})],
}


def observed(source: DataSourceModule) -> dict[str, Any]:
    """Return the result of every function in `_LOOKS` for a source."""
    return {name: look(source) for name, look in _LOOKS.items()}


def _properties(source: DataSourceModule) -> Any:
    statistics = source.config.batch_stats_fn
    return [
        source.epoch_length,
        None if source.access == "stream" else source.num_records,
        getattr(source, "run_length", None),
        describe(source.element_spec()),
        source.access,
        source.capabilities,
        source.requires_rng_streams(),
        source.elements_ahead,
        source.get_statistics(),
        statistics and source.compute_statistics({"x": 0}),
        sorted(source.get_state()) if source.capabilities.resumable else None,
    ]


def _order(source: DataSourceModule) -> Any:
    if source.access == "stream":
        return None
    length = min(2 * (source.epoch_length or 1), _POSITIONS)
    return np.asarray(source.record_indices_at(0, length, source.order_key_data()))


def _records(source: DataSourceModule) -> Any:
    if source.access == "stream":
        return list(batches(source, _POSITIONS))
    rows = np.arange(min(_RECORDS, source.num_records))
    return [source.fetch(rows), source.get_batch(_RECORDS)]


def _elements(source: DataSourceModule) -> Any:
    return list(islice(source, _RECORDS))


def _reads(source: DataSourceModule) -> Any:
    """Return how many reads two requests for the same record cost, which shows whether records are kept."""
    if source.access == "stream":
        return None
    calls = 0
    read = type(source).get_records

    def counted(self: DataSourceModule, indices: Any) -> Any:
        nonlocal calls
        calls += 1
        return read(self, indices)

    with patch.object(type(source), "get_records", counted):
        source.fetch(np.zeros(1, np.int64))
        source.fetch(np.zeros(1, np.int64))
    return calls


_LOOKS: Final[dict[str, Look]] = {
    "properties": _properties,
    "order": _order,
    "records": _records,
    "elements": _elements,
    "reads": _reads,
}
