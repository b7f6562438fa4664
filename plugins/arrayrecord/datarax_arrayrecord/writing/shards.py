"""Writer of the files of a data set, each with a contiguous range of its records."""

import contextlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from array_record.python.array_record_module import ArrayRecordWriter

_LENGTH: Final = struct.Struct("<Q")
_SPOOL_BYTES: Final = 1 << 22
"""Size from which on a block of records that is read back from the spool ends."""


def shard_bounds(count: int | None, shards: int, title: str) -> list[int | None]:
    """Return the record index after the last record of each shard; None for a single shard of unknown length.

    Args:
        count: Number of records; None if it is unknown, which only a single shard can be written with.
        shards: Number of shards.
        title: Name of the records, for the error.

    Raises:
        ValueError: There are fewer records than shards.
    """
    if count is None:
        return [None]
    if count < shards:
        raise ValueError(
            f"shards={shards} leaves some of them without records, of which {title} has {count}; write {count} shards at most"
        )
    return [count * (shard + 1) // shards for shard in range(shards)]


def write_shards(
    files: Sequence[str],
    bounds: Sequence[int | None],
    blocks: Iterable[list[bytes]],
    options: str,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write the records of all blocks to the files in their order; return the number of records.

    Args:
        files: Paths of the shards.
        bounds: Record index after the last record of each shard, see `shard_bounds`.
        blocks: Records.
        options: Options of array_record's writer.
        progress: Called with the number of records written after each block.

    Raises:
        ValueError: The writer refuses the options.
        OSError: A file cannot be written, for example because the disk is full; names it.
    """
    written, shard = 0, 0
    file = _File(files[0], options)
    try:
        for block in blocks:
            start = 0
            while start < len(block):
                bound = bounds[shard]
                if bound == written and shard + 1 < len(files):
                    file.close()
                    shard += 1
                    file = _File(files[shard], options)
                    continue
                room = len(block) if bound is None or shard + 1 == len(files) else bound - written
                part = block[start : start + room]
                file.write(part)
                start, written = start + len(part), written + len(part)
            if progress is not None:
                progress(written)
    except BaseException:  # also after an interruption, no file stays open
        file.abandon()
        raise
    file.close()
    return written


def spooled(blocks: Iterable[list[bytes]], path: Path) -> tuple[int, Iterator[list[bytes]]]:
    """Return the number of records and the same records, which are written to a file at ``path`` and read back."""
    count = 0
    with path.open("wb") as file:
        for block in blocks:
            count += len(block)
            for record in block:
                file.write(_LENGTH.pack(len(record)))
                file.write(record)
    return count, _spooled_blocks(path)


def _spooled_blocks(path: Path) -> Iterator[list[bytes]]:
    with path.open("rb") as file:
        while block := list(_records_of_a_block(file)):
            yield block


def _records_of_a_block(file: BinaryIO) -> Iterator[bytes]:
    nbytes = 0
    while nbytes < _SPOOL_BYTES and (prefix := file.read(_LENGTH.size)):
        (length,) = _LENGTH.unpack(prefix)
        nbytes += length + _LENGTH.size
        yield file.read(length)


class _File:
    """ArrayRecord file that is being written."""

    def __init__(self, path: str, options: str) -> None:
        self._name = Path(path).name
        try:
            self._writer: Any = ArrayRecordWriter(path, options)
        except ValueError as error:
            raise ValueError(f"array_record refuses the compression: {error}") from error
        if not self._writer.ok():
            self.close()

    def write(self, records: list[bytes]) -> None:
        with self._failure_explained():
            for record in records:
                self._writer.write(record)
        if not self._writer.ok():
            self.close()

    def close(self) -> None:
        """Finish the file, which raises at the latest if something went wrong."""
        with self._failure_explained():
            self._writer.close()

    @contextlib.contextmanager
    def _failure_explained(self) -> Iterator[None]:
        """Raise OSError for an error of array_record's writer."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition("; ")[0]
            raise OSError(f"{self._name} cannot be written: {reason}; is the disk full?") from error

    def abandon(self) -> None:
        """Close a file that is not needed any more, whatever its state."""
        with contextlib.suppress(RuntimeError):
            self._writer.close()
