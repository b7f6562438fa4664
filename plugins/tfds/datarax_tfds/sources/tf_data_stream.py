"""The streaming source on the ``tf.data`` backend: for files or features that only TensorFlow reads, or who asks for it."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Self

import jax
import numpy as np

from datarax_core.errors import RecordError
from datarax_core.records import Batch, ElementSpec
from datarax_core.sources import StreamingSourceBase
from datarax_tfds.files.record_files import RecordFiles
from datarax_tfds.files.table import FileTable
from datarax_tfds.splits import FilePart
from datarax_tfds.tf_data.graph import Graph, Shuffle, tensorflow
from datarax_tfds.tf_data.values import as_numpy, spec_of_features

from .opened import Opened
from .streaming import TFDSStreamingSource

_AT_ONCE: Final = 256
"""Records in a batch of the graph until somebody asks for batches of another size; and that are handed to it at once."""


class TFDataStream(TFDSStreamingSource, StreamingSourceBase, readers=("tf.data",)):
    """See `TFDSStreamingSource`."""

    def element_spec(self) -> ElementSpec:
        """What one record looks like, by the declarations of the data set."""
        return self._served(self._reads.spec)

    def read_batch(self, batch_size: int) -> Batch:
        """See `StreamingSourceBase.read_batch`; the graph makes batches of this size from its next start on."""
        if isinstance(batch_size, int | np.integer) and batch_size > 0:  # what is none is refused below
            if batch_size > self._reads.size:
                self._stream.close()
            if self._stream.reading is None:
                self._reads.size = int(batch_size)
        return super().read_batch(batch_size)

    def batches_from(self, epoch: int, start: int) -> Iterator[Batch]:
        """The records of an epoch from the ``start``-th on, in batches of the size that was asked for last.

        Cost of the start: files before it are not read; of the file in which it lies, and where records are shuffled of the
        ``shuffle_buffer_size`` among which they are, the records before it are read, but not decoded.

        Raises:
            RecordError: A record cannot be read or decoded, or is not there; names file, record and cause.
        """
        words, graph = self.order_key_data(), self._reads.graph
        shuffle = None if words is None else Shuffle(np.asarray(words), epoch, self.config.shuffle_buffer_size)
        served, failure = start, None
        try:
            for batch in graph.batches(start, self._reads.size, self.config.prefetch_buffer, shuffle):
                arrays = as_numpy(batch, self._reads.spec)
                yield self._served(arrays)
                served += len(jax.tree.leaves(arrays)[0])
        except tensorflow().errors.OpError as error:
            failure = error
        if failure is not None or served < graph.num_records:
            raise self._fault(served, shuffle, failure) from failure

    def process_part(self, part: int, num_parts: int) -> Self | None:
        """One of ``num_parts`` equal stretches of the records; None if their number does not divide."""
        size, rest = divmod(len(self), num_parts)
        if rest or not size:
            return None
        data_set = self.data_set
        opened = copy.copy(self._opened)
        opened.data_set = replace(data_set, parts=_stretch(data_set.parts, part * size, size))
        return type(self)(self.config, opened, rngs=self.rngs, name=self.name)._with_key_of(self)  # noqa: SLF001 - its twin

    def fingerprint(self) -> dict[str, Any]:
        """See `TFDSSourceBase.fingerprint`; with the files, and how many records are shuffled among one another."""
        own = super().fingerprint()
        if self.order_key_data() is not None:
            own["order"] = f"files shuffled, and windows of {self.config.shuffle_buffer_size}, rule 1"
        return {**own, **self._reads.table.fingerprint()}

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._reads = _Reads(self._opened, self.title)

    def _with_key_of(self, other: "TFDataStream") -> Self:
        if self.order_key is not None and other.order_key is not None:
            self.order_key.set_raw_value(other.order_key.get_raw_value())
        self.is_random_order = other.is_random_order
        return self

    def _served(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        return {name: stored[key] for name, key in self.data_set.fields}

    def _fault(self, served: int, shuffle: Shuffle | None, failure: Exception | None) -> Exception:
        """What is raised of the first record that is not as it should be, behind the ``served``-th of an epoch."""
        found = self._reads.graph.fault(served, shuffle)
        if found is None:
            said = "too few records" if failure is None else str(failure)
            return RecordError(
                f"TensorFlow gave {said!r:.200} behind record {served} of an epoch of {self.title}, but reads all of them by "
                "themselves; did the files change?",
                record=served,
                reason=said,
            )
        part, row = found
        reason = "the file ends before it" if failure is None else str(failure).splitlines()[0][:200]
        index = self._reads.index_of(part, row)
        return RecordError(
            f"record {row} of {part.path} cannot be read: {reason} (record {index} of {self.title})",
            record=index,
            reason=reason,
            path=part.path,
            row=row,
        )

    def _renew_host_state(self) -> None:
        super()._renew_host_state()
        self._reads = copy.copy(self._reads)
        self._reads.graph = copy.copy(self._reads.graph)


class _Reads:
    """What reads, and in batches of which size; outside of the source's graph."""

    def __init__(self, opened: Opened, title: str) -> None:
        data_set = opened.data_set
        self.size = _AT_ONCE
        self.table = FileTable.of(data_set.parts)
        kept = type(data_set.features)({name: data_set.features[name] for name in data_set.kept})
        self.spec = spec_of_features(kept, data_set.full_name)
        read = _Blocks(title) if data_set.file_format == "array_record" else None
        self.graph = Graph(self.table.parts, data_set.file_format, kept, read)

    def index_of(self, found: FilePart, row: int) -> int:
        """The record index of record ``row`` of the file of a part."""
        parts = zip(self.table.parts, self.table.shifts, strict=True)
        return next(row + int(shift) for part, shift in parts if _holds(part, found.path, row))


class _Blocks:
    """Undecoded records of ArrayRecord files, for a graph, which cannot read them by itself."""

    def __init__(self, title: str) -> None:
        self._title = title

    def __call__(self, parts: Any) -> Iterator[list[bytes]]:
        with RecordFiles(parts, "array_record", self._title) as files:
            for start in range(0, files.num_records, _AT_ONCE):
                yield files.read(np.arange(start, min(start + _AT_ONCE, files.num_records)))


def _holds(part: FilePart, path: str, row: int) -> bool:
    return part.path == path and part.start <= row < part.stop


def _stretch(parts: tuple[FilePart, ...], start: int, size: int) -> tuple[FilePart, ...]:
    """The ``size`` records behind the first ``start`` of the parts."""
    stretch = []
    for part in parts:
        first, start = min(start, part.num_records), max(0, start - part.num_records)
        count = min(size, part.num_records - first)
        if count:
            stretch.append(replace(part, start=part.start + first, stop=part.start + first + count))
        size -= count
    return tuple(stretch)
