"""Bases of data sets that are never prepared: splits and features, and the records of a part."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from datarax_core.sources import FileTable, content_of_files
from datarax_tfds.backends import tensorflow_datasets
from datarax_tfds.splits import FilePart


class UnpreparedData(ABC):
    """A folder of examples as it was listed, or what stands in its place; picklable.

    A part of a split has the path ``root/split``, which need not exist, since its records are in many files.
    """

    name: ClassVar[str]
    """Name of TFDS's builder, such as ``image_folder``."""

    version: ClassVar[str] = "1.0.0"
    description: ClassVar[str]
    layout: ClassVar[str]
    """Where the files are, for messages."""

    has_options: ClassVar[bool] = False
    """Whether the builder has arguments besides the folder."""

    supervised_keys: ClassVar[tuple[str, str] | None] = None

    root: str
    """The folder, as the config gives it."""

    features: Any
    """TFDS's FeaturesDict of the examples."""

    counts: dict[str, int]
    """Number of examples of each split."""

    @property
    def full_name(self) -> str:
        """Name and version."""
        return f"{self.name}/{self.version}"

    def splits(self) -> Any:
        """Return the splits as TFDS's ``SplitDict``, whose arithmetic of sub-splits applies."""
        core = tensorflow_datasets().core
        infos = []
        for split, count in self.counts.items():
            template = core.ShardedFileTemplate(
                data_dir=self.root, template="{SPLIT}", dataset_name=self.name, split=split, filetype_suffix=self.name
            )
            infos.append(
                core.SplitInfo(name=split, shard_lengths=[count], num_bytes=0, filename_template=template),
            )
        return core.SplitDict(infos)

    @abstractmethod
    def records(self, parts: Sequence[FilePart]) -> "ExampleRecords":
        """Return the records of parts of splits."""

    @abstractmethod
    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """Return, for each split, its numbers of examples, of bytes and of files."""

    @abstractmethod
    def file_names(self) -> list[str]:
        """Return the names of the files that quarantine files may list, of all splits."""

    @abstractmethod
    def num_bytes(self, parts: Sequence[FilePart]) -> int:
        """Return the bytes that the examples of parts take in the files."""


class ExampleRecords(ABC):
    """The examples of a part of a folder by record index, as bytes of ``tf.train.Example``; read by any number of threads."""

    table: FileTable
    """The file of each example, and its row in that file; of examples in several files, the first one."""

    format: str

    are_decoded: ClassVar[bool] = False
    """Whether `stored` returns decoded examples, and not bytes."""

    @abstractmethod
    def stored(self, records: np.ndarray) -> list[bytes]:
        """Return the records at int64 (k,) ``records``, in their order.

        Raises:
            ReadError: A file cannot be read.
            DataFileError: A file changed since the folder was listed.
        """

    @abstractmethod
    def files(self) -> Iterable[tuple[str, str, int]]:
        """Return, for each file, its path, a name of it below the root with the rows that are read, and its size."""

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that a restored state must match: names below the root, sizes and a sample of the files."""
        return dict(self._fingerprint)

    def close(self) -> None:  # noqa: B027 - nothing to write in subclasses
        """Do nothing: no file stays open between reads."""

    @cached_property
    def _fingerprint(self) -> dict[str, Any]:
        digest, paths, total = hashlib.sha256(), [], 0
        for path, name, size in self.files():
            paths.append(path)
            total += size
            digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
        content = content_of_files(paths)
        facts = {"file_format": self.format, "files": len(paths), "bytes": total, "parts": digest.hexdigest()[:16]}
        return facts if content is None else {**facts, "content": content}


def split_of(part: FilePart) -> str:
    """Return the name of the split that a part belongs to."""
    return os.path.basename(part.path)  # noqa: PTH119 - a split may have any name


def example_of(values: Iterable[tuple[str, bytes | int]]) -> bytes:
    """Return a ``tf.train.Example`` with one value a feature: bytes, or a whole number from 0 on."""
    return _message(
        0x0A, b"".join(_message(0x0A, _message(0x0A, key.encode()) + _feature(value)) for key, value in values)
    )


def _feature(value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _message(0x12, _message(0x1A, _message(0x0A, _varint(value))))
    return _message(0x12, _message(0x0A, _message(0x0A, value)))


def _message(tag: int, content: bytes) -> bytes:
    return b"".join((bytes((tag,)), _varint(len(content)), content))


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
