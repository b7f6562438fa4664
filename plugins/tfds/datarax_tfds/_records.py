"""The records of a split that can be reached by index: read from its files, decoded as one batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datarax_core.records import Batch, ElementSpec

from ._data_set import DataSet
from ._decoding import FeatureDecoder
from ._record_files import RecordFiles
from ._undecodable import UndecodableRecord


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
