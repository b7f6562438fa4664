"""The source under test: its config, sources made from the config, and the records that every route must serve."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter

from datarax_core.config.models import SourceConfig
from datarax_core.records.spec import Batch, split_host_fields
from datarax_core.registry.pipeline_config import AnySource
from datarax_core.sources.source import DataSourceModule
from datarax_core.sources.streaming import StreamingSourceBase
from datarax_core.sources.views.view import SourceView
from datarax_core.testing.checks import (
    BATCH,
    batch_of_records,
    batches,
    difference,
    joined,
    not_claimed,
    part,
    require,
    rows_of,
)
from datarax_core.testing.options import Look, Shows, fields_of

from .declarations import Declarations
from .effects import OF_EVERY_CONFIG, observed

_ANY_SOURCE: TypeAdapter[SourceConfig] = TypeAdapter(AnySource)

_MOST_KEPT: Final = 1 << 22  # records of which a test keeps all

_MOST_COMPARED: Final = 512  # positions at which routes are compared
_PAST_THE_EPOCH: Final = 84  # positions: two batches that 2, 3 or 7 hosts can share


class Subject:
    """The source under test, made as its author declares."""

    noun, base, remedy = "source", "SourceConfig", ""

    def __init__(self, author: Declarations, folder: Path) -> None:
        self.author = author
        self.folder = folder
        self.broken: set[str] = set()
        """The names of the tests that failed."""

    # -- config and source ----------------------------------------------------------------------------------------------

    @functools.cached_property
    def given(self) -> Mapping[str, Any] | SourceConfig:
        """The config as the author declares it."""
        return self.author.make_config(self.folder)

    @functools.cached_property
    def config(self) -> SourceConfig:
        """The config, validated."""
        return self.validated(self.given)

    @property
    def fields(self) -> dict[str, Any]:
        """The options that the author set, by name, not validated."""
        return fields_of(self)

    def validated(self, config: Mapping[str, Any] | SourceConfig) -> SourceConfig:
        """Return a validated config, of the class registered for its type."""
        return _ANY_SOURCE.validate_python(config, context={"registry": self.author.registry})

    def build(self, seed: int = 0, config: SourceConfig | None = None) -> DataSourceModule:
        """Return a new source of a config; None is the config under test."""
        return self.author.make_source(self.config if config is None else config, seed)

    @functools.cached_property
    def source(self) -> DataSourceModule:
        """A source shared by all tests that do not advance it."""
        return self.build()

    # -- what can be observed of the config ----------------------------------------------------------------------------

    def require_config(self) -> None:
        """Every source has a config."""

    def observed(self, config: SourceConfig | None, at: Look | None) -> Any:
        """Return what ``at`` returns for the source of a config, or all that can be observed of it."""
        source = self.build(config=config)
        return observed(source) if at is None else at(source)

    def usual_trials(self, option: str) -> Sequence[Shows] | None:
        """Return the values to try for an option of every source; one without use for this kind of source needs no effect."""
        own, core_s = (cls.model_fields.get(option) for cls in (type(self.config), SourceConfig))
        if own and core_s and own.annotation == core_s.annotation and option in self._without_use:
            return [Shows(value=trial.value, needs=trial.needs, at=_config_of) for trial in OF_EVERY_CONFIG[option]]
        return OF_EVERY_CONFIG.get(option)

    @functools.cached_property
    def _without_use(self) -> tuple[str, ...]:
        """The options of every config that cannot change a source of this kind, and that core accepts."""
        if isinstance(self.source, SourceView) and not self.source.renumbers:
            return "stochastic", "stream_name"  # the order is the parent's
        if self.is_stream and not isinstance(self.source, StreamingSourceBase | SourceView):
            return ("cacheable",)  # nothing is read again
        if not self.is_stream and self.records > _MOST_KEPT:
            return ("cacheable",)  # it would take as much memory
        return ()

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of pipeline configs."""
        return self.author.registry.json_schema()

    def in_whole_config(
        self, fields: dict[str, Any], refusal_of: Callable[[Mapping[str, Any]], str] | None = None
    ) -> dict[str, Any]:
        """Return a whole pipeline config with the source; a view that `make_source` makes over one of its own names another.

        ``refusal_of`` returns why the schema refuses a whole config.
        """
        whole: dict[str, Any] = {"source": fields, "batch_size": 1}
        missing = [name for name in ("source", "sources") if getattr(self.config, name, "") is None]
        if not missing or refusal_of is None:
            return whole
        known = ({"type": name} for name in self.author.registry.names())
        parent = next((config for config in known if not refusal_of({**whole, "source": config})), None)
        if parent is None:
            not_claimed(
                "no installed source can stand below the view without options; the schema describes whole configs"
            )
        return {**whole, "source": {**fields, missing[0]: parent if missing[0] == "source" else [parent]}}

    # -- properties of the source ---------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """The name of the source in messages."""
        return self.source.title

    @property
    def is_stream(self) -> bool:
        """Whether the source is read forward only."""
        return self.source.access == "stream"

    @property
    def is_shuffled(self) -> bool:
        """Whether the order of the source depends on a key."""
        return self.source.order_key_data() is not None

    @property
    def batch_size(self) -> int | None:
        """The ``batch_size`` of pipelines over the source; None if it decides its batches."""
        return BATCH if self.source.batch_sizes is None else None

    @property
    def host_fields(self) -> list[str]:
        """The names of the host fields: fields whose dtype no device has."""
        return sorted(split_host_fields(self.source.element_spec())[1])

    @functools.cached_property
    def length(self) -> int | None:
        """The number of records of an epoch; None for a stream without a length."""
        return self.source.epoch_length

    @property
    def records(self) -> int:
        """The number of record indices of an indexed source."""
        return self.source.num_records

    def require_indexed(self) -> None:
        """Skip the test if the source is a stream: it has no random access."""
        if self.is_stream:
            not_claimed(f"{self.title} is a stream and does not claim random access")

    def require_stream(self) -> None:
        """Skip the test if the source has random access: it is no stream."""
        if not self.is_stream:
            not_claimed(f"{self.title} has random access and is no stream")

    def require_shuffled(self) -> None:
        """Skip the test if no key decides the order of the source."""
        if not self.is_shuffled:
            not_claimed(f"{self.title} serves its records in sequence; declare a shuffled config to test its shuffle")

    def require_resumable(self) -> None:
        """Skip the test if the source does not claim to be resumable."""
        if not self.source.capabilities.resumable:
            not_claimed(f"{self.title} does not claim to have states: its capabilities say resumable=False")

    @property
    def has_loops(self) -> bool:
        """Whether ``for record in source`` works: a stream of an author's own ``get_batch`` need not define ``__iter__``."""
        return not self.is_stream or type(self.source).__iter__ is not DataSourceModule.__iter__

    @property
    def can_restart(self) -> bool:
        """Whether the source can start over: not a live stream, nor one that does not define ``reset``."""
        try:
            self.source.require_restart()
        except NotImplementedError:
            return False
        return True

    @property
    def few(self) -> int:
        """A number of records that a source serves twice, one after another: 6, or fewer of a stream that ends soon."""
        few = min(6, self.num_compared // 2)
        if not few:
            not_claimed(f"{self.title} ends after {self.num_compared} record, which are too few")
        return few

    # -- records that every route must serve ----------------------------------------------------------------------------

    def indices(self, start: int, size: int) -> np.ndarray:
        """Return the record indices at positions from ``start`` on, computed in a single call; int (size,)."""
        return np.asarray(self.source.record_indices_at(start, size, self.source.order_key_data()))

    @property
    def num_compared(self) -> int:
        """The number of positions at which routes are compared: less than `wanted` if a stream ends before."""
        return rows_of(self.served)

    @property
    def wanted(self) -> int:
        """The number of positions to compare at: an epoch and the head of the next, at most 512."""
        return _MOST_COMPARED if self.length is None else min(_MOST_COMPARED, self.length + _PAST_THE_EPOCH)

    @functools.cached_property
    def served(self) -> Batch:
        """The records at these positions, from position 0 on; every route must serve the same."""
        if self.is_stream:
            return joined(batches(self.build(), self.wanted, self.wanted))
        indices = self.source.indices_to_read(0, self.indices(0, self.wanted))
        return joined([self.source.get_records(indices)])

    def batch_of(self, records: Iterable[Any]) -> Batch:
        """Return single records of the source as one batch, on the host."""
        return batch_of_records(records, self.source.element_spec())

    def deviation(self, start: int, found: Batch) -> str:
        """Return how a batch differs from the records at positions from ``start`` on; "" if it does not."""
        return self.difference(part(self.served, slice(start, start + rows_of(found))), found)

    def difference(self, expected: Batch, found: Batch) -> str:
        """Return the first difference of two batches of the source; "" if they are equal."""
        return difference(expected, found, may_be_padded=self.source.differs_in_shape)

    def require_served(self, start: int, found: Batch, by: str, remedy: str) -> None:
        """Fail the test unless a batch has the records at positions from ``start`` on.

        Args:
            start: The first position of the batch.
            found: The batch.
            by: The route that gave the batch, in words.
            remedy: What to change in the source; the end of the message.
        """
        text = self.deviation(start, found)
        require(
            not text,
            f"{self.title} promises the same order by every route, but {by} served other records from position {start} on: "
            f"{text}. {remedy}",
        )


def _config_of(source: DataSourceModule) -> dict[str, Any]:
    return source.config.model_dump(include={"stochastic", "stream_name", "cacheable"})
