"""A prepared data set on disk, described: which records of which files a split is, and what their fields are."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from ._config import TFDSConfigBase
from ._parts import FilePart
from ._requirements import tensorflow_datasets

Reader: TypeAlias = Literal["array_record", "tfrecord", "tf.data"]
"""What reads the files."""


@dataclass(frozen=True)
class DataSet:
    """A split of a prepared data set: a value that can be pickled and compared, and holds no open file.

    Make it with `DataSet.open`, which reads two small JSON files and lists one folder.
    """

    name: str
    """As asked for."""
    full_name: str
    """Name, config and version as prepared, such as ``mnist/3.0.1``."""
    split: str
    """As asked for, such as ``train[:200]``."""
    folder: str
    """Where the files lie."""
    file_format: str
    """That of the files that are read: ``array_record``, ``tfrecord``, or one that only TFDS knows."""
    backend: Reader
    """What reads the files, as asked for or, where the config says ``auto``, as the files allow."""
    fields: tuple[tuple[str, str], ...]
    """Each field that is served: the name it is served by, and its name in the data set."""
    supervised_keys: tuple[str, str] | None
    """The names, in the data set, of what is served as ``image`` and ``label``; None unless as_supervised."""
    parts: tuple[FilePart, ...]
    """The records of the split, in the order of their index."""
    num_bytes: int
    """Bytes of the split's records in the files; of a file that is in the split in part, its share."""
    features: Any = field(compare=False, repr=False)
    """TFDS's FeaturesDict of all fields of the data set."""

    @classmethod
    def open(cls, config: TFDSConfigBase, title: str) -> Self:
        """The data set that a config names; prepared first if it is not on disk and the config allows it.

        Never imports TensorFlow, and touches no network, if the data set is on disk.
        """
        raise NotImplementedError

    @property
    def kept(self) -> tuple[str, ...]:
        """The names, in the data set, of the fields that are served; each once."""
        return tuple(dict.fromkeys(stored for _, stored in self.fields))

    @property
    def num_records(self) -> int:
        """Records of the split."""
        return sum(part.num_records for part in self.parts)

    def builder(self) -> Any:
        """TFDS's builder over the folder, which reads and never prepares."""
        return tensorflow_datasets().builder_from_directory(self.folder, file_format=self.file_format)

    def info(self) -> dict[str, Any]:
        """Name, description, splits, features and so on, as JSON would have it."""
        raise NotImplementedError
