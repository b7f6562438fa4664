"""State on the host: found in every module by itself, renewed in clones and pickles, absent in bare modules."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core import DataraxModule, DataraxModuleConfig
from datarax_core.sources import HostState


class Handles(HostState):
    """Open files, which no twin may share; their limit is taken over."""

    def __init__(self, limit: int = 8) -> None:
        self.limit = limit
        self.open: dict[str, Any] = {}

    def constructor_data(self) -> tuple[int]:
        return (self.limit,)


class Reader(DataraxModule):
    """A module with a state on the host, and no method for it."""

    def __init__(self, limit: int = 8) -> None:
        super().__init__(DataraxModuleConfig())
        self.handles = Handles(limit)
        self.calls = nnx.Variable(np.zeros((), np.int32))

    def __call__(self) -> None:
        self.calls[...] += 1


class Holder(DataraxModule):
    """A module whose child has a state on the host."""

    def __init__(self, child: Reader) -> None:
        super().__init__(DataraxModuleConfig())
        self.child = child


def reader_that_worked(limit: int = 3) -> Reader:
    reader = Reader(limit)
    reader.handles.open["a"] = object()
    return reader


@pytest.mark.parametrize(
    "twin_of",
    [Reader.clone, copy.deepcopy, lambda reader: Holder(reader).clone().child],
    ids=["clone", "deep", "nested"],
)
def test_a_twin_has_a_renewed_state_of_its_own(twin_of: Any) -> None:
    reader = reader_that_worked()
    twin = twin_of(reader)
    assert (twin.handles.limit, twin.handles.open) == (3, {})
    twin.handles.open["b"] = object()
    assert list(reader.handles.open) == ["a"]


def test_a_pickle_holds_a_renewed_state() -> None:
    reader = reader_that_worked()
    reader.handles.open["lambda"] = lambda: None  # which no pickle could hold
    restored = pickle.loads(pickle.dumps(reader))  # noqa: S301 - just written
    assert (restored.handles.limit, restored.handles.open) == (3, {})


def test_a_renewed_state_without_arguments_is_a_new_one() -> None:
    class Count(HostState):
        def __init__(self) -> None:
            self.count = 0

    state = Count()
    state.count = 5
    assert (state.renewed().count, state.count) == (0, 5)


def test_bare_modules_that_are_alike_have_equal_graphs() -> None:
    one, other = reader_that_worked(), Reader(3)
    assert nnx.split(one)[0] != nnx.split(other)[0]
    assert nnx.split(one.bare())[0] == nnx.split(other.bare())[0]
    assert not hasattr(Holder(one).bare().child, "handles")
    assert list(one.handles.open) == ["a"]


def test_a_state_that_changes_does_not_compile_jitted_code_again() -> None:
    traces = []

    @nnx.jit
    def apply(module: Reader) -> None:
        traces.append("trace")
        module()

    reader = Reader()
    for count in range(3):
        reader.handles.open[str(count)] = count
        apply(reader)
    assert (len(traces), int(reader.calls[...])) == (1, 3)
