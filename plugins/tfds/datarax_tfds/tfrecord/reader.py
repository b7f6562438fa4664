"""Reader of the records of TFRecord files: found and counted by their index, decoded in whole batches."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import numpy as np

from datarax_core.files import data_files, is_remote
from datarax_core.record_files import ReadError, RecordReader
from datarax_core.records import Batch, ElementSpec
from datarax_core.registry import Decoder
from datarax_core.sources import FileTable, Stamp, require_file
from datarax_core.storage import RangeReader, redacted
from datarax_tfds.files.table import UnreadableError, fingerprint_of
from datarax_tfds.files.tfrecord import TFRecordFile, TFRecordFiles
from datarax_tfds.files.tfrecord_index import HEADER, cached_offsets, record_offsets
from datarax_tfds.files.tfrecord_objects import offsets_at_addresses

from .config import TFRECORD, TFRecordSourceConfig
from .unpacked import begins_compressed, is_compressed, unpacked

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
        self._ranges = RangeReader.of(config)
        paths = data_files(config.paths, TFRECORD, config.storage_options)
        stamps = self._stamps(paths)
        self._compressed = self._compressed_objects(paths, stamps)
        offsets = self._offsets(paths, stamps)
        table = FileTable.of(paths, [len(of_file) - 1 for of_file in offsets], stamps)
        super().__init__(
            table, config.decoder or BytesDecoder(), exclude=config.exclude, policy=policy, ranges=self._ranges
        )
        open_file = OpenedTFRecord(self._ranges, self._compressed) if self._compressed else open_tfrecord
        self._files = TFRecordFiles(
            table, offsets, open_file, config.max_open_files, reader=self._ranges, opened=self._compressed
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({"_compressed": {}, **state})  # pickles from before addresses were read lack it

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
        if path in self._compressed:
            copy = unpacked(path, self._compressed[path], self._ranges)
        elif not is_remote(path) and is_compressed(path):
            copy = unpacked(path, Stamp.of(path))
        else:
            return ""
        return f", in {copy}, its unpacked copy; if the file itself is whole, delete the copy"

    def _stamps(self, paths: Sequence[str]) -> list[Stamp]:
        """Return the stamp of each file; those at addresses are looked at many at once."""
        addresses = [path for path in paths if is_remote(path)]
        of_objects = dict(zip(addresses, self._ranges.stamps(addresses), strict=True))
        return [of_objects[path] if path in of_objects else require_file(path) for path in paths]

    def _compressed_objects(self, paths: Sequence[str], stamps: Sequence[Stamp]) -> dict[str, Stamp]:
        """Return those of the files at addresses that are compressed, with their stamps."""
        objects = [(path, stamp) for path, stamp in zip(paths, stamps, strict=True) if is_remote(path)]
        addresses = [path for path, _ in objects]
        ends = [min(HEADER, stamp.size) for _, stamp in objects]
        heads = (
            self._ranges.ranges(addresses, [0] * len(ends), ends, [stamp for _, stamp in objects]) if objects else []
        )
        return {path: stamp for (path, stamp), head in zip(objects, heads, strict=True) if begins_compressed(head)}

    def _offsets(self, paths: Sequence[str], stamps: Sequence[Stamp]) -> list[np.ndarray]:
        """Return, for each file, the offsets of its records and the end of the last one."""
        stamp_of = dict(zip(paths, stamps, strict=True))
        plain = [path for path in paths if is_remote(path) and path not in self._compressed]
        found = dict(
            zip(plain, offsets_at_addresses(self._ranges, plain, [stamp_of[path] for path in plain]), strict=True)
        )
        for path in paths:
            if path not in found:
                found[path] = _offsets_of(path, stamp_of[path], self._ranges if path in self._compressed else None)
        return [found[path] for path in paths]

    def close(self) -> None:
        """Close all files that are not in use; the next read opens them again."""
        self._files.close()

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that a restored state must match: names and sizes of the files, decoder and excluded records."""
        digest = hashlib.sha256(self.excluded.tobytes()).hexdigest()[:16]
        return {
            **fingerprint_of(self.table, self._ranges),
            "decoder": self.decoder.model_dump(mode="json"),
            "excluded": [len(self.excluded), digest] if len(self.excluded) else None,
        }


def open_tfrecord(path: str) -> TFRecordFile:
    """Open a TFRecord file; of a compressed one, its unpacked content."""
    return TFRecordFile(unpacked(path, Stamp.of(path)) if is_compressed(path) else path)


@dataclass(frozen=True)
class OpenedTFRecord:
    """Opens TFRecord files as `open_tfrecord` does, and the unpacked contents of compressed ones at addresses. Picklable."""

    reader: RangeReader
    compressed: Mapping[str, Stamp]

    def __call__(self, path: str) -> TFRecordFile:
        """Open a file."""
        if path not in self.compressed:
            return open_tfrecord(path)
        return TFRecordFile(unpacked(path, self.compressed[path], self.reader))


def _offsets_of(path: str, stamp: Stamp, reader: RangeReader | None) -> np.ndarray:
    """Return the offsets of the records of a file of this machine, or with ``reader`` of a compressed one at an address."""
    has_copy = reader is not None or is_compressed(path)

    def find() -> np.ndarray:
        plain = unpacked(path, stamp, reader) if has_copy else path
        descriptor = os.open(plain, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return record_offsets(redacted(path), partial(os.pread, descriptor), os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
            if reader is None:
                stamp.require_same(path)  # the error of a changed file takes precedence over any other

    return cached_offsets(path, stamp, find, is_compressed=has_copy)
