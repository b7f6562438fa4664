"""Data of other libraries that are no records as they stand, and what to do with each; none of the libraries is imported."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, Final

import jax
import numpy as np

_MOST_COLUMNS: Final = 4


def require_records(data: Any, title: str) -> None:
    """Raise if data are known not to be records as they stand, such as tables, tuples of columns, sparse arrays and iterators.

    Raises:
        TypeError: Says what the data are, and what to do with them.
    """
    if advice := advice_for(data):
        raise TypeError(f"{title} was given {advice}")


def advice_for(data: Any) -> str | None:
    """Return what data of another library are, and what to do with them; None for records, and for data that are not known."""
    return table_advice(data) or _iterable_advice(data, type(data).__name__)


def table_advice(data: Any) -> str | None:
    """Return `advice_for` data that are tables, columns, or several data sets; None for all others, iterables among them."""
    library, name = type(data).__module__.partition(".")[0], type(data).__name__
    known = _BY_NAME.get((library, name))
    if known is not None:
        return known
    if is_sparse(data):
        return (
            f"a {name}, a sparse matrix: pass MemorySource(config, {{'x': matrix.toarray()}}), or write a source whose "
            "get_records() makes rows dense"
        )
    if isinstance(data, np.ndarray) and data.dtype.names:
        return (
            "a structured array, whose names are fields: pass MemorySource(config, {name: array[name] for name in "
            "array.dtype.names})"
        )
    if _are_columns(data):
        shapes = ", ".join(str(list(part.shape)) for part in data)
        return (
            f"a {name} of {len(data)} arrays of {len(data[0])} rows ({shapes}), which would be {len(data)} records: give the "
            "columns names, MemorySource(config, {'x': x, 'y': y}); if each array is a record, pass a list"
        )
    return None


def is_sparse(data: Any) -> bool:
    """Return whether data are a sparse matrix or array of SciPy."""
    return type(data).__module__.startswith("scipy.sparse")


def is_text_series(data: Any) -> bool:
    """Return whether data are a series of text or bytes of polars, which NumPy would make as wide as the longest value."""
    return type(data).__module__.startswith("polars") and str(getattr(data, "dtype", "")) in ("String", "Binary")


def _are_columns(data: Any) -> bool:
    """Return whether data are columns without names, such as ``(X, y)``: a few arrays with equal numbers of rows.

    A list of arrays is one of records, unless the arrays differ in their number of axes.
    """
    if type(data) not in (tuple, list) or not 2 <= len(data) <= _MOST_COLUMNS or not all(map(_is_array, data)):
        return False
    if not all(len(part.shape) for part in data) or len({part.shape[0] for part in data}) > 1:
        return False
    return type(data) is tuple or len({len(part.shape) for part in data}) > 1


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | jax.Array) or (hasattr(value, "__array__") and hasattr(value, "shape"))


def _iterable_advice(data: Any, name: str) -> str | None:
    if isinstance(data, type):
        return f"the class {data.__name__}, not an object of it"
    if isinstance(data, os.PathLike):
        return f"a {name}: a file is named in a config, such as MemorySourceConfig(path=...)"
    if isinstance(data, Iterator) and not isinstance(data, Sized):
        return (
            f"a {name}, which can be read only once; pass list(...) of it if its records fit in memory, or serve what makes it "
            "as a stream, from_iterable(lambda: ...)"
        )
    if isinstance(data, Iterable) and not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        return (
            f"a {name}, which has no len() or no index; pass list(...) of it if its records fit in memory, or serve it as a "
            "stream, from_iterable(data)"
        )
    if callable(data) and not hasattr(data, "__len__"):
        return (
            f"a {name}: call it, and pass list(...) of what it yields if that fits in memory, or from_iterable(function), "
            "which calls it for each epoch"
        )
    return None


def host_array(value: Any, described: Callable[[], str]) -> np.ndarray:
    """Return ``np.asarray(value)``.

    Raises:
        TypeError: The library of the value refuses to make an array of it; names the value in words by ``described``.
    """
    try:
        return np.asarray(value)
    except (TypeError, RuntimeError) as cause:  # by which PyTorch refuses; its other values are arrays
        raise TypeError(
            f"{described()} is a {type(value).__name__} of which NumPy makes no array: {cause}; {_remedy(value)}"
        ) from cause


def _remedy(value: Any) -> str:
    if getattr(value, "requires_grad", False):
        return "pass value.detach()"
    if "bfloat16" in str(getattr(value, "dtype", "")):
        return "pass value.float()"
    return "convert it to a NumPy array"


_BY_NAME: Final[Mapping[tuple[str, str], str]] = {
    ("pandas", "DataFrame"): "a DataFrame of pandas, whose columns are fields: pass MemorySource(config, dict(df))",
    ("polars", "DataFrame"): "a DataFrame of polars, whose columns are fields: pass MemorySource(config, df.to_dict())",
    ("polars", "LazyFrame"): (
        "a LazyFrame of polars, which holds no records yet: pass MemorySource(config, df.collect().to_dict())"
    ),
    **{
        ("pyarrow", name): (
            f"a {name} of pyarrow, whose columns are fields: pass MemorySource(config, dict(zip(table.column_names, "
            "table.columns)))"
        )
        for name in ("Table", "RecordBatch")
    },
    **{
        (
            "datasets",
            name,
        ): f"a {name}, which holds several data sets: pass one of them, such as {made_by}(data['train'])"
        for name, made_by in (("DatasetDict", "from_sequence"), ("IterableDatasetDict", "from_iterable"))
    },
}
