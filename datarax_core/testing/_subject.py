"""The source under test: its config, sources made of it, and the records that it has to serve."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import TypeAdapter

from datarax_core.config.models import SourceConfig
from datarax_core.records.spec import Batch, split_host_fields
from datarax_core.registry.pipeline_config import AnySource
from datarax_core.sources.source import DataSourceModule

from ._compare import difference, joined, part, rows_of
from ._verdict import not_claimed, require

if TYPE_CHECKING:
    from ._declarations import Declarations

_ANY_SOURCE: TypeAdapter[SourceConfig] = TypeAdapter(AnySource)

BATCH: Final = 14
"""Records in a batch, where nothing asks for another number."""

_AT_MOST: Final = 512  # positions that routes are compared at
_PAST_THE_EPOCH: Final = 84  # enough for two batches that are shared by 2, 3 or 7 hosts


class Subject:
    """The source under test, made as its author says."""

    def __init__(self, author: "Declarations", folder: Path) -> None:
        self.author = author
        self.folder = folder

    # -- how it is made -------------------------------------------------------------------------------------------------

    @functools.cached_property
    def given(self) -> Mapping[str, Any] | SourceConfig:
        """The config as the author gives it."""
        return self.author.make_config(self.folder)

    @functools.cached_property
    def config(self) -> SourceConfig:
        """The config, validated."""
        return self.validated(self.given)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that the author gave, as they were given."""
        if isinstance(self.given, Mapping):
            return dict(self.given)
        return {"type": self.given.type} | {name: getattr(self.given, name) for name in self.given.model_fields_set}

    def validated(self, config: Mapping[str, Any] | SourceConfig) -> SourceConfig:
        """A config of the registered class."""
        return _ANY_SOURCE.validate_python(config, context={"registry": self.author.registry})

    def build(self, seed: int = 0, config: SourceConfig | None = None) -> DataSourceModule:
        """A new source."""
        return self.author.make_source(self.config if config is None else config, seed)

    @functools.cached_property
    def source(self) -> DataSourceModule:
        """One source of it, for tests that do not move it."""
        return self.build()

    # -- what it says of itself -----------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.source.title

    @property
    def is_stream(self) -> bool:
        """Whether it is read forward only."""
        return self.source.access == "stream"

    @property
    def is_shuffled(self) -> bool:
        """Whether a key decides its order."""
        return self.source.order_key_data() is not None

    @property
    def beside(self) -> list[str]:
        """The fields that no device has."""
        return sorted(split_host_fields(self.source.element_spec())[1])

    @functools.cached_property
    def length(self) -> int | None:
        """Records in an epoch; None for a stream that does not say."""
        return self.source.epoch_length

    @property
    def records(self) -> int:
        """Record indices of an indexed source."""
        return self.source.num_records

    def require_indexed(self) -> None:
        """Skip a test of random access for a stream."""
        if self.is_stream:
            not_claimed(f"{self.title} is a stream, and claims no random access")

    def require_stream(self) -> None:
        """Skip a test of streams for an indexed source."""
        if not self.is_stream:
            not_claimed(f"{self.title} has random access, and is read by that")

    def require_shuffled(self) -> None:
        """Skip a test of shuffles for a source whose order no key decides."""
        if not self.is_shuffled:
            not_claimed(f"{self.title} serves its records in sequence; give a shuffled config to test its shuffle")

    def require_resumable(self) -> None:
        """Skip a test of states for a source that claims none."""
        if not self.source.capabilities.resumable:
            not_claimed(f"{self.title} claims no states: its capabilities say resumable=False")

    # -- what it has to serve -------------------------------------------------------------------------------------------

    def indices(self, start: int, size: int) -> np.ndarray:
        """The records at positions of its own order, in one call."""
        return np.asarray(self.source.record_indices_at(start, size, self.source.order_key_data()))

    @property
    def stretch(self) -> int:
        """How many positions routes are compared at: an epoch and a bit of the next, unless that is long, or it ends."""
        return rows_of(self.served)

    @property
    def wanted(self) -> int:
        """How many positions that would be of a stream without an end."""
        return _AT_MOST if self.length is None else min(_AT_MOST, self.length + _PAST_THE_EPOCH)

    @functools.cached_property
    def served(self) -> Batch:
        """The records of its stream that routes are compared at, from the first on."""
        if self.is_stream:
            return joined(batches(self.build(), self.wanted, self.wanted))
        return joined([self.source.get_records(self.indices(0, self.wanted))])

    def deviation(self, start: int, found: Batch) -> str:
        """How these differ from the records that stand at ``start`` and on; empty if they do not."""
        return difference(part(self.served, slice(start, start + rows_of(found))), found)

    def require_served(self, start: int, found: Batch, by: str, remedy: str) -> None:
        """Fail unless these are the records that stand at ``start`` and on."""
        text = self.deviation(start, found)
        require(
            not text,
            f"{self.title} promises one order in all routes, but {by} served other records from position {start} on: "
            f"{text}. {remedy}",
        )


def batches(source: DataSourceModule, total: int, size: int = BATCH) -> Iterator[Batch]:
    """``total`` records of a source by `get_batch`, or less if it ends."""
    while total > 0:
        try:
            batch = source.get_batch(min(size, total))
        except StopIteration:
            return
        total -= rows_of(batch)
        yield batch
