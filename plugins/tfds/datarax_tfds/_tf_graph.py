"""A ``tf.data`` graph that serves the records of a split from any place on, in an order that is a function of key and epoch.

Nothing in it is tuned while it runs. Records are shuffled in windows, undecoded: the order of an epoch is that of its files,
shuffled, in which every ``window`` records in turn are shuffled among one another. Unlike the sliding buffer of
``tf.data.Dataset.shuffle``, a window is known by its number, so that a place is reached by skipping whole files, then the
records of a file before the window, and then those of the window.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from datarax_core.errors import RecordError
from datarax_core.order import Order

from ._parts import FilePart

VALUES: Final = "values"
SHAPE: Final = "shape"


@dataclass(frozen=True, slots=True)
class Shuffle:
    """The order of a shuffled epoch: ``words`` are the key of all epochs, ``window`` how many records are shuffled at once."""

    words: np.ndarray
    epoch: int
    window: int

    def of_files(self, parts: Sequence[FilePart]) -> list[FilePart]:
        """The parts in the order in which they are read."""
        order = Order(len(parts)).record_indices(self.epoch * len(parts), len(parts), self.words)
        return [parts[int(index)] for index in order]

    def within_windows(self, first: int, num_records: int) -> Iterator[np.ndarray]:
        """int64 (window,), the last one shorter: the places in each window from number ``first`` on, in their order."""
        windows = -(-num_records // self.window)
        for number in range(first, windows):
            size = min(self.window, num_records - number * self.window)
            start = (self.epoch * windows + number) * size
            yield np.asarray(Order(size).record_indices(start, size, self.words))


@dataclass(frozen=True, slots=True)
class Graph:
    """Which files hold the records, and what they are decoded to."""

    parts: tuple[FilePart, ...]
    file_format: str
    features: Any
    """A TFDS feature: that of the fields which are served."""
    read_blocks: Callable[[Sequence[FilePart]], Iterator[list[Any]]] | None = None
    """Reads undecoded records by the hundred, where no graph reads the format; None takes TFDS's own reader."""

    @property
    def num_records(self) -> int:
        """Records of an epoch."""
        return sum(part.num_records for part in self.parts)

    def batches(self, start: int, batch_size: int, prefetch: int, shuffle: Shuffle | None) -> Any:
        """A ``tf.data.Dataset`` of decoded batches of the records from the ``start``-th of an epoch on.

        Fields of varying shape are dicts of flat ``values`` (ragged) and of their ``shape``.
        """
        tf, workers = tensorflow(), os.cpu_count() or 1
        records = self.undecoded(start, shuffle).map(self._decoded, num_parallel_calls=workers, deterministic=True)
        batches = records.ragged_batch(batch_size) if self._has_varying else records.batch(batch_size)
        return (batches.prefetch(prefetch) if prefetch else batches).with_options(_options(tf, workers))

    def undecoded(self, start: int, shuffle: Shuffle | None) -> Any:
        """The same before it is decoded: records as they stand in the files, one by one."""
        tf = tensorflow()
        if shuffle is None:
            return self._read(_behind(self.parts, start))
        (first, within), total = divmod(start, shuffle.window), self.num_records
        windows = self._read(_behind(shuffle.of_files(self.parts), first * shuffle.window)).batch(shuffle.window)
        places = tf.data.Dataset.from_generator(
            lambda: shuffle.within_windows(first, total), output_signature=tf.TensorSpec((None,), tf.int64)
        )
        shuffled = tf.data.Dataset.zip((windows, places)).map(tf.gather)
        return shuffled.prefetch(1).unbatch().skip(within)

    def fault(self, start: int, shuffle: Shuffle | None) -> tuple[FilePart, int] | None:
        """(part, record of its file) that cannot be read or decoded, the first one behind the ``start``-th of an epoch.

        Cost: reads from there to it, one record at a time. None if all are well now.
        """
        tf, parts = tensorflow(), self.parts
        if shuffle is not None:
            parts, start = tuple(shuffle.of_files(parts)), start - start % shuffle.window
        for part in _behind(parts, start):
            number = part.start
            try:
                for record in self._one_by_one(part):
                    self.features.deserialize_example(record)
                    number += 1
            except (tf.errors.OpError, OSError):
                return part, number
            except RecordError as error:  # of `read_blocks`, which knows it
                return part, number if error.row is None else error.row
            if number < part.stop:
                return part, number
        return None

    # -- inside ---------------------------------------------------------------------------------------------------------

    @property
    def _has_varying(self) -> bool:
        return any(not _is_fixed(info) for info in tensorflow().nest.flatten(self.features.get_tensor_info()))

    def _decoded(self, record: Any) -> Any:
        tf = tensorflow()

        def packed(value: Any) -> Any:
            if isinstance(value, tf.RaggedTensor) or value.shape.is_fully_defined():
                return value
            return {VALUES: tf.reshape(value, [-1]), SHAPE: tf.shape(value)}

        return tf.nest.map_structure(packed, self.features.deserialize_example(record))

    def _one_by_one(self, part: FilePart) -> Iterator[Any]:
        if self.read_blocks is None:
            return iter(self._read([part]))
        return (record for block in self.read_blocks([part]) for record in block)

    def _read(self, parts: Sequence[FilePart]) -> Any:
        """The records of the parts, undecoded, one by one."""
        tf = tensorflow()
        if self.read_blocks is not None:
            read = self.read_blocks
            blocks = tf.data.Dataset.from_generator(
                lambda: read(parts), output_signature=tf.TensorSpec((None,), tf.string)
            )
            return blocks.unbatch()
        from tensorflow_datasets.core import file_adapters  # noqa: PLC0415 - imports much, as tensorflow() does

        adapter = file_adapters.ADAPTER_FOR_FORMAT[file_adapters.FileFormat(self.file_format)]
        paths = np.array([part.path for part in parts], np.str_)
        starts = np.array([part.start for part in parts], np.int64)
        counts = np.array([part.num_records for part in parts], np.int64)
        files = tf.data.Dataset.from_tensor_slices((paths, starts, counts))
        return files.flat_map(lambda path, start, count: adapter.make_tf_data(path).skip(start).take(count))


def tensorflow() -> Any:
    """TensorFlow, kept off the accelerators, whose memory it would take from JAX; unless it was imported before."""
    is_ours = "tensorflow" not in sys.modules
    import tensorflow as tf  # noqa: PLC0415 - seconds, for those who chose it

    if is_ours:
        for kind in ("GPU", "TPU"):
            tf.config.set_visible_devices([], kind)
    return tf


def _behind(parts: Sequence[FilePart], start: int) -> list[FilePart]:
    """What is left of the parts behind their first ``start`` records."""
    left = []
    for part in parts:
        skipped = min(start, part.num_records)
        start -= skipped
        if skipped < part.num_records:
            left.append(replace(part, start=part.start + skipped))
    return left


def _is_fixed(info: Any) -> bool:
    return None not in info.shape


def _options(tf: Any, workers: int) -> Any:
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = workers
    return options
