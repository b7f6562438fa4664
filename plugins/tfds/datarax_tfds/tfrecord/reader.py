"""Reader of the records of TFRecord files: found and counted by their index, decoded in whole batches."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from datarax_core.files import data_files
from datarax_core.record_files import ReadError, RecordReader
from datarax_core.records import Batch, ElementSpec
from datarax_core.registry import Decoder
from datarax_core.sources import FileTable, Stamp, require_file
from datarax_tfds.files.table import UnreadableError, fingerprint_of
from datarax_tfds.files.tfrecord import TFRecordFile, TFRecordFiles
from datarax_tfds.files.tfrecord_index import cached_offsets, record_offsets

from .config import TFRECORD, TFRecordSourceConfig
from .unpacked import is_compressed, unpacked

_READING_FIELDS = ("paths", "decoder", "on_error", "max_errors", "quarantine", "exclude", "max_open_files")
"""Fields of the config that change which records are read, and how."""


class BytesDecoder(Decoder):
    """Decoder of a source without one: serves the bytes of each record as the field ``record``."""

    type: Literal["bytes"] = "bytes"

    def element_spec(self) -> ElementSpec:
        """Return the element spec of one field of objects."""
        return {"record": jax.ShapeDtypeStruct((), np.dtype(object))}

    def decode(self, records: Sequence[bytes], spec: ElementSpec) -> Batch:  # noqa: ARG002 - the signature of Decoder
        """Return the records as one column of objects."""
        column = np.empty(len(records), object)
        column[:] = records
        return {"record": column}


class TFRecordReader(RecordReader):
    """Reads and decodes the records of TFRecord files, compressed or not. Picklable; a pickle holds no open files.

    Args:
        config: Names the files, their decoder, and what happens to bad records.

    Raises:
        ValueError: Two paths name the same file.
        FileNotFoundError, PermissionError: A file does not exist, or may not be read.
        DataFileError: A file is truncated, damaged, or no TFRecord file.
        ConfigError: The list of excluded records is damaged.
    """

    def __init__(self, config: TFRecordSourceConfig) -> None:
        self.config = config
        policy = config.bad_record_policy()
        paths = data_files(config.paths, TFRECORD)
        stamps = [require_file(path) for path in paths]
        offsets = [_offsets_of(path, stamp) for path, stamp in zip(paths, stamps, strict=True)]
        table = FileTable.of(paths, [len(of_file) - 1 for of_file in offsets], stamps)
        super().__init__(table, config.decoder or BytesDecoder(), exclude=config.exclude, policy=policy)
        self._files = TFRecordFiles(table, offsets, open_tfrecord, config.max_open_files)

    def is_read_as(self, config: TFRecordSourceConfig) -> bool:
        """Return whether a source with this config reads the same records in the same way."""
        return all(getattr(config, field) == getattr(self.config, field) for field in _READING_FIELDS)

    def read_stored(self, records: np.ndarray) -> list[bytes]:
        """Return the bytes of records; see `RecordReader.read_stored`. The checksums of each are verified."""
        try:
            return self._files.read(records)
        except UnreadableError as error:
            raise ReadError(error.reason + self._copy_clause(error.record)) from error

    def _copy_clause(self, record: int) -> str:
        """Return where the bytes of a record of a compressed file come from, for the end of a message; else nothing."""
        part = int(self.table.parts_of(np.array([record]))[0])
        path = self.table.paths[part]
        if not is_compressed(path):
            return ""
        return f", in {unpacked(path, Stamp.of(path))}, its unpacked copy; if the file itself is whole, delete the copy"

    def close(self) -> None:
        """Close all files that are not in use; the next read opens them again."""
        self._files.close()

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that a restored state must match: names and sizes of the files, decoder and excluded records."""
        digest = hashlib.sha256(self.excluded.tobytes()).hexdigest()[:16]
        return {
            **fingerprint_of(self.table),
            "decoder": self.decoder.model_dump(mode="json"),
            "excluded": [len(self.excluded), digest] if len(self.excluded) else None,
        }


def open_tfrecord(path: str) -> TFRecordFile:
    """Open a TFRecord file; of a compressed one, its unpacked content."""
    return TFRecordFile(unpacked(path, Stamp.of(path)) if is_compressed(path) else path)


def _offsets_of(path: str, stamp: Stamp) -> np.ndarray:
    def find() -> np.ndarray:
        plain = unpacked(path, stamp) if is_compressed(path) else path
        descriptor = os.open(plain, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return record_offsets(path, descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
            stamp.require_same(path)  # the error of a changed file takes precedence over any other

    return cached_offsets(path, stamp, find, is_compressed=is_compressed(path))
