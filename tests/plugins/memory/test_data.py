"""Data of every form: served unchanged, not copied on the host, and equal for every placement."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from datarax_core import Pipeline, SpecError, columns_of
from datarax_memory import MemorySource, MemorySourceConfig


class Thing:
    """A class that no library knows."""


class Squares(Sequence[dict[str, int]]):
    """A sequence that is no list."""

    def __len__(self) -> int:
        return 4

    @overload
    def __getitem__(self, index: int) -> dict[str, int]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[dict[str, int]]: ...
    def __getitem__(self, index: Any) -> Any:
        if index >= 4:
            raise IndexError(index)
        return {"x": index * index}


def memory(data: Any, **config: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(**config), data, rngs=nnx.Rngs(0))


def leaves(batch: Any) -> list[list[Any]]:
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(batch)]


THINGS = [Thing(), Thing(), Thing(), Thing()]
ELEMENTS: dict[str, tuple[Sequence[Any], Any]] = {
    "dicts": ([{"x": i, "y": float(i)} for i in range(4)], {"x": [0, 1], "y": [0.0, 1.0]}),
    "dicts with text": ([{"x": i, "t": f"t{i}"} for i in range(4)], {"t": ["t0", "t1"], "x": [0, 1]}),
    "tuples": ([(i, -i) for i in range(4)], ([0, 1], [0, -1])),
    "tuples with text": ([(i, f"t{i}") for i in range(4)], ([0, 1], ["t0", "t1"])),
    "numbers": ([0.5, 1.5, 2.5, 3.5], [0.5, 1.5]),
    "lists": ([[i, i] for i in range(4)], [[0, 0], [1, 1]]),
    "text": (["a", "bc", "d", "e"], ["a", "bc"]),
    "bytes": ([b"a", b"bc", b"d", b"e"], [b"a", b"bc"]),
    "objects": (THINGS, THINGS[:2]),
    "None": ([None] * 4, [None, None]),
    "a tuple of elements": (({"x": 0}, {"x": 1}, {"x": 2}, {"x": 3}), {"x": [0, 1]}),
    "a range": (range(4), [0, 1]),
    "a sequence": (Squares(), {"x": [0, 1]}),
}


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize(("data", "batch"), ELEMENTS.values(), ids=ELEMENTS)
def test_elements_of_every_kind_are_served_one_by_one_and_in_batches(
    data: Sequence[Any], batch: Any, placement: str
) -> None:
    source = memory(data, placement=placement)
    assert len(source) == 4
    assert list(source) == list(data)
    assert source[-1] == data[3]
    expected = jax.tree.map(np.array, batch, is_leaf=lambda node: isinstance(node, list))
    for served in (source.get_batch_at(0, 2), source.get_batch(2), source.get_records(np.array([0, 1]))):
        assert jax.tree.structure(served) == jax.tree.structure(expected)
        assert leaves(served) == leaves(expected)
    spec = source.element_spec()
    assert jax.tree.structure(spec) == jax.tree.structure(expected)
    assert [leaf.shape for leaf in jax.tree.leaves(spec)] == [leaf.shape[1:] for leaf in jax.tree.leaves(expected)]


ALIKE: list[tuple[list[Any], str, list[Any]]] = [
    ([1, 2.5], "float64", [1.0, 2.5]),
    ([1, 2.5, 2**60], "float64", [1.0, 2.5, 2.0**60]),
    ([1j, 2], "complex128", [1j, 2]),
    ([np.uint8(200), np.int64(-3)], "int64", [200, -3]),
    ([np.float16(0.5), np.float32(1.5)], "float32", [0.5, 1.5]),
    ([2**63, 1], "uint64", [2**63, 1]),
    ([-(2**63), 2**63 - 1], "int64", [-(2**63), 2**63 - 1]),
    ([1, 2**70], "object", [1, 2**70]),
    (["a", "bcd"], "object", ["a", "bcd"]),
    ([np.str_("bc"), "abcdef"], "object", ["bc", "abcdef"]),
    (["a\0", "b"], "object", ["a\0", "b"]),
    ([b"a\0", b"bc"], "object", [b"a\0", b"bc"]),
    ([np.zeros(2), np.array([1, 2])], "float64", [[0, 0], [1, 2]]),
    ([[1, 2], [0.5, 2**53]], "float64", [[1, 2], [0.5, 2**53]]),
    ([[[1], [2]], [[3], [4]]], "int64", [[[1], [2]], [[3], [4]]]),
    ([[1, 2], np.array([3, 4])], "int64", [[1, 2], [3, 4]]),
    ([[], []], "float64", [[], []]),
    ([np.array("a"), np.array("bc")], "object", ["a", "bc"]),
]


@pytest.mark.parametrize(("values", "dtype", "kept"), ALIKE)
def test_values_of_one_kind_become_one_array_that_changes_none_of_them(
    values: list[Any], dtype: str, kept: list[Any]
) -> None:
    for data in ({"x": values}, [{"x": value} for value in values]):
        column = memory(data, placement="host").get_batch(len(values))["x"]
        assert (str(column.dtype), column.tolist()) == (dtype, kept)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(values=st.lists(st.integers(-(2**65), 2**65) | st.floats(allow_nan=False) | st.booleans(), min_size=1))
def test_numbers_are_kept_or_refused_but_never_changed(values: list[Any]) -> None:
    try:
        column = columns_of({"x": values}, "a test").columns["x"]
    except SpecError:
        assert len(set(map(type, values))) > 1 or min(values) < 0 <= 2**63 <= max(values)
    else:
        assert column.tolist() == values


def test_elements_that_are_arrays_are_stacked() -> None:
    source = memory([np.full((2, 3), i) for i in range(4)])
    assert source.get_batch(3).shape == (3, 2, 3)
    np.testing.assert_array_equal(source[2], np.full((2, 3), 2))


def test_elements_of_a_list_come_back_as_they_were_given() -> None:
    assert type(memory([1, 2])[0]) is int
    assert memory(THINGS)[2] is THINGS[2]
    assert type(memory([{"t": "a"}])[0]["t"]) is str


@pytest.mark.parametrize("placement", ["device", "host"])
def test_a_list_of_elements_works_in_the_pipeline_as_a_dict_of_arrays_does(placement: str) -> None:
    columns = {"x": np.arange(10), "t": np.array([f"t{i}" for i in range(10)])}
    elements = [{"x": int(x), "t": str(t)} for x, t in zip(columns["x"], columns["t"], strict=True)]
    of_dict, of_list = (
        [
            {name: np.asarray(column).tolist() for name, column in batch.items()}
            for batch in Pipeline(source=memory(data, shuffle=True, placement=placement), batch_size=4)
        ]
        for data in (columns, elements)
    )
    assert of_dict == of_list
    assert sorted(x for batch in of_list for x in batch["x"]) == list(range(10))


def test_a_list_of_tuples_works_in_scan() -> None:
    pipeline = Pipeline(source=memory([(i, -i) for i in range(8)]), batch_size=4)
    sums = pipeline.scan(lambda batch: batch[0].sum() + 100 * batch[1].sum(), length=2)
    assert sums.tolist() == [6 - 600, 22 - 2200]


def test_an_array_is_the_one_column_of_its_records() -> None:
    source = memory(np.arange(6).reshape(3, 2))
    assert source.element_spec() == jax.ShapeDtypeStruct((2,), np.int64)
    assert source.get_batch(2).tolist() == [[0, 1], [2, 3]]


def test_columns_made_elsewhere_are_used_as_they_are() -> None:
    columns = columns_of({"x": np.arange(4)}, "mine")
    assert [element["x"] for element in memory(columns)] == [0, 1, 2, 3]
    assert memory(columns).data == columns.columns


# -- neither copied nor changed -------------------------------------------------------------------------------------------


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(0).integers(0, 255, (64, 4, 4))
    return {"image": numbers.astype(np.uint8), "label": numbers[:, 0, 0], "t": numbers[:, 0, 0].astype(str)}


def use(source: MemorySource) -> Iterator[Any]:
    yield list(source)
    yield source.get_batch(8)
    yield source.get_batch_at(60, 8, jax.random.key(0))
    yield list(Pipeline(source=source, batch_size=8))


@pytest.mark.parametrize("placement", ["device", "host", "auto"])
def test_the_callers_arrays_are_neither_copied_nor_changed(data: dict[str, np.ndarray], placement: str) -> None:
    before = {name: column.copy() for name, column in data.items()}
    source = memory(data, shuffle=True, placement=placement)
    assert len(list(use(source))) == 4
    assert source.data is data
    for name, column in data.items():
        assert np.shares_memory(source.data[name], column)
        assert column.flags.writeable
        np.testing.assert_array_equal(column, before[name])
    element = source[3]
    assert np.shares_memory(element["image"], data["image"])


@pytest.mark.parametrize("placement", ["device", "host"])
def test_read_only_arrays_are_accepted(data: dict[str, np.ndarray], placement: str) -> None:
    for column in data.values():
        column.flags.writeable = False
    source = memory(data, shuffle=True, placement=placement)
    assert len(list(use(source))) == 4


def test_an_element_cannot_be_used_to_change_the_data(data: dict[str, np.ndarray]) -> None:
    elements = [{"image": image} for image in data["image"]]
    for source in (memory(data), memory(elements), memory([(image,) for image in data["image"]])):
        element = source[0]
        image = element["image"] if isinstance(element, dict) else element[0]
        with pytest.raises(ValueError, match="read-only"):
            image += 1
    memory(elements)[0].clear()
    assert list(elements[0]) == ["image"]


def test_a_batch_from_the_host_is_its_users_own(data: dict[str, np.ndarray]) -> None:
    source = memory(data, placement="host")
    source.get_batch_at(0, 4)["image"][:] = 0
    assert data["image"][:4].any()


def test_a_list_that_its_owner_empties_is_still_served() -> None:
    elements = [{"x": i} for i in range(4)]
    source = memory(elements)
    elements.clear()
    assert [element["x"] for element in source] == source.get_batch(4)["x"].tolist() == [0, 1, 2, 3]


def test_sources_that_are_copies_share_one_copy_on_the_device(data: dict[str, np.ndarray]) -> None:
    source = memory(data, placement="device")
    held = source.compiled_records()[1]
    for other in (source.copy(), source.clone(), source.copy(config=MemorySourceConfig(shuffle=True))):
        assert all(mine is theirs for mine, theirs in zip(held, other.compiled_records()[1], strict=True))
        assert other.data is data


# -- placement ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_placement_serves_equal_records(data: dict[str, np.ndarray], shuffle: bool) -> None:  # noqa: FBT001
    served = []
    for placement in ("device", "host", "auto"):
        source = memory(data, shuffle=shuffle, placement=placement)
        batches = [source.get_batch(10) for _ in range(7)]
        served.append([leaves(batch) for batch in (*batches, *Pipeline(source=source, batch_size=10))])
    assert served[0] == served[1] == served[2]


def test_data_on_the_device_already_is_used_there() -> None:
    column = jnp.arange(8)
    source = memory({"x": column}, placement="device")
    assert source.compiled_records()[1][0] is column
    assert memory({"x": column}, placement="host").get_batch(3)["x"].tolist() == [0, 1, 2]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="an accelerator has a memory of its own")
@pytest.mark.parametrize("offset", [0, 1])
def test_on_a_cpu_an_aligned_array_is_used_as_it_is(offset: int) -> None:
    raw = np.zeros(4096 + 64 * 2, np.uint8)
    first = -raw.ctypes.data % 64 + offset
    column = raw[first : first + 4096].reshape(512, 8)
    placed = memory({"x": column}, placement="device").compiled_records()[1][0]
    assert (placed.unsafe_buffer_pointer() == column.ctypes.data) == (offset == 0)


def test_all_records_can_be_collected_on_the_device(data: dict[str, np.ndarray]) -> None:
    source = memory({"image": data["image"]})
    np.testing.assert_array_equal(source.collect_to_array()["image"], data["image"])
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    assert source.collect_to_array(device)["image"].sharding == device


def test_neither_a_state_nor_a_graph_holds_the_data(data: dict[str, np.ndarray]) -> None:
    source = memory(data, shuffle=True)
    source.get_batch(4)
    assert sum(np.size(leaf) for leaf in jax.tree.leaves(nnx.state(source), is_leaf=lambda _: False)) < 64


def test_the_data_set_info_has_records_bytes_and_spec(data: dict[str, np.ndarray]) -> None:
    info = memory(data).get_dataset_info()
    assert info["num_records"] == 64
    assert info["nbytes"] == sum(column.nbytes for column in data.values())
    assert info["element_spec"]["image"] == jax.ShapeDtypeStruct((4, 4), np.uint8)


@pytest.mark.parametrize("data", [{"x": np.arange(3)}, np.arange(3), [1, 2]])
def test_the_data_of_a_source_cannot_be_assigned(data: Any) -> None:
    source = MemorySource(MemorySourceConfig(), {"x": np.arange(5)})
    message = (
        r"^property 'data' of 'MemorySource' object has no setter: .*; for other data, build another MemorySource$"
    )
    with pytest.raises(AttributeError, match=message):
        source.data = data  # type: ignore[misc]
    assert source.data["x"].tolist() == [0, 1, 2, 3, 4]
