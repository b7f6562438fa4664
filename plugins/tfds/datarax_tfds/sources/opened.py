"""A data set as its config says it is to be read: by index, or as a stream of TensorFlow's."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from datarax_core.records import Batch, ElementSpec, named_fields
from datarax_tfds.backends import NeedsTensorFlow, has_tensorflow
from datarax_tfds.config import TFDSConfigBase
from datarax_tfds.dataset.data_set import DataSet
from datarax_tfds.features.decoder import FeatureDecoder
from datarax_tfds.features.stored import UndecodableRecord
from datarax_tfds.files.record_files import RecordFiles


class Opened:
    """The data set of a source, and its records where they can be reached by index. Shared by copies; outside of every graph.

    Where only TensorFlow decodes a field, and the config leaves the choice, the data set is read by ``tf.data``.

    Raises:
        NeedsTensorFlow: Only TensorFlow decodes a field, and it is not installed, or another backend was asked for.
        Whatever `DataSet.open` and `Records` raise of a data set that cannot be read.
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
    """Whether two configs name the same records with the same fields, read in the same way."""
    return all(getattr(config, field) == getattr(other, field) for field in _OF_DATA)


_OF_DATA = (
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


class Records:
    """Shared by the copies of a source; compared by identity, and outside of every graph. Pickles, and opens its files anew.

    Args:
        data_set: Of a format that is read without TensorFlow.
        title: What errors call the source.

    Raises:
        NeedsTensorFlow: See `FeatureDecoder`.
        FileNotFoundError, PermissionError, DataFileError: See `RecordFiles`.
    """

    def __init__(self, data_set: DataSet, title: str) -> None:
        if data_set.backend == "tf.data":
            raise ValueError(f"{title} is read by tf.data, which has no random access")
        self.decoder = FeatureDecoder(
            data_set.features, data_set.kept
        )  # first: what cannot be decoded need not be read
        self.files = RecordFiles(data_set.parts, data_set.backend, title)
        self._fields = data_set.fields
        self.spec: ElementSpec = self.served(self.decoder.spec)

    def batch(self, indices: np.ndarray) -> Batch:
        """The records at int64 (k,) ``indices`` as a batch of new arrays.

        Raises:
            RecordError: One of them cannot be read or decoded; says which, where and why.
            DataFileError: A file changed since it was first opened.
        """
        stored = self.files.read(indices)
        try:
            return self.served(self.decoder.decode(stored))
        except UndecodableRecord as error:
            raise self.files.undecodable(int(indices[error.row]), error.reason) from error

    def fill(self, indices: np.ndarray, stored: Sequence[bytes], columns: Mapping[str, Any]) -> None:
        """Write the records at ``indices``, neighbours as `RecordFiles.read` gives them, into whole columns.

        Args:
            indices: int64 (k,), each one more than the one before.
            stored: Their bytes.
            columns: An array of all records for each field, by the names of the data set.

        Raises:
            RecordError: One of them cannot be decoded.
        """
        try:
            self.decoder.decode_into(stored, columns, int(indices[0]))
        except UndecodableRecord as error:
            raise self.files.undecodable(int(indices[error.row]), error.reason) from error

    def served(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Fields by the names by which they are served, of fields by the names of the data set."""
        return {name: stored[key] for name, key in self._fields}


_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""What a container may use, where it has a limit: by the two versions of Linux's control groups."""

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")


def host_memory() -> int:
    """Bytes of memory of this machine, or of the container that this process runs in."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([memory, *filter(None, map(_limit, _LIMITS))])


def array_bytes(spec: ElementSpec, num_records: int, stored_bytes: int) -> int:
    """Bytes of the arrays of so many records; text and bytes among them count as they are stored, at most ``stored_bytes``."""
    fields = named_fields(spec).values()
    numbers: int = sum(math.prod(field.shape) * field.dtype.itemsize for field in fields)
    has_objects = any(field.dtype.hasobject for field in fields)
    return numbers * num_records + (stored_bytes if has_objects else 0)


def in_words(nbytes: int) -> str:
    """A size for people: ``1.3 GiB``."""
    size, unit = float(nbytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def _limit(path: str) -> int | None:
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
