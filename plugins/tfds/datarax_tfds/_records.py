"""The records of a split that can be reached by index: read from its files, decoded as one batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from datarax_core.spec import Batch, ElementSpec

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
        FileNotFoundError, PermissionError, DataFileError: See `RecordFiles`.
    """

    def __init__(self, data_set: DataSet, title: str) -> None:
        self.files = RecordFiles(data_set.parts, data_set.backend, title)
        self._decoder = FeatureDecoder(data_set.features, data_set.kept)
        self._fields = data_set.fields
        self.spec: ElementSpec = self._served(self._decoder.spec)

    def batch(self, indices: np.ndarray) -> Batch:
        """The records at int64 (k,) ``indices`` as a batch of new arrays.

        Raises:
            RecordError: One of them cannot be read or decoded; says which, where and why.
            DataFileError: A file changed since it was first opened.
        """
        stored = self.files.read(indices)
        try:
            return self._served(self._decoder.decode(stored))
        except UndecodableRecord as error:
            raise self.files.undecodable(int(indices[error.row]), error.reason) from error

    def fill(self, indices: np.ndarray, columns: Mapping[str, Any], first_row: int) -> int:
        """Write the records at ``indices`` into arrays, by the names of the data set; gives the bytes they have in the files.

        Raises:
            RecordError, DataFileError: As above.
        """
        stored = self.files.read(indices)
        try:
            self._decoder.decode_into(stored, columns, first_row)
        except UndecodableRecord as error:
            raise self.files.undecodable(int(indices[error.row]), error.reason) from error
        return sum(map(len, stored))

    def _served(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        return {name: stored[key] for name, key in self._fields}
