"""An opened data set: its description and, if its files have random access, its records by index."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from datarax_core.records import Batch, ElementSpec, named_fields
from datarax_tfds.backends import NeedsTensorFlow, has_tensorflow
from datarax_tfds.config import TFDSConfigBase
from datarax_tfds.dataset.data_set import DataSet
from datarax_tfds.dataset.description import understood
from datarax_tfds.features.decoder import FeatureDecoder
from datarax_tfds.features.stored import UndecodableRecord
from datarax_tfds.files.record_files import RecordFiles

_DATA_OPTIONS: Final = (
    "name",
    "split",
    "data_dir",
    "include_keys",
    "exclude_keys",
    "as_supervised",
    "backend",
    "try_gcs",
    "download_and_prepare_kwargs",
    "beam_num_workers",
    "local_files_only",
)
"""Fields of a config that decide which records with which fields are read, and by which reader."""

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")


class Opened:
    """The data set of a source, and its records if they can be read by index. Copies of a source share it, outside of graphs.

    If only TensorFlow decodes a field, and the config has ``backend="auto"``, the data set is read by ``tf.data``.

    Args:
        config: Config of the source.
        title: Title of the source, for messages.

    Raises:
        NeedsTensorFlow: Only TensorFlow decodes a field, and it is not installed, or the config names another backend.
        Whatever `DataSet.open` and `Records` raise if the data set cannot be read.
    """

    def __init__(self, config: TFDSConfigBase, title: str) -> None:
        self.config = config
        self.data_set = DataSet.open(config, title)
        self.records: Records | None = None
        if self.data_set.backend == "tf.data":
            return
        try:
            self.records = Records(self.data_set, title)
        except NeedsTensorFlow as need:
            if config.backend != "auto" or not has_tensorflow():
                need.add_note(f"while {title} was opened, with backend={config.backend!r}")
                raise
            self.data_set = DataSet.open(config.model_copy(update={"backend": "tf.data"}), title)


def reads_alike(config: TFDSConfigBase, other: TFDSConfigBase) -> bool:
    """Return whether two configs name the same records with the same fields, read in the same way."""
    return all(getattr(config, field) == getattr(other, field) for field in _DATA_OPTIONS)


class Records:
    """The records of a split by record index: read from its files, and decoded as one batch.

    Copies of a source share it; it is compared by identity, outside of every graph. Picklable: files are opened anew.

    Args:
        data_set: A data set whose files are read without TensorFlow.
        title: Title of the source, for messages.

    Raises:
        ValueError: The data set is read by ``tf.data``.
        NeedsTensorFlow: Only TensorFlow decodes a field.
        FileNotFoundError, PermissionError, DataFileError: A file cannot be read, as `RecordFiles` says.
    """

    def __init__(self, data_set: DataSet, title: str) -> None:
        if data_set.backend == "tf.data":
            raise ValueError(f"{title} is read by tf.data, which has no random access")
        with understood(Path(data_set.folder)):
            self.decoder = FeatureDecoder(data_set.features, data_set.kept)  # may raise, so before files are looked at
        self.files = RecordFiles(data_set.parts, data_set.backend, title)
        self._fields = data_set.fields
        self.spec: ElementSpec = self.served(self.decoder.spec)

    def batch(self, indices: np.ndarray) -> Batch:
        """Return the records at int64 (k,) ``indices`` as a batch of new arrays.

        Raises:
            RecordError: A record cannot be read or decoded; the message names the record, its file and the reason.
            DataFileError: A file changed since it was first opened.
        """
        stored = self.files.read(indices)
        try:
            return self.served(self.decoder.decode(stored))
        except UndecodableRecord as error:
            raise self.files.undecodable(int(indices[error.row]), error.reason) from error

    def require_room(self) -> None:
        """Look whether the first record can have the declared shapes, before arrays for all records are made.

        Raises:
            RecordError: It cannot be read, or cannot have them.
        """
        (record,) = self.files.read(np.zeros(1, np.int64))
        try:
            self.decoder.require_room(record)
        except UndecodableRecord as error:
            raise self.files.undecodable(0, error.reason) from error

    def fill(self, indices: np.ndarray, stored: Sequence[bytes], columns: Mapping[str, Any]) -> None:
        """Decode consecutive records into the columns of all records.

        Args:
            indices: int64 (k,), each one more than the one before.
            stored: The bytes of these records, as `RecordFiles.read` returns them.
            columns: For each field, by its name in the data set, an array with a row for every record.

        Raises:
            RecordError: A record cannot be decoded.
        """
        try:
            self.decoder.decode_into(stored, columns, int(indices[0]))
        except UndecodableRecord as error:
            raise self.files.undecodable(int(indices[error.row]), error.reason) from error

    def served(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields by the names under which they are served, given fields by their names in the data set."""
        return {name: stored[key] for name, key in self._fields}


def array_bytes(spec: ElementSpec, num_records: int, stored_bytes: int) -> int:
    """Return the bytes that the columns of ``num_records`` records take; text and bytes count as ``stored_bytes`` in all."""
    fields = named_fields(spec).values()
    numbers: int = sum(math.prod(field.shape) * field.dtype.itemsize for field in fields)
    has_objects = any(field.dtype.hasobject for field in fields)
    return numbers * num_records + (stored_bytes if has_objects else 0)


def size_text(nbytes: int) -> str:
    """Return a size for messages, such as ``1.3 GiB``."""
    size, unit = float(nbytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
