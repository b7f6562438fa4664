"""The catalogue of a memory source's errors."""

from collections import UserList
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import NarrowingError, Pipeline, SpecError, StructuralConfig
from datarax_memory import MemorySource, MemorySourceConfig


class Table:
    """A class like a sequence, but indexed by column names."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, name: str) -> list[int]:
        return {"x": [1, 2]}[name]


class OtherAxes(UserList[Any]):
    """A sequence whose items differ in their number of axes."""

    def __init__(self) -> None:
        super().__init__([[1], [[1, 2]]])


KEYS = jax.random.split(jax.random.key(0), 3)


def memory(data: Any, *, rngs: nnx.Rngs | None = None, **config: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(**config), data, rngs=rngs, name="train")


BAD_DATA: list[tuple[Any, type[Exception], str]] = [
    ("digits.npz", TypeError, "MemorySource 'train' was given a str; pass a dict of arrays or a list of elements"),
    (b"digits", TypeError, "MemorySource 'train' was given a bytes; pass a dict of arrays"),
    (bytearray(b"digits"), TypeError, "MemorySource 'train' was given a bytearray; pass a dict of arrays"),
    (
        (i for i in range(3)),
        TypeError,
        r"was given a generator, which can be read only once; pass list\(\.\.\.\) of it",
    ),
    (iter([1]), TypeError, "was given a list_iterator, which can be read only once"),
    ({1, 2}, TypeError, "was given a set, which has no len\\(\\) or no index; pass list"),
    (3, TypeError, "needs a dict of arrays or a list of elements, not int"),
    (Table(), TypeError, r"was given a Table, which has no elements 0 \.\. 1; pass a dict of arrays"),
    (None, ValueError, "MemorySource 'train' was given neither data nor a path; pass data, or name a path"),
    ({"x": [1, 2], "y": [1]}, ValueError, "differ in length: 'x' has 2, 'y' has 1; each record needs a value"),
    (
        {"image": np.zeros((5, 2)), "label": np.zeros(4), "id": np.zeros(5)},
        ValueError,
        "columns of MemorySource 'train' differ in length: 'image' has 5, 'label' has 4, 'id' has 5",
    ),
    ({"x": {"y": np.ones(2)}}, TypeError, r"column 'x' .* is a dict; columns are arrays, .* such as 'x_y'"),
    ({"x": 3}, ValueError, r"column 'x' of MemorySource 'train' is the scalar array\(3\); a column has one value for"),
    ({"x": np.float32(3)}, ValueError, "column 'x' of MemorySource 'train' is the scalar"),
    ({"x": "text"}, ValueError, "column 'x' of MemorySource 'train' is the scalar"),
    ({"x": None}, TypeError, "column 'x' of MemorySource 'train' is a NoneType; a column is an array, or a list"),
    (
        {"x": (i for i in range(3))},
        TypeError,
        "column 'x' of MemorySource 'train' is a generator; a column is an array",
    ),
    (
        {"x": [[1], [[1, 2]]]},
        SpecError,
        r"field 'x' of MemorySource 'train' is no ragged column: record 1 has 2 axes where others have 1",
    ),
    (
        {"x": OtherAxes()},
        SpecError,
        r"field 'x' of MemorySource 'train' is no ragged column: record 1 has 2 axes where others have 1",
    ),
    ({"x": np.ma.array([1, 2], mask=[0, 1])}, TypeError, r"column 'x' .* is masked, and its mask would be lost; fill"),
    ({0: np.ones(2)}, TypeError, "the fields of MemorySource 'train' have names, which are text, not 0"),
    (np.array(3.0), ValueError, "column 'record' of MemorySource 'train' is the scalar"),
    ([{"x": 1}, {"y": 1}], SpecError, r"element 1 of MemorySource 'train' is not like element 0, which has \['x'\]"),
    ([(1, 2), (1,)], SpecError, r"element 1 of MemorySource 'train' is not like element 0, which has \[0, 1\]"),
    ([{"x": {"y": 1}}], TypeError, "field 'x' of the elements of MemorySource 'train' is a dict; elements are flat"),
    ([{0: 1}], TypeError, "the fields of MemorySource 'train' have names, which are text, not 0"),
    ([{}, {}], TypeError, "the elements of MemorySource 'train' are empty, like {}; each needs a field"),
    ([[1], [[1, 2]]], SpecError, r"field 'record' of .* is no ragged column: record 1 has 2 axes where others have 1"),
    (
        [[[1], [1, 2]]],
        SpecError,
        r"item 1 of field 'record' of element 0 .* has shape \[2\] where item 0 of element 0 has",
    ),
    ([np.zeros(2), 1], SpecError, r"field 'record' of .* is no ragged column: record 1 is a single value, "),
    ([np.ma.array([1, 2], mask=[0, 1])], TypeError, "field 'record' .* is masked, and its mask would be lost; fill it"),
    (
        KEYS,
        TypeError,
        r"column 'record' of MemorySource 'train' holds PRNG keys \(key<fry>\); serve their key data, jax",
    ),
    (
        {"k": KEYS},
        TypeError,
        r"column 'k' of MemorySource 'train' holds PRNG keys .*, jax\.random\.key_data\(keys\), and",
    ),
    ([{"k": KEYS[0]}], TypeError, r"field 'k' of element 0 of MemorySource 'train' holds PRNG keys"),
]


@pytest.mark.parametrize(("data", "error", "message"), BAD_DATA)
def test_data_that_cannot_be_served_is_refused(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        memory(data)


# NumPy would silently promote these values to another dtype.
OTHER_DTYPE = "where element 0 is {0}, and no dtype holds both unchanged; convert them: a field has one dtype$"
MIXED: list[tuple[list[Any], str]] = [
    ([1, "a"], "is text " + OTHER_DTYPE.format("int64")),
    (["a", 1.5], "is float64 " + OTHER_DTYPE.format("text")),
    (["a", b"a"], "is bytes " + OTHER_DTYPE.format("text")),
    ([True, 2], "is int64 " + OTHER_DTYPE.format("bool")),
    ([0.5, False], "is bool " + OTHER_DTYPE.format("float64")),
    ([1, None], "is an object " + OTHER_DTYPE.format("int64")),
    ([1.5, 2**70], "is an object " + OTHER_DTYPE.format("float64")),
    ([np.uint64(1), np.int64(2)], "is int64 " + OTHER_DTYPE.format("uint64")),
    ([np.uint64(1), 2], "is int64 " + OTHER_DTYPE.format("uint64")),
    ([2**63, -1], "is int64 " + OTHER_DTYPE.format("uint64")),
    ([np.uint64(1), np.int8(2), 0.5], "is int8 " + OTHER_DTYPE.format("uint64")),
    ([np.array(1), np.array("a")], "is text " + OTHER_DTYPE.format("int64")),
    ([np.zeros(2, np.uint64), np.zeros(2, np.int64)], "is int64 " + OTHER_DTYPE.format("uint64")),
    ([jnp.bfloat16(1), np.float16(1)], "is float16 " + OTHER_DTYPE.format("bfloat16")),
    (
        [np.datetime64("2020-01-01"), np.datetime64("2020-01-01T00:00")],
        r"is datetime64\[m\] where .* is datetime64\[D\]",
    ),
    ([np.datetime64("2020-01-01"), 3], r"is int64 where element 0 is datetime64\[D\]"),
    ([np.timedelta64(1, "s"), 3], r"is int64 where element 0 is timedelta64\[s\]"),
    (
        [0.5, 2**53 + 1],
        f"is the integer {2**53 + 1}, which would change in float64, the dtype that the other values need",
    ),
    ([np.zeros(2), np.array([0, 2**62 - 1])], f"is the integer {2**62 - 1}, which would change in float64"),
    ([1j, np.int64(-(2**53) - 1)], f"is the integer -{2**53 + 1}, which would change in complex128"),
]


@pytest.mark.parametrize(("values", "message"), MIXED)
def test_values_that_no_one_dtype_holds_are_refused_with_element_and_dtypes(values: list[Any], message: str) -> None:
    for data in ({"x": values}, [{"x": value} for value in values]):
        with pytest.raises(SpecError, match=rf"^field 'x' of element 1 of MemorySource 'train' {message}"):
            memory(data)


def test_values_in_lists_are_named_by_element_and_item() -> None:
    for data in ({"x": [[1, 2], [3, "a"]]}, [{"x": [1, 2]}, {"x": (3, "a")}]):
        with pytest.raises(
            SpecError, match=r"^item 1 of field 'x' of element 1 of .* text where item 0 of element 0 is int"
        ):
            memory(data)
    with pytest.raises(
        SpecError, match=r"^item 1 of field 'x' of element 1 of .* is bool where item 0 of element 1 is int"
    ):
        memory({"x": [np.zeros(2), [3, True]]})


def test_data_together_with_a_path_are_refused() -> None:
    with pytest.raises(ValueError, match="MemorySource 'train' was given both data and a path; pass data, or name a"):
        memory([1, 2], path="x.npz")


def test_a_config_of_another_kind_is_refused() -> None:
    config: Any = StructuralConfig()
    with pytest.raises(TypeError, match=r"MemorySource needs a MemorySourceConfig, not StructuralConfig\("):
        MemorySource(config, [1, 2])
    with pytest.raises(TypeError, match="MemorySource is built from a MemorySourceConfig, not 3"):
        MemorySource.from_config(3, MemorySource)  # type: ignore[arg-type]  # on purpose


def test_a_shuffle_needs_random_streams() -> None:
    with pytest.raises(ValueError, match=r"MemorySource 'train' is stochastic .* pass rngs=nnx\.Rngs\(shuffle=0\)"):
        memory([1, 2], shuffle=True)
    with pytest.raises(ValueError, match=r"draws from the random stream 'shuffle', which its rngs do not have"):
        memory([1, 2], shuffle=True, rngs=nnx.Rngs(params=0))


def test_a_shuffle_that_bypassed_the_configs_checks_is_refused() -> None:
    config = MemorySourceConfig().model_copy(update={"shuffle": True})
    with pytest.raises(ValueError, match="MemorySource cannot shuffle: it was built without a random stream"):
        MemorySource(config, [1, 2])


# -- no records -----------------------------------------------------------------------------------------------------------

NEEDS_RECORDS: list[Callable[[MemorySource], object]] = [
    lambda source: source.element_spec(),
    lambda source: source.get_batch(1),
    lambda source: source.get_batch(1, jax.random.key(0)),
    lambda source: source.get_batch_at(0, 1),
    lambda source: source.get_records(np.array([0])),
    lambda source: source.get_batch_with_metadata(1),
    lambda source: source.record_indices_at(0, 1),
    lambda source: source.collect_to_array(),
    lambda source: source.get_dataset_info(),
    lambda source: source.get_state(),
    iter,
    next,
    lambda source: Pipeline(source=source, batch_size=1),
]
EMPTY = [{}, [], (), {"x": np.zeros((0, 3))}, np.zeros((0, 2)), range(0)]


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize("data", EMPTY)
def test_an_empty_data_set_is_an_error_wherever_a_record_is_needed(data: Any, placement: str) -> None:
    source = memory(data, track_metadata=True, placement=placement, num_workers=2, shard_id=1)
    assert (len(source), source.length, source.index, source.epoch) == (0, 0, 0, 0)
    source.reset()
    for use in NEEDS_RECORDS:
        with pytest.raises(ValueError, match="MemorySource 'train' is empty: it has no records to serve"):
            use(source)
    for access in (source.__getitem__, source.get_with_metadata):
        with pytest.raises(IndexError, match="record 0 is out of range: MemorySource 'train' has 0 records"):
            access(0)


# -- calls ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -3])
def test_a_batch_size_below_one_is_refused_and_nothing_moves(size: int) -> None:
    source = memory({"x": np.arange(10)})
    source.get_batch(3)
    for call in (source.get_batch, lambda size: source.get_batch_at(0, size), lambda s: source.get_batch(s, "k")):
        with pytest.raises(ValueError, match=rf"size is at least 1, not {size}"):
            call(size)
    assert source.index == 3


@pytest.mark.parametrize("size", [4.0, "4", None, True])
def test_a_batch_size_that_is_no_integer_is_refused_and_nothing_moves(size: Any) -> None:
    source = memory({"x": np.arange(10)})
    for call in (source.get_batch, lambda size: source.get_batch_at(0, size)):
        with pytest.raises(TypeError, match=rf"size is an integer, not {size!r}"):
            call(size)
    assert source.index == 0


def test_a_position_before_the_start_is_refused() -> None:
    with pytest.raises(ValueError, match="position -1 is before the start of the stream"):
        memory([1, 2]).get_batch_at(-1, 2)


def test_a_position_that_is_no_integer_is_refused() -> None:
    start: Any = 1.5
    with pytest.raises(TypeError, match=r"^a position is an integer, not 1\.5$"):
        memory([1, 2]).get_batch_at(start, 2)


@pytest.mark.parametrize("index", [10, -11])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=f"record {index} is out of range: MemorySource 'train' has 10 records"):
        memory(range(10))[index]


@pytest.mark.parametrize("index", [1.0, "1", True, (2,)])
def test_an_index_that_is_no_integer_is_refused(index: Any) -> None:
    with pytest.raises(TypeError, match="MemorySource 'train' is indexed by an integer, a slice, or an array"):
        memory(range(10))[index]


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize("wrong", [10, -1])
def test_records_out_of_range_are_refused(wrong: int, placement: str) -> None:
    with pytest.raises(IndexError, match=f"record {wrong} is out of range: MemorySource 'train' has 10 records"):
        memory({"x": np.arange(10)}, placement=placement).get_records(np.array([0, wrong]))


# -- what a device cannot hold --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", ["device", "host"])
def test_an_integer_that_does_not_fit_is_refused_with_its_field(placement: str) -> None:
    source = memory({"id": np.array([1, 2**40 + 7])}, placement=placement)
    with pytest.raises(NarrowingError, match=rf"field 'id'.* is int64 and {2**40 + 7} \(r.* 1\) does not fit int32"):
        next(iter(Pipeline(source=source, batch_size=2)))
    assert [element["id"] for element in source] == [1, 2**40 + 7]


@pytest.mark.parametrize("placement", ["device", "host"])
def test_text_is_refused_by_name_in_compiled_code(placement: str) -> None:
    source = memory({"x": np.arange(4), "t": np.array(list("abcd"))}, placement=placement)
    for compiled in (
        lambda: jax.jit(lambda start: source.get_batch_at(start, 2))(0),
        lambda: Pipeline(source=source, batch_size=2).scan(lambda batch: batch["x"].sum(), length=1),
    ):
        with pytest.raises(SpecError, match="MemorySource 'train' has fields that compiled code cannot carry: t"):
            compiled()


def test_text_is_refused_by_name_when_all_records_are_collected_on_the_device() -> None:
    with pytest.raises(SpecError, match="MemorySource 'train' has fields that no device has: t; leave them out"):
        memory({"x": np.arange(4), "t": np.array(list("abcd"))}).collect_to_array()


def test_text_without_a_field_name_is_refused_by_the_pipeline() -> None:
    for data in (["a", "b"], [(1, "a"), (2, "b")]):
        with pytest.raises(
            SpecError,
            match=r"need a field name, since they stay on the host as .*; make each record a dict",
        ):
            next(iter(Pipeline(source=memory(data), batch_size=2)))
