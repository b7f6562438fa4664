"""Streaming by ``tf.data``: the `TFDSStreamingSource` of files or features that only TensorFlow reads.

It also serves a config with ``backend="tf.data"``.
"""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import jax
import numpy as np

from datarax_core.background import require_own_process
from datarax_core.errors import RecordError
from datarax_core.records import Batch, ElementSpec
from datarax_core.sources import FileTable, HostState, StreamingSourceBase
from datarax_tfds.features.stored import UndecodableRecord
from datarax_tfds.files.record_files import RecordFiles
from datarax_tfds.files.table import fingerprint_of, table_of
from datarax_tfds.splits import FilePart
from datarax_tfds.tf_data.decoding import GraphDecoder
from datarax_tfds.tf_data.graph import Graph, Shuffle
from datarax_tfds.tf_data.library import tensorflow

from .opened import Opened
from .streaming import TFDSStreamingSource

_BLOCK: Final = 256
"""Records in a batch of the graph until a caller requests another size; and records that are given to the graph at once."""


class TFDataStream(TFDSStreamingSource, StreamingSourceBase, readers=("tf.data",)):
    """The `TFDSStreamingSource` of data sets that TensorFlow reads, forward only."""

    def element_spec(self) -> ElementSpec:
        """Return the element spec, by the declarations of the data set; reads no record."""
        return self._served(self._graph_reader.spec)

    def read_batch(self, batch_size: int) -> Batch:
        """Return the next records; when the graph starts anew, it makes batches of the requested size."""
        if isinstance(batch_size, int | np.integer) and batch_size > 0:  # other values are refused below
            if batch_size > self._graph_reader.batch_size:
                self.close()
            if not self.is_reading:
                self._graph_reader.batch_size = int(batch_size)
        return super().read_batch(batch_size)

    def batches_from(self, epoch: int, start: int) -> Iterator[Batch]:
        """Yield the records of an epoch from the ``start``-th on, in batches of the size that was requested last.

        Cost of the start: whole files before it are skipped. In the file of the start, the records before it are read, but
        not decoded; in a shuffled epoch, so are the records before it in its window of ``shuffle_buffer_size`` records.

        Raises:
            RecordError: A record cannot be read or decoded, or is missing; the message names file, record and cause.
        """
        require_own_process(self._graph_reader.process, f"the graph of TensorFlow in {self.title}")
        key_data, graph = self.order_key_data(), self._graph_reader.graph
        shuffle = None if key_data is None else Shuffle(np.asarray(key_data), epoch, self.config.shuffle_buffer_size)
        served, failure = start, None
        try:
            for batch in graph.batches(start, self._graph_reader.batch_size, self.config.prefetch_buffer, shuffle):
                arrays = graph.decoder.arrays(batch)
                yield self._served(arrays)
                served += len(jax.tree.leaves(arrays)[0])
        except (tensorflow().errors.OpError, UndecodableRecord) as error:
            failure = error
        if failure is not None or served < graph.num_records:
            raise self._record_error(served, shuffle, failure) from failure

    def process_part(self, part: int, num_parts: int) -> Self | None:
        """Return a stream of one of ``num_parts`` equal ranges of the records; None if they cannot be divided equally."""
        size, rest = divmod(len(self), num_parts)
        if rest or not size:
            return None
        data_set = self.data_set
        opened = copy.copy(self._opened)
        opened.data_set = replace(data_set, parts=_range_of(data_set.parts, part * size, size))
        twin = type(self)(self.config, opened, rngs=self.rngs, name=self.name)
        if twin.order_key is not None and self.order_key is not None:
            twin.order_key.set_raw_value(self.order_key.get_raw_value())
        twin.is_random_order = self.is_random_order
        return twin

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that a restored state must match, with the files, and the size of the windows that are shuffled."""
        own = super().fingerprint()
        if self.order_key_data() is not None:
            own["order"] = f"files shuffled, and windows of {self.config.shuffle_buffer_size}, rule 1"
        return {**own, **fingerprint_of(self._graph_reader.table)}

    def _begin(self) -> None:
        self._graph_reader = _GraphReader.of(self._opened, self.title)

    def _served(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        return {name: stored[key] for name, key in self.data_set.fields}

    def _record_error(self, served: int, shuffle: Shuffle | None, failure: Exception | None) -> Exception:
        """Return the error of the first record that cannot be read or decoded after the first ``served`` of an epoch."""
        found = self._graph_reader.graph.first_bad_record(served, shuffle)
        if found is None:
            message = "too few records" if failure is None else str(failure)
            return RecordError(
                f"TensorFlow stopped after record {served} of an epoch of {self.title} with {message!r:.200}, but can read "
                "each record by itself; did the files change?",
                record=served,
                reason=message,
            )
        part, row, cause = found
        index = self._graph_reader.index_of(part, row)
        if isinstance(cause, UndecodableRecord):
            found_in_it = f"cannot be decoded: {cause.reason}"
            return self._graph_reader.table.record_error(index, found_in_it, cause.reason, title=self.title)
        reason = "the file ends before it" if failure is None else str(failure).splitlines()[0][:200]
        return self._graph_reader.table.record_error(index, f"cannot be read: {reason}", reason, title=self.title)


@dataclass(eq=False)
class _GraphReader(HostState):
    """The graph of a stream, its files, and the size of its batches; a clone of the stream gets a graph of its own."""

    parts: tuple[FilePart, ...]
    table: FileTable
    spec: ElementSpec
    """Element spec by the names that fields have in the data set."""

    graph: Graph
    batch_size: int = _BLOCK
    process: int = field(default_factory=os.getpid)

    @classmethod
    def of(cls, opened: Opened, title: str) -> Self:
        """Return the reader of an opened data set; the graph itself is made when it is first read."""
        data_set = opened.data_set
        parts = tuple(part for part in data_set.parts if part.num_records)
        kept = type(data_set.features)({name: data_set.features[name] for name in data_set.kept})
        read_blocks = _BlockReader(title) if data_set.file_format == "array_record" else None
        decoder = GraphDecoder(kept, data_set.full_name, as_objects=opened.config.as_objects)
        graph = Graph(parts, data_set.file_format, decoder, read_blocks)
        return cls(parts, table_of(parts), decoder.spec, graph)

    def constructor_data(self) -> tuple[Any, ...]:
        """Return all fields, with a copy of the graph, since a graph has one reader."""
        return self.parts, self.table, self.spec, copy.copy(self.graph), self.batch_size

    def index_of(self, part: FilePart, row: int) -> int:
        """Return the record index of a row of the file of a part."""
        parts = zip(self.parts, self.table.offsets.tolist(), strict=True)
        return next(row + int(offset) for own, offset in parts if own.path == part.path and own.start <= row < own.stop)


class _BlockReader:
    """Reader of undecoded records of ArrayRecord files for a graph, which has no operation that reads them."""

    def __init__(self, title: str) -> None:
        self._title = title

    def __call__(self, parts: Sequence[FilePart]) -> Iterator[list[bytes]]:
        with RecordFiles(parts, "array_record", self._title) as files:
            for start in range(0, files.num_records, _BLOCK):
                yield files.read(np.arange(start, min(start + _BLOCK, files.num_records)))


def _range_of(parts: tuple[FilePart, ...], start: int, size: int) -> tuple[FilePart, ...]:
    """Return the parts that hold ``size`` records after the first ``start`` records of ``parts``."""
    found = []
    for part in parts:
        first, start = min(start, part.num_records), max(0, start - part.num_records)
        count = min(size, part.num_records - first)
        if count:
            found.append(replace(part, start=part.start + first, stop=part.start + first + count))
        size -= count
    return tuple(found)
