"""Views over a wrapper that hooks every read of the host: nothing is read past it, also where columns lie in one piece."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, SourceView, StructuralConfig
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_views import (
    BucketView,
    BucketViewConfig,
    ConcatView,
    ConcatViewConfig,
    PackView,
    PackViewConfig,
    RepeatView,
    RepeatViewConfig,
    SampleView,
    SampleViewConfig,
    WindowView,
    WindowViewConfig,
    ZipView,
    ZipViewConfig,
)


class Negating(SourceView):
    """A wrapper that changes what is read, so that a read past it shows."""

    def read_parent(self, indices: np.ndarray, parent: int = 0) -> Any:
        batch = super().read_parent(indices, parent)
        return {**batch, "id": -np.asarray(batch["id"])} if "id" in batch else -np.asarray(batch)


def hooked(placement: Any = "host") -> DataSourceModule:
    data: dict[str, Any] = {"id": np.arange(1, 13, dtype=np.int32)}
    if placement == "host":
        data["tokens"] = [np.arange(1 + number % 4) for number in range(12)]
    return Negating(StructuralConfig(), MemorySource(MemorySourceConfig(placement=placement), data))


VIEWS: dict[str, Callable[[DataSourceModule], DataSourceModule]] = {
    "window": lambda source: WindowView(WindowViewConfig(length=3, field="id", inside=False), source),
    "slice": lambda source: source[2:9],
    "window of a slice": lambda source: WindowView(WindowViewConfig(length=3, field="id", inside=False), source[2:9]),
    "where": lambda source: source.where(id=(-6, -2)),
    "sample": lambda source: SampleView(SampleViewConfig(), source, rngs=nnx.Rngs(0)),
    "repeat": lambda source: RepeatView(RepeatViewConfig(times=2), source),
    "concat": lambda source: ConcatView(ConcatViewConfig(), source, source),
    "where of a concat": lambda source: ConcatView(ConcatViewConfig(), source, source).where(id={"max": -3}),
}


@pytest.mark.parametrize("placement", ["host", "device"])
@pytest.mark.parametrize("name", VIEWS)
def test_values_are_those_that_the_wrapper_reads(name: str, placement: str) -> None:
    view = VIEWS[name](hooked(placement))
    assert (np.asarray(view.fetch(np.arange(view.num_records))["id"]) < 0).all()
    assert all(np.all(np.asarray(element["id"]) < 0) for element in view)


def test_fields_beside_one_another_are_read_by_it() -> None:
    view = ZipView(ZipViewConfig(names=("a", "b")), hooked(), hooked())
    assert (np.asarray(view.fetch(np.arange(5))["b"]["id"]) < 0).all()
    assert len(view.where({"a.id": {"min": -4}})) == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda source: WindowView(WindowViewConfig(length=1), source),
        lambda source: PackView(PackViewConfig(length=6, field="tokens"), source),
        lambda source: BucketView(BucketViewConfig(field="tokens", bounds=(4,), batch_size=2), source),
    ],
)
def test_tokens_are_read_by_it(make: Callable[[DataSourceModule], DataSourceModule]) -> None:
    read: list[int] = []

    class Noting(SourceView):
        def read_parent(self, indices: np.ndarray, parent: int = 0) -> Any:
            read.extend(indices.tolist())
            return super().read_parent(indices, parent)

    view = make(Noting(StructuralConfig(), hooked().parents[0]))
    read.clear()
    view.fetch(np.arange(2))
    assert read
