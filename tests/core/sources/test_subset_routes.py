"""A subset is read as its parent is, with the parent's data, programs and cache."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core import DataSourceModule, Pipeline, SpecError, StructuralConfig, Subset

MakeSource = Callable[..., Any]
PARENTS = ["make_source", "make_host_source", "make_device_source"]


@pytest.fixture(params=PARENTS)
def make_parent(request: pytest.FixtureRequest) -> MakeSource:
    made: MakeSource = request.getfixturevalue(request.param)
    return made


def serve(part: Any, route: str = "loop") -> None:
    """Serve an epoch of a subset."""
    if route == "elements":
        list(part)
    elif route == "scan":
        Pipeline(source=part, batch_size=4).scan(lambda served: served["id"], length=len(part) // 4)
    else:
        list(Pipeline(source=part, batch_size=4))


def test_a_part_is_reached_as_its_parent_is(make_parent: MakeSource) -> None:
    source = make_parent(100)
    part = source[10:20]
    assert part.access == source.access
    assert part.capabilities.traceable == (source.access == "device")
    assert part.element_spec() == source.element_spec()
    assert (len(part), part.length, part.parent is source) == (10, 10, True)
    assert str(Pipeline(source=part, batch_size=5)).startswith(
        f"Pipeline(Subset [10:20] of {source.title}: 10 records in"
    )


def test_parts_share_the_data_and_the_programs_of_their_parent(make_source: MakeSource) -> None:
    source = make_source(1000)
    traces: list[int] = []

    def stage(batch: Any) -> Any:
        traces.append(1)
        return batch

    gather, placed = source.compiled_records()
    train, test = source.split(train=0.5, test=0.5).values()
    for part in (train, test, *source.split(train=0.3, test=0.7, seed=5).values()):
        read, (arrays, _) = part.compiled_records()
        assert arrays is placed
        assert read.read == gather
        Pipeline(source=part, stages=[stage], batch_size=10).step()
    assert len(traces) == 1, "all parts of all splits run in one program"
    for part in (source[:50], source[50:], source[::-3]):
        Pipeline(source=part, stages=[stage], batch_size=10).step()
    assert len(traces) == 2, "and all slices in another"


@pytest.mark.parametrize("parent", ["make_source", "make_device_source"])
def test_the_data_is_no_constant_in_the_programs_of_a_part(request: pytest.FixtureRequest, parent: str) -> None:
    part = request.getfixturevalue(parent)(50_000).split(train=0.5, test=0.5)["train"]
    read, arrays = part.compiled_records()
    lowered = jax.jit(read).lower(arrays, np.arange(8, dtype=np.int32))
    assert len(lowered.as_text()) < 100_000


def test_text_of_a_part_is_a_host_field(make_source: MakeSource) -> None:
    source = make_source({"id": np.arange(20, dtype=np.int32), "word": np.array([f"w{i}" for i in range(20)])})
    part = source.split(a=0.5, b=0.5)["b"]
    for batch in Pipeline(source=part, batch_size=5):
        assert batch["word"].tolist() == [f"w{i}" for i in batch["id"].tolist()]
    assert part[3]["word"] == f"w{part[3]['id']}"
    with pytest.raises(
        SpecError, match=r"^Subset 'b' of EagerSourceBase has fields that compiled code cannot carry: word"
    ):
        Pipeline(source=part, batch_size=5).scan(lambda batch: batch["id"], length=1)


def test_no_part_reads_again_a_record_that_a_cacheable_parent_read(make_host_source: MakeSource) -> None:
    source = make_host_source(40, cacheable=True)
    train, test = source.split(train=0.5, test=0.5).values()
    for part in (train, test, train, source[:]):
        serve(part)
    assert sorted(i for call in source.reads.calls for i in call) == list(range(40))
    train.reset_cache()
    serve(test)
    assert sum(map(len, source.reads.calls)) == 60


def test_a_part_can_have_a_cache_of_its_own(make_host_source: MakeSource) -> None:
    source = make_host_source(40)
    part = source[:20].copy(config=StructuralConfig(cacheable=True))
    for route in ("loop", "elements", "scan"):
        serve(part, route)
    assert sorted(i for call in source.reads.calls for i in call) == list(range(20))
    part.reset_cache()
    serve(part)
    assert sum(map(len, source.reads.calls)) == 40


def test_a_part_counts_what_it_served_and_what_was_substituted_for_it() -> None:
    class Substitutes(DataSourceModule):
        def __len__(self) -> int:
            return 20

        def element_spec(self) -> Any:
            return {"id": jax.ShapeDtypeStruct((), np.int64)}

        def get_records(self, indices: Any) -> Any:
            self.note_substituted(int((indices >= 10).sum()))
            return {"id": indices}

    source = Substitutes(StructuralConfig())
    low, high = source[:10], source[10:]
    for part in (low, high, high):
        list(Pipeline(source=part, batch_size=5))
    assert low.get_operation_stats() == {"applied_count": 2, "skipped_count": 0}
    assert high.get_operation_stats() == {"applied_count": 4, "skipped_count": 20}


def test_a_subclass_that_reads_in_a_way_of_its_own_is_read_in_that_way(make_host_source: MakeSource) -> None:
    seen: list[int] = []

    class Counted(Subset):
        def fetch(self, indices: Any) -> Any:
            seen.append(len(indices))
            return super().fetch(indices)

    parent = make_host_source()
    part = Counted(StructuralConfig(), parent, parent[:10].selection)
    assert sum(len(batch["id"]) for batch in Pipeline(source=part, batch_size=4)) == 10
    assert sum(seen) == 10
