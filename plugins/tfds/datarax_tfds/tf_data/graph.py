"""A ``tf.data`` graph that serves a split from any position of an epoch on, in an order given by key and epoch.

Nothing is tuned while the graph runs. Undecoded records are shuffled in windows: the files of an epoch are shuffled, and in
their order every ``window`` consecutive records are shuffled among one another. Unlike the sliding buffer of
``tf.data.Dataset.shuffle``, a window is given by its number. So a position is reached by skipping whole files, then the records
of a file before the window, and then the records of the window before the position.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datarax_core.background import usable_cores
from datarax_core.errors import RecordError
from datarax_core.order import Order
from datarax_tfds.features.stored import UndecodableRecord
from datarax_tfds.splits import FilePart

from .decoding import GraphDecoder
from .library import tensorflow


@dataclass(frozen=True, slots=True)
class Shuffle:
    """The order of a shuffled epoch: ``key_data`` is the key of all epochs, ``window`` the records shuffled at once."""

    key_data: np.ndarray
    epoch: int
    window: int

    def of_files(self, parts: Sequence[FilePart]) -> list[FilePart]:
        """Return the parts in the order in which an epoch reads them."""
        order = Order(len(parts)).record_indices(self.epoch * len(parts), len(parts), self.key_data)
        return [parts[int(index)] for index in order]

    @property
    def seed(self) -> int:
        """64 bits from which, with its number, each window of the epoch draws its order."""
        digest = hashlib.sha256(self.key_data.tobytes() + self.epoch.to_bytes(8, "little")).digest()
        return int.from_bytes(digest[:8], "little", signed=True)


class Graph:
    """The graphs of a split: which files hold the records, and how they are decoded; for one reader at a time.

    TensorFlow never frees a graph. So there is one graph for each size of batches, and each iteration reads its start from
    variables. Except for ``read_blocks``, the graph calls no Python code, whose threads TensorFlow could not start and end.

    Args:
        parts: The records of an epoch.
        file_format: Format of their files.
        decoder: Decodes the records.
        read_blocks: Yields undecoded records in blocks, for a format that TensorFlow cannot read; None uses TFDS's own reader.
    """

    def __init__(
        self,
        parts: tuple[FilePart, ...],
        file_format: str,
        decoder: GraphDecoder,
        read_blocks: Callable[[Sequence[FilePart]], Iterator[list[Any]]] | None = None,
    ) -> None:
        self.parts = parts
        self.decoder = decoder
        self._file_format = file_format
        self._read_blocks = read_blocks
        self._made: dict[tuple[int, int, int], tuple[Any, _Begin]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_made": {}}  # a pickle or copy makes its own graphs

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "features" in state:  # a pickle of version 0.1.0, whose graphs decoded all fields
            self.decoder = GraphDecoder(self.__dict__.pop("features"), "the data set", as_objects=True)

    @property
    def num_records(self) -> int:
        """Number of records of an epoch."""
        return sum(part.num_records for part in self.parts)

    def batches(self, start: int, batch_size: int, prefetch: int, shuffle: Shuffle | None) -> Any:
        """Return a ``tf.data.Dataset`` of batches, as `GraphDecoder.arrays` takes them, from a record of an epoch on.

        The data set must be iterated before this method is called again.

        Args:
            start: Number of records of the epoch that are skipped.
            batch_size: Records in a batch.
            prefetch: Batches that TensorFlow reads ahead.
            shuffle: The order; None for the order of the files.
        """
        options = batch_size, prefetch, 0 if shuffle is None else shuffle.window
        if options not in self._made:
            begin = _Begin()
            self._made[options] = self._batches(begin, *options), begin
        batches, begin = self._made[options]
        if shuffle is None:
            begin.at(_behind(self.parts, start))
        else:
            number, within = divmod(start, shuffle.window)
            parts = _behind(shuffle.of_files(self.parts), number * shuffle.window)
            begin.at(parts, seed=shuffle.seed, window=number, skipped=within)
        return batches

    def first_bad_record(self, start: int, shuffle: Shuffle | None) -> tuple[FilePart, int, Exception | None] | None:
        """Return the first record after ``start`` that cannot be read or decoded, as its part, row of its file, and error.

        The error is None if the file ends before the record. None is returned if all records can be read by themselves.

        Cost: every record from ``start``, or from the window of ``start``, to the bad one is read and decoded by itself.
        """
        tf, parts = tensorflow(), self.parts
        if shuffle is not None:
            parts, start = tuple(shuffle.of_files(parts)), start - start % shuffle.window
        for part in _behind(parts, start):
            number = part.start
            try:
                for record in self._one_by_one(part):
                    self.decoder.require_decodable(record)
                    number += 1
            except (tf.errors.OpError, OSError, UndecodableRecord) as error:
                return part, number, error
            except RecordError as error:  # of `read_blocks`, which names the row
                return part, number if error.row is None else error.row, error
            if number < part.stop:
                return part, number, None
        return None

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _batches(self, begin: "_Begin", batch_size: int, prefetch: int, window: int) -> Any:
        tf, workers = tensorflow(), usable_cores()
        records = tf.data.Dataset.range(1).flat_map(lambda _: self._undecoded(begin, window))
        decoded = records.map(self.decoder.in_graph, num_parallel_calls=workers, deterministic=True)
        batches = decoded.ragged_batch(batch_size) if self.decoder.has_varying else decoded.batch(batch_size)
        return (batches.prefetch(prefetch) if prefetch else batches).with_options(_options(tf, workers))

    def _undecoded(self, begin: "_Begin", window: int) -> Any:
        """Return the undecoded records from `_Begin` on, one by one, shuffled within each window."""
        tf = tensorflow()
        stored = self._stored(begin)
        if not window:
            return stored
        seed, first, skipped = (variable.read_value() for variable in (begin.seed, begin.window, begin.skipped))

        def shuffled(number: Any, records: Any) -> Any:
            drawn = tf.random.stateless_uniform(
                tf.shape(records), tf.stack([seed, number]), None, None, dtype=tf.int64, alg="philox"
            )
            return tf.gather(records, tf.argsort(drawn, stable=True))

        return stored.batch(window).enumerate(first).map(shuffled).prefetch(1).unbatch().skip(skipped)

    def _stored(self, begin: "_Begin") -> Any:
        """Return the undecoded records of the parts, one by one."""
        tf, read = tensorflow(), self._read_blocks
        if read is not None:
            blocks = tf.data.Dataset.from_generator(
                lambda: read(begin.parts), output_signature=tf.TensorSpec((None,), tf.string)
            )
            return blocks.unbatch()
        from tensorflow_datasets.core import file_adapters  # noqa: PLC0415 - imports TensorFlow

        adapter = file_adapters.ADAPTER_FOR_FORMAT[file_adapters.FileFormat(self._file_format)]
        files = tf.data.Dataset.from_tensor_slices(tuple(variable.read_value() for variable in begin.files))
        return files.flat_map(lambda path, start, count: adapter.make_tf_data(path).skip(start).take(count))

    def _one_by_one(self, part: FilePart) -> Iterator[Any]:
        if self._read_blocks is None:
            begin = _Begin()
            begin.at([part])
            return iter(self._stored(begin))
        return (record for block in self._read_blocks([part]) for record in block)


class _Begin:
    """The start of the next iteration of a graph, as variables that the graph reads when the iteration begins."""

    def __init__(self) -> None:
        tf = tensorflow()

        def variable(value: Any, dtype: Any, shape: Any) -> Any:
            with tf.device("CPU"):
                return tf.Variable(value, dtype=dtype, shape=shape, trainable=False)

        self.parts: Sequence[FilePart] = ()
        self.files = (
            variable([""], tf.string, (None,)),
            variable([0], tf.int64, (None,)),
            variable([0], tf.int64, (None,)),
        )
        self.seed, self.window, self.skipped = (variable(0, tf.int64, ()) for _ in range(3))

    def at(self, parts: Sequence[FilePart], *, seed: int = 0, window: int = 0, skipped: int = 0) -> None:
        """Set the start: these parts and, if records are shuffled, the number of a window and the records to skip in it."""
        self.parts = parts
        paths, starts, counts = self.files
        paths.assign([part.path for part in parts])
        starts.assign([part.start for part in parts])
        counts.assign([part.num_records for part in parts])
        self.seed.assign(seed)
        self.window.assign(window)
        self.skipped.assign(skipped)


def _behind(parts: Sequence[FilePart], start: int) -> list[FilePart]:
    """Return the parts without their first ``start`` records."""
    left = []
    for part in parts:
        skipped = min(start, part.num_records)
        start -= skipped
        if skipped < part.num_records:
            left.append(replace(part, start=part.start + skipped))
    return left


def _options(tf: Any, workers: int) -> Any:
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = workers
    return options
