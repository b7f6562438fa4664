"""What is done with all records of a source at once: seeing whether they can be read, and writing them to files."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ._elements import ElementAccess
from .spec import Batch
from .verification import Verified, verified
from .writing import Written

if TYPE_CHECKING:
    from .source import DataSourceModule


class WholeAccess(ElementAccess):
    """What a source offers besides batches and elements."""

    if TYPE_CHECKING:  # what the source itself brings

        def _checked_records(self, indices: Any) -> Batch: ...

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Which of the records at int (k,) ``indices`` cannot be read, and why. Nothing is served, or kept.

        Strict: a source that puts up with bad records, and serves others for them, overrides it and reads them all the same.

        Raises:
            DataFileError: A whole file is damaged, or changed since the source was built.
        """
        self._require_random_access()
        return verified(self._checked_records, np.asarray(indices), self.title)

    @classmethod
    def write_records(
        cls,
        path: str,
        source: "DataSourceModule",
        *,
        shards: int = 1,
        decoder: str | None = None,
        compression: str | None = None,
        overwrite: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Written:
        """Write the records of another source to files that a source of this class reads; ``drx convert`` calls it.

        A class whose files have no shards, decoders or compression refuses other values than the defaults.

        Args:
            path: Of the file, or what the names of the files are made of.
            source: Its records are read in the order of their index, see `datarax_core.blocks.record_blocks`.
            shards: How many files of about as many records each.
            decoder: The name of the format that records have in the files; None picks one.
            compression: How records are compressed, in the words of the format.
            overwrite: Replace what is there, instead of refusing to.
            progress: Called with the number of records written so far, every now and then.
        """
        raise NotImplementedError(
            f"{cls.__name__} cannot write the records of {source.title} to {path}: it does not define write_records(); choose "
            "a type that does, such as arrayrecord"
        )
