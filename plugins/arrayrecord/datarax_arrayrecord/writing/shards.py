"""Records into the files of a data set, each of which gets a contiguous range of them."""

import contextlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from array_record.python.array_record_module import ArrayRecordWriter

_LENGTH: Final = struct.Struct("<Q")
_SPOOL_BYTES: Final = 1 << 22


def shard_bounds(count: int | None, shards: int, who: str) -> list[int | None]:
    """The number of the record behind the last one of each shard; None for a single one that takes whatever comes.

    Raises:
        ValueError: There are fewer records than shards.
    """
    if count is None:
        return [None]
    if count < shards:
        raise ValueError(
            f"shards={shards} leaves some of them without records, of which {who} {count}; write {count} shards at most"
        )
    return [count * (shard + 1) // shards for shard in range(shards)]


def write_shards(
    files: Sequence[str],
    bounds: Sequence[int | None],
    blocks: Iterable[list[bytes]],
    options: str,
    progress: Callable[[int], None] | None = None,
) -> tuple[int, bytes]:
    """Write the records of all blocks to the files, in their order; (how many, the first one).

    Raises:
        ValueError: The writer does not take the options.
        OSError: A file cannot be written, as where the disk is full; names it.
    """
    head, written, shard = None, 0, 0
    file = _File(files[0], options)
    try:
        for block in blocks:
            head = block[0] if head is None else head
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
    except BaseException:  # an interruption, too, leaves no open file
        file.abandon()
        raise
    file.close()
    return written, head or b""


def spooled(blocks: Iterable[list[bytes]], path: Path) -> tuple[int, Iterator[list[bytes]]]:
    """(how many records there are, the same records): written to a file and read back, for nobody knew before."""
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
        while block := list(_some_records(file)):
            yield block


def _some_records(file: BinaryIO) -> Iterator[bytes]:
    nbytes = 0
    while nbytes < _SPOOL_BYTES and (prefix := file.read(_LENGTH.size)):
        (length,) = _LENGTH.unpack(prefix)
        nbytes += length + _LENGTH.size
        yield file.read(length)


class _File:
    """A file that is being written."""

    def __init__(self, path: str, options: str) -> None:
        self._name = Path(path).name
        try:
            self._writer: Any = ArrayRecordWriter(path, options)
        except ValueError as error:
            raise ValueError(f"the compression cannot be had: {error}") from error
        if not self._writer.ok():
            self.close()

    def write(self, records: list[bytes]) -> None:
        with self._in_words():
            for record in records:
                self._writer.write(record)
        if not self._writer.ok():
            self.close()

    def close(self) -> None:
        """End the file; the writer tells by now at the latest whether something went wrong."""
        with self._in_words():
            self._writer.close()

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition("; ")[0]
            raise OSError(f"{self._name} cannot be written: {reason}; is the disk full?") from error

    def abandon(self) -> None:
        """Let go of a file that nobody wants any more."""
        with contextlib.suppress(RuntimeError):
            self._writer.close()
