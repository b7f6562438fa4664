"""Data of other libraries: served as they read themselves, or refused with what to do, in every door."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from datarax_core import Pipeline, SpecError, columns_of, from_sequence


def named(module: str, name: str, **methods: Any) -> Any:
    """Return an object of a class of this name in another library, which need not be installed."""
    return type(
        name, (), {"__module__": module, "__len__": lambda _: 2, "__getitem__": lambda _, key: key, **methods}
    )()


def csr() -> Any:
    return pytest.importorskip("scipy.sparse").csr_array(np.eye(3))


def table() -> Any:
    return pytest.importorskip("pyarrow").table({"x": [1, 2], "t": ["a", "b"]})


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "pandas": (
        lambda: named("pandas", "DataFrame"),
        r"a DataFrame of pandas, .*: pass MemorySource\(config, dict\(df\)\)",
    ),
    "older pandas": (lambda: named("pandas.core.frame", "DataFrame"), r"a DataFrame of pandas, .*dict\(df\)"),
    "polars": (lambda: named("polars.dataframe.frame", "DataFrame"), r"a DataFrame of polars, .*df\.to_dict\(\)"),
    "lazy polars": (
        lambda: named("polars.lazyframe.frame", "LazyFrame"),
        r"a LazyFrame .*df\.collect\(\)\.to_dict\(\)",
    ),
    "pyarrow": (table, r"a Table of pyarrow, .*dict\(zip\(table\.column_names, table\.columns\)\)"),
    "splits": (
        lambda: named("datasets.dataset_dict", "DatasetDict"),
        r"a DatasetDict, .*: pass one of them, such as from_seq",
    ),
    "sparse": (csr, r"a csr_array, a sparse matrix: pass MemorySource\(config, {'x': matrix\.toarray\(\)}\)"),
    "structured": (
        lambda: np.zeros(2, [("a", int), ("b", float)]),
        r"a structured array, .*array\[name\] for name in array",
    ),
    "a pair": (
        lambda: (np.zeros((4, 2)), np.arange(4)),
        r"a tuple of 2 arrays of 4 rows \(\[4, 2\], \[4\]\), .*{'x': x, 'y': y}",
    ),
    "a pair of one shape": (
        lambda: (np.zeros(4), np.arange(4)),
        r"a tuple of 2 .*, which would be 2 records: .*if each array is a record, pass",
    ),
    "a list of columns": (lambda: [np.zeros((4, 2)), np.arange(4)], r"a list of 2 arrays of 4 rows"),
    "a generator": (
        lambda: (i for i in range(3)),
        r"a generator, which can be read only once; pass list\(\.\.\.\).*as a stream, from_iterable\(lambda",
    ),
    "a set": (
        lambda: {1, 2},
        r"a set, which has no len\(\) or no index; pass list\(\.\.\.\) of it .* as a stream, from_iterable\(data\)",
    ),
    "an iterable": (type("IterableDataset", (), {"__iter__": iter}), r"a IterableDataset, which has no len"),
    "a function": (
        lambda: lambda: iter([1]),
        r"a function: call it, and pass list\(\.\.\.\) of what it yields .* from_iterable\(function\)",
    ),
    "a class": (lambda: list, "the class list, not an object of it"),
    "a path": (
        lambda: Path("x.npz"),
        r"a PosixPath: a file is named in a config, such as MemorySourceConfig\(path=\.\.\.\)",
    ),
    "a file": (lambda: io.StringIO("a"), r"a StringIO, which can be read only once"),
}


@pytest.mark.parametrize(("make", "advice"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_records_as_it_stands_is_refused_with_what_to_do(make: Callable[[], Any], advice: str) -> None:
    data = make()
    with pytest.raises(TypeError, match=f"^a source was given {advice}"):
        columns_of(data, "a source")
    with pytest.raises(TypeError, match=f"^SequenceSource 'x' was given {advice}"):
        from_sequence(data, name="x")
    with pytest.raises(TypeError, match=f"^source is a DataSourceModule, .*, not {advice}"):
        Pipeline(source=data, batch_size=2)


def test_the_advice_for_tables_works() -> None:
    arrow = table()
    assert columns_of(dict(zip(arrow.column_names, arrow.columns, strict=True)), "it").columns["t"].tolist() == [
        "a",
        "b",
    ]
    array = np.zeros(2, [("a", int), ("b", float)])
    assert list(columns_of({name: array[name] for name in array.dtype.names or ()}, "it").columns) == ["a", "b"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_advice_for_data_frames_works(library: str) -> None:
    frame = pytest.importorskip(library).DataFrame({"x": [1, 2], "t": ["a", "b" * 1000]})
    columns = columns_of(dict(frame) if library == "pandas" else frame.to_dict(), "it").columns
    assert columns["x"].tolist() == [1, 2]
    assert (columns["t"].dtype, columns["t"].tolist()) == (object, ["a", "b" * 1000])
    with pytest.raises(TypeError, match=f"a DataFrame of {library}"):
        columns_of(frame, "it")


def test_a_sparse_column_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="column 'x' of it is a csr_array, a sparse matrix"):
        columns_of({"x": csr()}, "it")


@pytest.mark.parametrize("data", [[np.zeros(4), np.ones(4)], (np.zeros(3), np.zeros(4)), ((1, 2), (3, 4)), (1, 2)])
def test_lists_of_arrays_and_tuples_of_elements_are_records(data: Any) -> None:
    assert len(from_sequence(data)) == 2


def test_a_dict_is_columns_and_an_empty_list_is_no_data() -> None:
    with pytest.raises(
        TypeError, match=r"given a dict; pass a dict of columns to MemorySource\(config, data\); here, pass a"
    ):
        from_sequence({"x": [1]})
    with pytest.raises(
        ValueError, match=r"^SequenceSource is empty: it has no records to serve; give it one at least$"
    ):
        from_sequence([]).get_batch(2)


# -- tensors of PyTorch -----------------------------------------------------------------------------------------------------


class Tensor:
    """A tensor as PyTorch's: it refuses to become an array by a TypeError or a RuntimeError."""

    shape = ()

    def __init__(self, refusal: Exception, dtype: str = "torch.float32", *, requires_grad: bool = False) -> None:
        self.refusal, self.dtype, self.requires_grad = refusal, dtype, requires_grad

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise self.refusal


