"""The records of a source by their index: read from whichever files they are in, decoded as one batch."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from datarax_core.errors import DataFileError, RecordError
from datarax_core.records import Batch, ElementSpec, check_batch
from datarax_core.registry import Decoder
from datarax_core.sources import DataSourceModule, FileTable, OpenFiles, Verified, reason_of, verified

from .bad_records import Policy, Substitutes, excluded_records
from .reader import FileReader, ReadError


class RecordReader:
    """Shared by the copies of a source; compared by identity, and outside of every graph. Pickles; readers are opened anew.

    Args:
        table: The files.
        decoder: What makes arrays of bytes.
        exclude: A quarantine file; records that it lists are not counted, and never served.
        policy: What to do about bad records; None raises.
        limit: How many readers stay open.
    """

    def __init__(
        self, table: FileTable, decoder: Decoder, *, exclude: str | None, policy: Policy | None, limit: int
    ) -> None:
        self.table = table
        self.decoder = decoder
        self.excluded = np.empty(0, np.int64) if exclude is None else excluded_records(exclude, table)
        self.files = OpenFiles(table, FileReader, limit=limit, not_in_forks="readers of ArrayRecord files")
        self.length = table.num_records - len(self.excluded)
        self._skips = self.excluded - np.arange(len(self.excluded))
        self._substitutes = None if policy is None else Substitutes(policy, self.length)
        self._spec = decoder.element_spec()
        self._good_spec: tuple[ElementSpec | None] | None = None

    def served_counts(self) -> np.ndarray:
        """int64 (files,): how many records of each file are served."""
        files = np.searchsorted(self.table.ends, self.excluded, side="right")
        return self.table.counts - np.bincount(files, minlength=len(self.table.counts))

    def spec(self, source: DataSourceModule) -> ElementSpec:
        """What one record looks like: as the decoder says, or as the first record does. ``source`` is who asks, here as below.

        Raises:
            ValueError: There is no record to tell.
            RecordError: The first one cannot be read.
        """
        if self._spec is None:
            self.require_records(source)
            read: Callable[[int], ElementSpec] = lambda record: self._one(record, self.decoder.spec_from, source)  # noqa: E731
            self._spec = read(0) if self._substitutes is None else self._substitutes.find(0, read, source)[1]
        return self._spec

    def require_records(self, source: DataSourceModule) -> None:
        """Refuse to serve nothing."""
        if not self.length:
            kept = f", all of whose {self.table.num_records} records are excluded" if len(self.excluded) else ""
            raise ValueError(
                f"{source.title} is empty: its {len(self.table.paths)} files hold no records to serve{kept}"
            )

    def bytes_of(self, indices: np.ndarray, source: DataSourceModule) -> tuple[list[bytes], int]:
        """(the records as they are stored, how many of them stand in for others).

        Raises:
            RecordError: One of them cannot be read; says which, where and why.
            DataFileError: A file changed since the source was built.
        """
        if not len(indices):
            return [], 0
        return self._read(indices, source, lambda records: records, lambda parts: [part[0] for part in parts])

    def batch_of(self, indices: np.ndarray, source: DataSourceModule) -> tuple[Batch, int]:
        """(the records as a batch, how many of them stand in for others).

        Raises:
            RecordError: One of them cannot be read or decoded; says which, where and why.
            DataFileError: A file changed since the source was built.
        """
        spec = self.spec(source)
        if not len(indices):  # which no decoder is asked for
            return jax.tree.map(lambda leaf: np.empty((0, *leaf.shape), leaf.dtype), spec), 0
        return self._read(
            indices,
            source,
            lambda records: self.decoder.decode(records, spec),
            lambda parts: jax.tree.map(lambda *rows: np.concatenate(rows), *parts),
        )

    def verified(self, indices: np.ndarray, source: DataSourceModule) -> Verified:
        """Which of the records cannot be read or decoded, whatever the policy says.

        Raises:
            DataFileError: A file changed since the source was built.
        """
        known = self._first_good_spec(source)

        def decode(records: list[bytes]) -> Batch:
            spec = self.decoder.spec_from(records[0]) if known is None else known
            batch = self.decoder.decode(records, spec)
            check_batch(batch, spec, len(records), origin=f"the decoder {self.decoder.type!r}")
            return batch

        def read(some: np.ndarray) -> Batch:
            if len(some) == 1:
                return self._one(int(some[0]), lambda record: decode([record]), source)
            return decode(self._stored(some))

        return verified(read, indices, source.title)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _read(
        self,
        indices: np.ndarray,
        source: DataSourceModule,
        decode: Callable[[list[bytes]], Any],
        join: Callable[[list[Any]], Any],
    ) -> tuple[Any, int]:
        """What ``decode`` makes of the records; if that fails, of one record after the other, and ``join`` of all."""
        wanted = indices if self._substitutes is None else self._substitutes.applied(indices)
        try:
            return decode(self._stored(wanted)), int(np.count_nonzero(wanted != indices))
        except DataFileError:
            raise
        except Exception:  # noqa: BLE001 - the boundary to decoders of others, which fail in any way they like
            found, substituted = self._one_by_one(indices, source, lambda record: decode([record]))
            return join(found), substituted

    def _first_good_spec(self, source: DataSourceModule) -> ElementSpec | None:
        """The spec, also where the first records cannot be read; None if no record can. Not the one that is served by."""
        if self._good_spec is None:
            self._good_spec = (self._spec,)
            for index in range(self.length if self._spec is None else 0):
                with contextlib.suppress(RecordError):
                    self._good_spec = (self._one(index, self.decoder.spec_from, source),)
                    break
        return self._good_spec[0]

    def _one_by_one(
        self, indices: np.ndarray, source: DataSourceModule, decode: Callable[[bytes], Any]
    ) -> tuple[list[Any], int]:
        found, substituted = [], 0
        for index in indices.tolist():
            if self._substitutes is None:
                found.append(self._one(index, decode, source))
                continue
            served, value = self._substitutes.find(index, lambda record: self._one(record, decode, source), source)
            substituted += served != index
            found.append(value)
        return found, substituted

    def _one(self, index: int, decode: Callable[[bytes], Any], source: DataSourceModule) -> Any:
        """One record by itself, to say what is wrong with it."""
        try:
            (record,) = self._stored(np.asarray([index]))
        except ReadError as error:
            raise self._bad(index, f"cannot be read: {error}", str(error), source) from error.__cause__
        try:
            return decode(record)
        except Exception as error:  # as above
            reason = reason_of(error)
            trouble = f"cannot be decoded as {self.decoder.type!r}: {reason}"
            raise self._bad(index, trouble, reason, source) from error

    def _bad(self, index: int, trouble: str, reason: str, source: DataSourceModule) -> RecordError:
        record = int(self._in_files(np.asarray([index]))[0])
        return self.table.record_error(record, trouble, reason, title=source.title, index=index)

    def _in_files(self, indices: np.ndarray) -> np.ndarray:
        """Record indices counted over all records, the excluded ones too."""
        return indices + np.searchsorted(self._skips, indices, side="right") if len(self._skips) else indices

    def _stored(self, indices: np.ndarray) -> list[bytes]:
        """The records in the order of ``indices``, those of each file read in one go."""
        return self.table.read_by_part(self._in_files(indices), self._rows)

    def _rows(self, part: int, rows: list[int]) -> list[bytes]:
        return self.files.use(part, lambda reader: reader.read(rows))
