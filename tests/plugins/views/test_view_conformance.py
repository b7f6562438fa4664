"""The conformance tests of sources, for views as users write them: wrappers, an index view, records that are made, a table."""

from functools import cache
from typing import Any

import numpy as np
import view_sources
from flax import nnx
from view_sources import EveryOtherConfig, Logged, LoggedConfig, LookedUp, Pairs

from datarax_core import DataSourceModule, SourceView
from datarax_core.registry import SourceRegistry
from datarax_core.testing import SourceConformance
from datarax_memory import MemorySource, MemorySourceConfig

LENGTH = 60
IDS = np.arange(LENGTH)
DATA = {"id": IDS, "x": np.stack([IDS * 0.5, -IDS], axis=1)}

OPTIONS = {"path", "columns", "cache_size", "num_workers", "shard_id", "prefetch_size", "track_metadata"}
OPTIONS |= {"precomputed_stats", "stream_name", "cache_dir", "cache_bytes", "storage_options", "local_files_only"}


def parent(seed: int = 0, **options: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(shuffle=True, **options), DATA, rngs=nnx.Rngs(seed))


@cache
def registry_of_views() -> SourceRegistry:
    registry = SourceRegistry.from_environment()
    registry.register(Logged)
    registry.register(LookedUp)
    return registry


class ViewConformance(SourceConformance):
    @property
    def registry(self) -> SourceRegistry:
        return registry_of_views()


class TestWrapper(ViewConformance):
    config = LoggedConfig()
    expected_length = LENGTH
    expected_records = {7: {"id": 7, "x": [3.5, -7.0]}}
    shown_elsewhere = {"shuffle": "a wrapper serves its parent's order", "source": "docs/views.md"}

    def make_source(self, config: Any, seed: int) -> DataSourceModule:
        return SourceView(config, parent(seed))


class TestHookedWrapper(TestWrapper):
    def make_source(self, config: Any, seed: int) -> DataSourceModule:
        return Logged(config, parent(seed))


class TestIndexView(ViewConformance):
    config = EveryOtherConfig()
    expected_length = LENGTH // 2
    expected_records = {3: {"id": 7, "x": [3.5, -7.0]}}
    shown_elsewhere = {"source": "docs/views.md"}

    def make_source(self, config: Any, seed: int) -> DataSourceModule:
        return LookedUp(config, parent(seed), rngs=nnx.Rngs(seed))


class TestMadeRecords(ViewConformance):
    config = LoggedConfig()
    expected_length = LENGTH // 2
    expected_records = {3: {"ids": [6, 7]}}
    shown_elsewhere = {"source": "docs/views.md"}

    def make_source(self, config: Any, seed: int) -> DataSourceModule:
        return Pairs(config, parent(seed), rngs=nnx.Rngs(seed))


class TestTable(SourceConformance):
    config = MemorySourceConfig(shuffle=True)
    expected_length = 20
    expected_records = {2: {"id": 6, "x": [3.0, -6.0]}}
    shown_elsewhere = dict.fromkeys(OPTIONS, "tests/plugins/memory")

    def make_source(self, config: Any, seed: int) -> DataSourceModule:
        return MemorySource(config, DATA, rngs=nnx.Rngs(seed)).where(id=range(0, LENGTH, 3))


class TestWrapperOfStream(ViewConformance):
    config = LoggedConfig()
    expected_length = view_sources.COUNT
    shown_elsewhere = {"shuffle": "a wrapper serves its parent's order", "source": "docs/views.md"}

    def make_source(self, config: Any, seed: int) -> DataSourceModule:  # noqa: ARG002 - it is not shuffled
        return Logged(config, view_sources.SizedNumbers(view_sources.NumbersConfig()))
