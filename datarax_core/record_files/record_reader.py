"""Reader of the records of a source: by record index from any of its files, decoded as one batch."""

import contextlib
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any, ClassVar, Final

import numpy as np

from datarax_core.errors import DataFileError, RecordError, SpecError, reason_of
from datarax_core.files.table import FileTable
from datarax_core.records.joining import empty_batch, joined_batches
from datarax_core.records.spec import Batch, ElementSpec, check_batch
from datarax_core.registry.decoders import Decoder
from datarax_core.sources.reading_ahead import Watch
from datarax_core.sources.source import DataSourceModule
from datarax_core.sources.verification import Verified, verified
from datarax_core.storage.range_reader import RangeReader

from .bad_records import BadRecordPolicy, Substitutes, excluded_records
from .stored_ahead import StoredAhead

_LOOKED_AT: Final = 16
"""Records that are looked at for the fields of all, if the decoder does not declare them."""


class ReadError(Exception):
    """One of the requested records cannot be read; the message says why."""


class RecordReader(ABC):
    """Reads and decodes records by index; shared by copies of a source, and outside of every nnx graph.

    A subclass reads one format of files: it writes `read_stored` and `close`. The argument ``source`` of the methods is the
    source that reads, for error messages and hooks.

    Args:
        table: The files.
        decoder: Decoder of the records.
        exclude: Quarantine file; the records that it lists are neither counted nor served.
        policy: How many bad records are substituted; None raises at the first one.
        other_files: See `excluded_records`.
        ranges: Reads a quarantine file at an address.
    """

    reads_ahead: ClassVar[bool] = False
    """Whether loops read records of many batches by one call of `read_stored`, on a thread; see `StoredAhead`.

    Called: when a loop asks whether records are read ahead.
    Default: False.
    """

    _record_bytes: float | None = None
    _ahead: tuple["weakref.ref[StoredAhead]", ...] = ()

    def __init__(
        self,
        table: FileTable,
        decoder: Decoder,
        *,
        exclude: str | None,
        policy: BadRecordPolicy | None,
        other_files: Collection[str] = (),
        ranges: RangeReader | None = None,
    ) -> None:
        self.table = table
        self.decoder = decoder
        self.excluded = np.empty(0, np.int64)
        if exclude is not None:
            self.excluded = excluded_records(exclude, table, other_files, ranges)
        self.length = table.num_records - len(self.excluded)
        self._served_before_excluded = self.excluded - np.arange(len(self.excluded))
        self._substitutes = None if policy is None else Substitutes(policy, self.length)
        self._spec = decoder.element_spec()
        self._readable_spec: tuple[ElementSpec | None] | None = None  # in a tuple once it was looked for

    @abstractmethod
    def read_stored(self, records: np.ndarray) -> list[bytes]:
        """Return the bytes of records, in their order.

        Args:
            records: int64 (k,): their record indices in the table, which counts excluded records too.

        Raises:
            ReadError: A record cannot be read.
            DataFileError: A file changed since the table was made.

        Called: for each batch, on any thread that reads, several at once, and on one more that reads ahead if
            `reads_ahead`; never without records.
        Default: none; a reader of files writes it.
        """

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_ahead"}  # the loops are of this process

    def reading_ahead(self, watch: Watch) -> StoredAhead | None:
        """Return what reads the records that one loop fetches next; None if nothing is gained, or nothing was read yet.

        Called: by `RecordFilesSource.reading_ahead`, for each loop.
        Default: a `StoredAhead` if `reads_ahead` says so and a record was read before.
        """
        if not self.reads_ahead or self._record_bytes is None:
            return None
        ahead = StoredAhead(self.read_stored, self._record_bytes, watch)
        self._ahead = (*(each for each in self._ahead if each() is not None), weakref.ref(ahead))
        return ahead

    @property
    def decoded_as(self) -> str:
        """What messages say of decoding, such as "decoded as 'example'".

        Called: by errors about records that cannot be decoded.
        Default: "decoded as" and the decoder's name.
        """
        return f"decoded as {self.decoder.type!r}"

    @abstractmethod
    def close(self) -> None:
        """Close all files that are not in use; the next read opens them again.

        Called: by `RecordFilesSource.close`; other threads may be reading.
        Default: none; a reader of files writes it.
        """

    def served_counts(self) -> np.ndarray:
        """Return how many records of each file are served, int64 (files,).

        Called: by users.
        """
        files = np.searchsorted(self.table.ends, self.excluded, side="right")
        return self.table.counts - np.bincount(files, minlength=len(self.table.counts))

    def spec(self, source: DataSourceModule) -> ElementSpec:
        """Return the element spec that the decoder declares, or else that of the first record, and of some others.

        Axes in which records of these differ are None, and their columns ragged.

        Raises:
            DataFileError: There are no records.
            RecordError: The first record cannot be read.
            SpecError: One of the other records that are looked at has other fields.

        Called: by `RecordFilesSource.element_spec`; the first call may read records.
        """
        if self._spec is None:
            self.require_records(source)
            first, _ = self._served_record(0, self.decoder.spec_from, source)
            spec, index, difference = self._covering(first)
            if difference:
                found = self._record_error(index, difference, difference, source)
                raise SpecError(
                    f"the records of {source.title} differ: record {found.row} of {found.path} {difference}; declare the "
                    f"fields of the decoder {self.decoder.type!r}: "
                    f"decoder={{'type': {self.decoder.type!r}, 'fields': ...}}; "
                    f"`drx describe {self.decoder.type}` shows how"
                )
            self._spec = spec
        return self._spec

    def _covering(self, spec: ElementSpec) -> tuple[ElementSpec, int, str]:
        """Return the element spec of some records, spread over the source, and of one with other fields, index and difference.

        Args:
            spec: Element spec of the first record.
        """
        indices = np.unique(np.linspace(0, self.length - 1, _LOOKED_AT).astype(np.int64))
        for index, record in self._readable(indices):
            try:
                difference = self.decoder.difference(record, spec)
                spec = self.decoder.covering(spec, record)
            except ValueError:
                continue  # a damaged record, which is an error when it is read
            if difference:
                return spec, index, difference
        return spec, 0, ""

    def _readable(self, indices: np.ndarray) -> list[tuple[int, bytes]]:
        """Return those of some records that can be read, with their indices; read at once if all of them can."""
        with contextlib.suppress(ReadError):
            return list(zip(indices.tolist(), self._stored(indices), strict=True))
        found: list[tuple[int, bytes]] = []
        for index in indices.tolist():
            with contextlib.suppress(ReadError):
                found += [(index, record) for record in self._stored(np.asarray([index]))]
        return found

    def require_records(self, source: DataSourceModule) -> None:
        """Raise DataFileError if there are no records to serve.

        Called: before an order is made or records are read.
        """
        if not self.length:
            kept = f", all of whose {self.table.num_records} records are excluded" if len(self.excluded) else ""
            paths = self.table.paths
            named = "".join(f"; the first one is {path}" for path in paths[:1])
            raise DataFileError(
                paths[0] if paths else "",
                f"{source.title} is empty: its {len(paths)} files hold no records to serve{kept}{named}",
            )

    def bytes_of(self, indices: np.ndarray, source: DataSourceModule) -> tuple[list[bytes], int]:
        """Return the records as stored, and how many of them are substitutes.

        Raises:
            RecordError: A record cannot be read; names file, row and reason.
            DataFileError: A file changed since the source was built.

        Called: by sources that serve records as stored.
        """
        if not len(indices):
            return [], 0
        return self._read(indices, source, lambda records: records, lambda parts: [part[0] for part in parts])

    def batch_of(self, indices: np.ndarray, source: DataSourceModule) -> tuple[Batch, int]:
        """Return the records as a batch, and how many of them are substitutes.

        Raises:
            RecordError: A record cannot be read or decoded; names file, row and reason.
            DataFileError: A file changed since the source was built.

        Called: by `RecordFilesSource.get_records`; on any thread.
        """
        spec = self.spec(source)
        if not len(indices):  # decoders are never called without records
            return empty_batch(spec), 0
        return self._read(
            indices,
            source,
            lambda records: self.decoder.decode(records, spec),
            joined_batches,
        )

    def verified(self, indices: np.ndarray, source: DataSourceModule) -> Verified:
        """Return which of the records cannot be read or decoded, without substitutes.

        Raises:
            DataFileError: A file changed since the source was built.

        Called: by `RecordFilesSource.verify_records`.
        """
        known = self._spec_of_readable(source)

        def decode(records: list[bytes]) -> Batch:
            spec = self.decoder.spec_from(records[0]) if known is None else known
            batch = self.decoder.decode(records, spec)
            check_batch(batch, spec, len(records), origin=f"the decoder {self.decoder.type!r}")
            return batch

        def read(some: np.ndarray) -> Batch:
            if len(some) == 1:
                return self._decoded_record(int(some[0]), lambda record: decode([record]), source)
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
        """Return the decoded records and the number of substitutes among them.

        Args:
            indices: int64 (k,) record indices.
            source: The source that reads.
            decode: Decodes a list of records.
            join: Joins the results of ``decode`` for single records, which are decoded one by one if ``decode`` fails.
        """
        wanted = indices if self._substitutes is None else self._substitutes.applied(indices)
        stored: list[bytes] | None = None
        try:
            stored = self._stored(wanted)
            return decode(stored), int(np.count_nonzero(wanted != indices))
        except DataFileError:
            raise
        except Exception as error:  # decoders of plugins may raise anything
            if stored is None and isinstance(error, ConnectionError | TimeoutError):
                raise  # a store was asked again and again already
            found, substituted = self._decoded_one_by_one(indices, source, lambda record: decode([record]))
            return join(found), substituted

    def _spec_of_readable(self, source: DataSourceModule) -> ElementSpec | None:
        """Return the element spec of the first record that can be read; None if none can. Only for `verified`."""
        if self._readable_spec is None:
            self._readable_spec = (self._spec,)
            for index in range(self.length if self._spec is None else 0):
                with contextlib.suppress(RecordError):
                    first = self._decoded_record(index, self.decoder.spec_from, source)
                    self._readable_spec = self._covering(first)[:1]
                    break
        return self._readable_spec[0]

    def _decoded_one_by_one(
        self, indices: np.ndarray, source: DataSourceModule, decode: Callable[[bytes], Any]
    ) -> tuple[list[Any], int]:
        """Return the decoded records, read one by one, and the number of substitutes among them."""
        found, substituted = [], 0
        for index in indices.tolist():
            value, is_substitute = self._served_record(index, decode, source)
            substituted += is_substitute
            found.append(value)
        return found, substituted

    def _served_record(self, index: int, decode: Callable[[bytes], Any], source: DataSourceModule) -> tuple[Any, bool]:
        """Return the decoded record, or its substitute if it is bad and the policy allows one, and whether it is that."""
        if self._substitutes is None:
            return self._decoded_record(index, decode, source), False
        served, value = self._substitutes.find(
            index, lambda record: self._decoded_record(record, decode, source), source
        )
        return value, served != index

    def _decoded_record(self, index: int, decode: Callable[[bytes], Any], source: DataSourceModule) -> Any:
        """Return one decoded record, or raise the RecordError that names it and its problem."""
        try:
            (record,) = self._stored(np.asarray([index]))
        except ReadError as error:
            raise self._record_error(index, f"cannot be read: {error}", str(error), source) from error.__cause__
        try:
            return decode(record)
        except Exception as error:  # noqa: BLE001 - decoders of plugins may raise anything
            reason = reason_of(error)
            problem = f"cannot be {self.decoded_as}: {reason}"
            cause = error.__cause__ or error if isinstance(error, RecordError) else error
            raise self._record_error(index, problem, reason, source) from cause

    def _record_error(self, index: int, problem: str, reason: str, source: DataSourceModule) -> RecordError:
        record = int(self._table_indices(np.asarray([index]))[0])
        return self.table.record_error(record, problem, reason, title=source.title, index=index)

    def expected_indices(self, indices: np.ndarray) -> np.ndarray:
        """Return the indices, in the table, of the records that are read to serve those at ``indices``, as far as known.

        Called: by what reads ahead, on its thread.
        """
        return self._table_indices(indices if self._substitutes is None else self._substitutes.applied(indices))

    def _table_indices(self, indices: np.ndarray) -> np.ndarray:
        """Return the indices of records in the table, which counts excluded records too."""
        before = self._served_before_excluded
        return indices + np.searchsorted(before, indices, side="right") if len(before) else indices

    def _stored(self, indices: np.ndarray) -> list[bytes]:
        """Return the bytes of the records in the order of ``indices``; they may have been read ahead."""
        records = self._table_indices(indices)
        for each in self._ahead:
            ahead = each()
            if ahead is not None and (expected := ahead.take(records)) is not None:
                return expected
        stored = self.read_stored(records)
        if self._record_bytes is None and stored:
            self._record_bytes = sum(map(len, stored)) / len(stored)
        return stored
