"""The data of ``tfds.testing.mock_data()``: a few random examples of a data set, of which no file is needed."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from datarax_core.sources import FileTable
from datarax_tfds.backends import tensorflow_datasets
from datarax_tfds.splits import FilePart, tfds_split

from .data import ExampleRecords, UnpreparedData

_PATH: Final = "mock_data"
"""What stands for a file in messages."""


def is_mocked() -> bool:
    """Return whether ``tfds.testing.mock_data()`` is active: it has replaced the part of TFDS that reads files."""
    return "mock_data" in getattr(tensorflow_datasets().core.DatasetBuilder.as_dataset, "__qualname__", "")


class MockedData(UnpreparedData):
    """The examples of a data set that a mock makes, kept when they are made. A mock makes the same for each split.

    Args:
        name: Name of the data set.
        split: The split.

    Raises:
        ValueError: TFDS knows no such data set, or the mock makes no examples.
    """

    description: ClassVar = "Random examples of tfds.testing.mock_data()."
    layout: ClassVar = "no file"

    def __init__(self, name: str, split: str) -> None:
        tfds = tensorflow_datasets()
        try:
            builder = tfds.builder(name)
        except tfds.core.registered.DatasetNotFoundError as error:
            raise ValueError(
                f"tfds.testing.mock_data() is active, and TFDS has no data set {name!r} to mock; for one of your own, name the "
                "folder that has its dataset_info.json and features.json: mock_data(data_dir=...)"
            ) from error
        mocked = builder.as_data_source(split=tfds_split(split))
        self.name = builder.name  # type: ignore[misc]  # of the data set, not of a kind of folder
        self.version = str(builder.version)  # type: ignore[misc]  # as above
        self.supervised_keys = builder.info.supervised_keys  # type: ignore[misc]  # as above
        self.root = _PATH
        self.features = builder.info.features
        self._examples = [mocked[number] for number in range(len(mocked))]
        self.counts = {split: len(self._examples)}
        if not self._examples:
            raise ValueError("tfds.testing.mock_data() is active, and makes no examples; pass num_examples")

    def parts(self) -> tuple[FilePart, ...]:
        """Return all examples as a part."""
        count = len(self._examples)
        return (FilePart(_PATH, 0, count, count),)

    def records(self, parts: Sequence[FilePart]) -> "MockedRecords":  # noqa: ARG002 - there is one part
        """Return all examples."""
        return MockedRecords(self._examples)

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """Return the number of examples of the split."""
        return {split: (count, 0, 0) for split, count in self.counts.items()}

    def file_names(self) -> list[str]:
        """Return no names."""
        return []

    def num_bytes(self, parts: Sequence[FilePart]) -> int:  # noqa: ARG002 - no file has them
        """Return 0."""
        return 0


class MockedRecords(ExampleRecords):
    """Examples that TFDS has decoded already; in place of bytes, `stored` returns the examples themselves."""

    format = "mock_data"
    are_decoded = True

    def __init__(self, examples: Sequence[Any]) -> None:
        self._examples = examples
        self.table = FileTable.of([_PATH], [len(examples)], [None])

    def stored(self, records: np.ndarray) -> list[Any]:
        """Return examples; see `ExampleRecords.stored`."""
        return [self._examples[record] for record in records.tolist()]

    def files(self) -> Iterable[tuple[str, str, int]]:
        """Return no files."""
        return ()

    def fingerprint(self) -> dict[str, Any]:
        """Return a digest of the examples."""
        digest = hashlib.sha256(repr(self._examples).encode()).hexdigest()[:16]
        return {"file_format": self.format, "examples": len(self._examples), "content": digest}
