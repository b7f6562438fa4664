"""All records of a source once, in blocks of some megabytes: to check them, and to write them to files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import jax
import numpy as np

from datarax_core.config.models import SourceConfig
from datarax_core.errors import DataFileError, RecordError, SpecError, reason_of
from datarax_core.records.joining import host_column
from datarax_core.records.narrowed import narrowed_fields
from datarax_core.records.spec import Batch, nbytes_of

from .source import DataSourceModule
from .verification import Verified

_BYTES: Final = 1 << 23

_FIRST: Final = 32

_GROWTH: Final = 8

_LARGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class Written:
    """Files that hold the records of a source."""

    config: SourceConfig
    """The config of the source that reads the files."""

    paths: tuple[str, ...]
    """The files, in the order of their records."""

    num_records: int
    """Number of records in all files together."""

    nbytes: int
    """Bytes of all files together on disk."""

    changes: tuple[str, ...] = ()
    """Sentences on fields that are read back with another dtype, and equal values, than the source has."""


@runtime_checkable
class WritesRecords(Protocol):
    """A class of sources that can write the records of other sources to files which it reads; ``drx convert`` needs one."""

    @classmethod
    def write_records(
        cls,
        path: str,
        source: DataSourceModule,
        *,
        shards: int = 1,
        decoder: str | None = None,
        compression: str | None = None,
        overwrite: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Written:
        """Write the records of ``source`` to files that a source of this class reads.

        A class whose files have no shards, decoders or compression refuses other values than the defaults.

        Args:
            path: The file, or the beginning of the names of several files.
            source: Its records are read in the order of their index; see `record_blocks`.
            shards: Number of files, of about as many records each.
            decoder: Name of the format of a record in the files; None picks one.
            compression: How records are compressed, as the file format names it.
            overwrite: Replace existing files instead of refusing to.
            progress: Called from time to time with the number of records written so far.
        """


class BlockSize:
    """The number of records in the next block: few at first, then about eight megabytes by the size of earlier records."""

    def __init__(self) -> None:
        self.records = _FIRST

    def note(self, records: int, nbytes: int) -> None:
        """Adapt to the size of the records of a block."""
        fitting = _BYTES * records // max(nbytes, 1)
        self.records = max(1, min(fitting, self.records * _GROWTH, _LARGEST))


def record_blocks(source: DataSourceModule) -> Iterator[Batch]:
    """Yield every record once, in the order of the record indices, as NumPy batches with the dtypes as stored.

    A stream is reset, and yields one epoch in its own order; a stream of unknown length is read until it ends.

    Raises:
        SpecError: A stream has another number of records than its ``__len__`` says, or batches differ in shape.
    """
    if source.differs_in_shape:
        raise SpecError(
            f"batches of {source.title} differ in shape, so that its records are not of one; take those of the source that it "
            "is made of"
        )
    return _of_stream(source) if source.access == "stream" else _of_indexed(source)


def verified_blocks(source: DataSourceModule) -> Iterator[Verified]:
    """Read every record once to check that it can be read, and yield the results; see `DataSourceModule.verify_records`.

    A stream cannot be read past a record that fails: the check ends with that record.

    Raises:
        DataFileError: A whole file is damaged, or changed during the check.
    """
    return _verified_stream(source) if source.access == "stream" else _verified_indexed(source)


def _of_indexed(source: DataSourceModule) -> Iterator[Batch]:
    size, start, length = BlockSize(), 0, source.num_records
    while start < length:
        stop = min(start + size.records, length)
        batch = _on_host(source.fetch_on_host(np.arange(start, stop)))
        yield batch
        size.note(stop - start, nbytes_of(batch))
        start = stop


def _of_stream(source: DataSourceModule) -> Iterator[Batch]:
    source.reset()
    size, read, length = BlockSize(), 0, source.epoch_length
    while length is None or read < length:
        try:
            batch = _on_host(source.read_batch(size.records if length is None else min(size.records, length - read)))
        except StopIteration:
            break
        rows = len(jax.tree.leaves(batch)[0])
        yield batch
        size.note(rows, nbytes_of(batch))
        read += rows
    if length is not None and read != length:
        raise SpecError(f"{source.title} ended after {read} records, where __len__() says {length}")


def _on_host(batch: Batch) -> Batch:
    return jax.tree.map(host_column, batch)


def _verified_indexed(source: DataSourceModule) -> Iterator[Verified]:
    size, start, length = BlockSize(), 0, source.num_records
    while start < length:
        stop = min(start + size.records, length)
        part = source.verify_records(np.arange(start, stop))
        yield part
        if good := part.records - len(part.errors):
            size.note(good, part.nbytes)
        start = stop


def _verified_stream(source: DataSourceModule) -> Iterator[Verified]:
    blocks, read = record_blocks(source), 0
    while True:
        try:
            block = next(blocks, None)
        except DataFileError:
            raise
        except Exception as error:  # noqa: BLE001 - sources of other authors may raise any error
            reason = reason_of(error)
            message = f"{source.title} cannot be read past its first {read} records: {reason}"
            yield Verified(1, 0, (RecordError(message, record=read, reason=reason),))
            return
        if block is None:
            return
        rows = len(jax.tree.leaves(block)[0])
        yield Verified(rows, nbytes_of(block), narrowed=narrowed_fields(block))
        read += rows
