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
_PLACES_AT_ONCE: Final = 1 << 14


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

    def within_windows(self, start: int, num_records: int) -> Iterator[np.ndarray]:
        """int64 (n,): the places in the window of the ``start``-th record of those from it on, then in each further window."""
        whole, rest = divmod(num_records, self.window)
        before = self.epoch * (whole + (rest > 0))
        (first, skipped), at_once = divmod(start, self.window), max(1, _PLACES_AT_ONCE // self.window)
        for begin in range(first, whole, at_once):
            for places in self._windows(before + begin, min(at_once, whole - begin), self.window):
                yield places[skipped:]
                skipped = 0
        if rest:
            yield from (places[skipped:] for places in self._windows(before + whole, 1, rest))

    def _windows(self, number: int, count: int, size: int) -> np.ndarray:
        """int64 (count, size): the places in ``count`` windows, which are epochs of an order of their own."""
        return np.asarray(Order(size).record_indices(number * size, count * size, self.words)).reshape(count, size)


class Graph:
    """Which files hold the records, and what they are decoded to; for one reader at a time.

    TensorFlow keeps what it was ever given of graphs. So there is one for each size of batches, which asks where to begin when
    it is iterated.

    Args:
        parts: The records of an epoch.
        file_format: That of their files.
        features: A TFDS feature: that of the fields which are served.
        read_blocks: Reads undecoded records by the hundred, where no graph reads the format; None takes TFDS's own reader.
    """

    def __init__(
        self,
        parts: tuple[FilePart, ...],
        file_format: str,
        features: Any,
        read_blocks: Callable[[Sequence[FilePart]], Iterator[list[Any]]] | None = None,
    ) -> None:
        self.parts = parts
        self.features = features
        self._file_format = file_format
        self._read_blocks = read_blocks
        self._start, self._shuffle = 0, None
        self._made: dict[tuple[int, int, int], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_made": {}}  # a pickle, and a copy, makes its own

    _shuffle: Shuffle | None

    @property
    def num_records(self) -> int:
        """Records of an epoch."""
        return sum(part.num_records for part in self.parts)

    def batches(self, start: int, batch_size: int, prefetch: int, shuffle: Shuffle | None) -> Any:
        """A ``tf.data.Dataset`` of decoded batches of the records from the ``start``-th of an epoch on, to be iterated now.

        Fields of varying shape are dicts of flat ``values`` (ragged) and of their ``shape``.
        """
        self._start, self._shuffle = start, shuffle
        made = batch_size, prefetch, 0 if shuffle is None else shuffle.window
        if made not in self._made:
            self._made[made] = self._batches(*made)
        return self._made[made]

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

    def _batches(self, batch_size: int, prefetch: int, window: int) -> Any:
        tf, workers = tensorflow(), os.cpu_count() or 1
        records = self._shuffled(tf, window) if window else self._stored(self._wanted_parts)
        decoded = records.map(self._decoded, num_parallel_calls=workers, deterministic=True)
        has_varying = any(None in info.shape for info in tf.nest.flatten(self.features.get_tensor_info()))
        batches = decoded.ragged_batch(batch_size) if has_varying else decoded.batch(batch_size)
        return (batches.prefetch(prefetch) if prefetch else batches).with_options(_options(tf, workers))

    def _shuffled(self, tf: Any, window: int) -> Any:
        """Undecoded records, one by one, each window among itself."""
        windows = self._stored(self._wanted_parts).batch(window)
        places = tf.data.Dataset.from_generator(self._wanted_places, output_signature=tf.TensorSpec((None,), tf.int64))
        return tf.data.Dataset.zip((windows, places)).map(tf.gather).prefetch(1).unbatch()

    def _wanted_parts(self) -> Iterator[FilePart]:
        """What is read from where the epoch begins; of shuffled ones from the window on in which that is."""
        if self._shuffle is None:
            yield from _behind(self.parts, self._start)
        else:
            start = self._start - self._start % self._shuffle.window
            yield from _behind(self._shuffle.of_files(self.parts), start)

    def _wanted_places(self) -> Iterator[np.ndarray]:
        if self._shuffle is not None:
            yield from self._shuffle.within_windows(self._start, self.num_records)

    def _stored(self, parts: Callable[[], Iterator[FilePart]]) -> Any:
        """The records of the parts, undecoded, one by one."""
        tf, read = tensorflow(), self._read_blocks
        if read is not None:
            blocks = tf.data.Dataset.from_generator(
                lambda: read(list(parts())), output_signature=tf.TensorSpec((None,), tf.string)
            )
            return blocks.unbatch()
        from tensorflow_datasets.core import file_adapters  # noqa: PLC0415 - imports much, as tensorflow() does

        adapter = file_adapters.ADAPTER_FOR_FORMAT[file_adapters.FileFormat(self._file_format)]
        files = tf.data.Dataset.from_generator(
            lambda: ((part.path, part.start, part.num_records) for part in parts()),
            output_signature=tuple(tf.TensorSpec((), dtype) for dtype in (tf.string, tf.int64, tf.int64)),
        )
        return files.flat_map(lambda path, start, count: adapter.make_tf_data(path).skip(start).take(count))

    def _one_by_one(self, part: FilePart) -> Iterator[Any]:
        if self._read_blocks is None:
            return iter(self._stored(lambda: iter([part])))
        return (record for block in self._read_blocks([part]) for record in block)

    def _decoded(self, record: Any) -> Any:
        tf = tensorflow()

        def packed(value: Any) -> Any:
            if isinstance(value, tf.RaggedTensor) or value.shape.is_fully_defined():
                return value
            return {VALUES: tf.reshape(value, [-1]), SHAPE: tf.shape(value)}

        return tf.nest.map_structure(packed, self.features.deserialize_example(record))


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


def _options(tf: Any, workers: int) -> Any:
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = workers
    return options
