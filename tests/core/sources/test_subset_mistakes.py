"""Splits and slices that cannot work are refused, each with the mistake and its place."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from datarax_core import DataSourceModule, StructuralConfig, Subset

MakeSource = Callable[..., Any]
PARENTS = ["make_source", "make_host_source", "make_device_source"]


@pytest.fixture(params=PARENTS)
def make_parent(request: pytest.FixtureRequest) -> MakeSource:
    made: MakeSource = request.getfixturevalue(request.param)
    return made


SPLITS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no names": ({}, ValueError, r"^a split of HostRecords 'h' needs a share for each part, such as split\(train=0.9, test"),
    "zero": ({"a": 0.0}, ValueError, r"^share a=0\.0 of HostRecords 'h' is out of range: a part of one is more than 0, at mo"),
    "negative": ({"a": 0.5, "b": -0.1}, ValueError, r"^share b=-0\.1 of .* out of range: a part of one is more than 0"),
    "past one": ({"a": 1.5}, ValueError, r"^share a=1\.5 of .* out of range: a part of one is more than 0, at most 1$"),
    "no number": ({"a": float("nan")}, ValueError, "^share a=nan of .* out of range: a part of one"),
    "sum": ({"a": 0.7, "b": 0.4}, ValueError, r"^the shares of .* sum to 1\.1, which is more than 1; make them smaller$"),
    "no records": ({"a": 50, "b": 0}, ValueError, "^share b=0 of .* out of range: a number of records is at least 1$"),
    "too many": ({"a": 90, "b": 11}, ValueError, "^the parts of .* have 101 records together, and there are 100; ask for l"),
    "empty": ({"a": 0.999, "b": 0.001}, ValueError, r"^part 'b' of .* would be empty: 0\.001 of 100 records is none of th"),
    "mixed": ({"a": 0.5, "b": 5}, TypeError, r"^the shares of a split of .* records \(integers\), not both: a=0\.5, b=5$"),
    "text": ({"a": "0.5"}, TypeError, "^share a='0.5' of .* is no number; give a part of one, or a number of records$"),
    "a flag": ({"a": True}, TypeError, "^share a=True of .* is no number; give"),
    "seed": ({"a": 0.5, "seed": -1}, ValueError, "^seed is at least 0, not -1$"),
    "large seed": ({"a": 0.5, "seed": 2**32}, ValueError, r"^seed is less than 2\*\*32, not 4294967296"),
    "no seed": ({"a": 0.5, "seed": 0.5}, TypeError, r"^seed is an integer, not 0\.5$"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "kind", "message"), SPLITS.values(), ids=SPLITS)
def test_a_split_that_cannot_work_is_refused(
    make_host_source: MakeSource, given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        make_host_source(100, name="h").split(**given)


def test_parts_are_of_sources_with_random_access() -> None:
    class Ticks(DataSourceModule):
        def get_batch(self, batch_size: int) -> Any:
            return {"tick": np.zeros(batch_size, np.int32)}

    for cut in (lambda source: source[:3], lambda source: source.split(a=0.5)):
        with pytest.raises(
            NotImplementedError, match=r"^Ticks is a stream without random access; read it with get_batch"
        ):
            cut(Ticks(StructuralConfig()))


def test_an_empty_or_invalid_slice_is_refused(make_source: MakeSource) -> None:
    source = make_source(10, name="s")
    with pytest.raises(
        ValueError, match=r"^\[5:5\] of EagerSourceBase 's' holds none of its 10 records; a subset has one at least$"
    ):
        source[5:5]
    with pytest.raises(ValueError, match="slice step cannot be zero"):
        source[::0]
    with pytest.raises(TypeError, match="slice indices must be integers"):
        source["a":"b"]


@pytest.mark.parametrize("index", [-1, 4])
def test_a_record_outside_of_a_part_is_refused_though_the_parent_has_it(make_parent: MakeSource, index: int) -> None:
    part = make_parent(10)[2:6]
    with pytest.raises(IndexError, match=rf"^record {index} is out of range: Subset \[2:6\] of \w+ has 4 records$"):
        part.get_records(np.asarray([0, index]))
    with pytest.raises(IndexError, match=r"^record 4 is out of range: Subset"):
        part[4]
    assert isinstance(part[-1:], Subset)
    assert int(part[-1]["id"]) == 5
