"""Records made by hand, and comparison of batches with TFDS's values."""

from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from tensorflow_datasets.proto import tf_example_pb2

from datarax_core.records import Ragged


def example(**features: list[Any]) -> bytes:
    """Return an Example of these features, lists of bytes, floats or integers; ``__`` in a name stands for a slash."""
    made = tf_example_pb2.Example()
    for name, values in features.items():
        feature = made.features.feature[name.replace("__", "/")]
        first = values[0] if values else 0
        kind = "bytes_list" if isinstance(first, bytes) else "float_list" if isinstance(first, float) else "int64_list"
        getattr(feature, kind).SetInParent()
        getattr(feature, kind).value.extend(values)
    return bytes(made.SerializeToString(deterministic=True))


def stored(data_dir: Path, name: str, split: str = "train") -> list[bytes]:
    """Return the records of a data set that ``tfds_data`` wrote as ArrayRecord files."""
    records: list[bytes] = []
    for path in sorted((data_dir / name / "1.0.0").glob(f"*-{split}.*")):
        reader = ArrayRecordReader(str(path))
        records += reader.read_all()
        reader.close()
    return records


def row_of(column: Any, row: int) -> Any:
    """Return one record of a batch."""
    return {name: row_of(inner, row) for name, inner in column.items()} if isinstance(column, dict) else column[row]


def same(ours: Any, theirs: Any) -> bool:
    """Return whether arrays, lists or Python's values are equal, NaNs and signs of zero included."""
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in theirs)
    return repr(_plain(ours)) == repr(_plain(theirs))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.tolist()
    if isinstance(value, list | tuple | np.ndarray | Ragged):
        return [_plain(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value