BFLOAT16 = Tensor(TypeError("Got unsupported ScalarType BFloat16"), "torch.bfloat16")
GRADIENT = Tensor(RuntimeError("Can't call numpy() on Tensor that requires grad"), requires_grad=True)
TENSORS = [
    (BFLOAT16, r"a Tensor of which NumPy makes no array: Got unsupported ScalarType BFloat16; pass value\.float\(\)"),
    (GRADIENT, r"a Tensor of which NumPy makes no array: Can't call numpy\(\) .*; pass value\.detach\(\)"),
]


@pytest.mark.parametrize(("tensor", "message"), TENSORS)
def test_a_tensor_that_is_no_array_names_its_field(tensor: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^column 'w' of it is {message}"):
        columns_of({"w": tensor}, "it")
    with pytest.raises(TypeError, match=f"^field 'w' of element 1 of it is {message}"):
        columns_of([{"w": np.float32(0)}, {"w": tensor}], "it")
    with pytest.raises(TypeError, match=f"^field 'w' of record 0 of SequenceSource is {message}"):
        from_sequence([{"w": tensor}]).element_spec()
    with pytest.raises(TypeError, match=f"^field 'w' of record 1 of SequenceSource is {message}"):
        from_sequence([{"w": np.float32(0)}, {"w": tensor}]).get_batch(2)


# -- Hugging Face -----------------------------------------------------------------------------------------------------------


class NumpyFormat:
    """A data set as Hugging Face's ``with_format("numpy")``: scalars of one record have other dtypes than those of a batch."""

    ONE_BY_ONE: ClassVar = {"a": np.float64, "b": np.float16, "c": np.int32, "d": np.uint8}
    IN_BATCHES: ClassVar = {"a": np.float32, "b": np.float32, "c": np.int64, "d": np.int64}

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**{name: kind(index) for name, kind in self.ONE_BY_ONE.items()}, "t": np.str_("x" * index)}

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        texts = np.array(["x" * index for index in indices])
        columns = {name: np.array(indices, kind) for name, kind in self.IN_BATCHES.items()} | {"t": texts}
        return [{name: column[row] for name, column in columns.items()} for row in range(len(indices))]


def real_numpy_format() -> Any:
    datasets = pytest.importorskip("datasets")
    dtypes = {"a": "float64", "b": "float16", "c": "int32", "d": "uint8", "t": "string"}
    features = datasets.Features({name: datasets.Value(dtype) for name, dtype in dtypes.items()})
    columns = {name: list(range(6)) for name in "abcd"} | {"t": ["x" * index for index in range(6)]}
    return datasets.Dataset.from_dict(columns, features=features).with_format("numpy")


@pytest.mark.parametrize("make", [NumpyFormat, real_numpy_format])
def test_spec_and_batches_are_read_through_the_same_access(make: Callable[[], Any]) -> None:
    source = from_sequence(make())
    batch = source.get_batch(4)
    assert {name: column.dtype for name, column in batch.items()} == {
        name: leaf.dtype for name, leaf in source.element_spec().items()
    }
    assert [batch[name].tolist() for name in "abcd"] == [[0, 1, 2, 3]] * 4
    assert [type(text) for text in batch["t"]] == [str] * 4
    assert batch["t"].tolist() == ["", "x", "xx", "xxx"]
    (whole,) = Pipeline(source=source, batch_size=6)
    assert np.asarray(whole["d"]).tolist() == list(range(6))


def test_an_element_of_another_kind_is_still_refused() -> None:
    class Odd(NumpyFormat):
        IN_BATCHES: ClassVar = {**NumpyFormat.IN_BATCHES, "a": np.str_}

        def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
            return [
                {**row, "a": "x" if index == 2 else row["a"]}
                for index, row in zip(indices, super().__getitems__(indices), strict=True)
            ]

    source = from_sequence(Odd(), element_spec=from_sequence(NumpyFormat()).element_spec())
    with pytest.raises(SpecError, match="record 0 of SequenceSource is not what the element spec says: field 'a' is"):
        source.get_batch(3)
