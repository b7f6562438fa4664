"""A ``tf.data`` graph that serves the records of a split from any place on, in an order that is a function of key and epoch.

Nothing in it is tuned while it runs. Records are shuffled in windows, undecoded: the order of an epoch is that of its files,
shuffled, in which every ``window`` records in turn are shuffled among one another. Unlike the sliding buffer of
``tf.data.Dataset.shuffle``, a window is known by its number, so that a place is reached by skipping whole files, then the
records of a file before the window, and then those of the window.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from datarax_core.errors import RecordError
from datarax_core.order import Order
from datarax_tfds.splits import FilePart

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

    @property
    def seed(self) -> int:
        """64 bits, of which each window of the epoch draws its own order."""
        digest = hashlib.sha256(self.words.tobytes() + self.epoch.to_bytes(8, "little")).digest()
        return int.from_bytes(digest[:8], "little", signed=True)


class Graph:
    """Which files hold the records, and what they are decoded to; for one reader at a time.

    TensorFlow keeps what it was ever given of graphs. So there is one for each size of batches, which reads where to begin from
    variables when it is iterated. It calls no Python, whose threads would not be TensorFlow's to start and end; but for
    ``read_blocks``.

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
        self._made: dict[tuple[int, int, int], tuple[Any, _Begin]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_made": {}}  # a pickle, and a copy, makes its own

    @property
    def num_records(self) -> int:
        """Records of an epoch."""
        return sum(part.num_records for part in self.parts)

    def batches(self, start: int, batch_size: int, prefetch: int, shuffle: Shuffle | None) -> Any:
        """A ``tf.data.Dataset`` of decoded batches of the records from the ``start``-th of an epoch on, to be iterated now.

        Fields of varying shape are dicts of flat ``values`` (ragged) and of their ``shape``.
        """
        made = batch_size, prefetch, 0 if shuffle is None else shuffle.window
        if made not in self._made:
            begin = _Begin()
            self._made[made] = self._batches(begin, *made), begin
        batches, begin = self._made[made]
        if shuffle is None:
            begin.at(_behind(self.parts, start))
        else:
            number, within = divmod(start, shuffle.window)
            parts = _behind(shuffle.of_files(self.parts), number * shuffle.window)
            begin.at(parts, seed=shuffle.seed, window=number, skipped=within)
        return batches

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

    def _batches(self, begin: "_Begin", batch_size: int, prefetch: int, window: int) -> Any:
        tf, workers = tensorflow(), os.cpu_count() or 1
        records = tf.data.Dataset.range(1).flat_map(lambda _: self._undecoded(begin, window))
        decoded = records.map(self._decoded, num_parallel_calls=workers, deterministic=True)
        has_varying = any(None in info.shape for info in tf.nest.flatten(self.features.get_tensor_info()))
        batches = decoded.ragged_batch(batch_size) if has_varying else decoded.batch(batch_size)
        return (batches.prefetch(prefetch) if prefetch else batches).with_options(_options(tf, workers))

    def _undecoded(self, begin: "_Begin", window: int) -> Any:
        """The records from where an epoch begins, as they stand in the files, one by one; shuffled within each window."""
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
        """The records of the parts, undecoded, one by one."""
        tf, read = tensorflow(), self._read_blocks
        if read is not None:
            blocks = tf.data.Dataset.from_generator(
                lambda: read(begin.parts), output_signature=tf.TensorSpec((None,), tf.string)
            )
            return blocks.unbatch()
        from tensorflow_datasets.core import file_adapters  # noqa: PLC0415 - imports much, as tensorflow() does

        adapter = file_adapters.ADAPTER_FOR_FORMAT[file_adapters.FileFormat(self._file_format)]
        files = tf.data.Dataset.from_tensor_slices(tuple(variable.read_value() for variable in begin.files))
        return files.flat_map(lambda path, start, count: adapter.make_tf_data(path).skip(start).take(count))

    def _one_by_one(self, part: FilePart) -> Iterator[Any]:
        if self._read_blocks is None:
            begin = _Begin()
            begin.at([part])
            return iter(self._stored(begin))
        return (record for block in self._read_blocks([part]) for record in block)

    def _decoded(self, record: Any) -> Any:
        tf = tensorflow()

        def packed(value: Any) -> Any:
            if isinstance(value, tf.RaggedTensor) or value.shape.is_fully_defined():
                return value
            return {VALUES: tf.reshape(value, [-1]), SHAPE: tf.shape(value)}

        return tf.nest.map_structure(packed, self.features.deserialize_example(record))


class _Begin:
    """Where a graph begins to read when it is iterated next: variables that it reads then."""

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
        """Begin with these parts; if they are shuffled, at the ``skipped``-th place in the window of that number."""
        self.parts = parts
        paths, starts, counts = self.files
        paths.assign([part.path for part in parts])
        starts.assign([part.start for part in parts])
        counts.assign([part.num_records for part in parts])
        self.seed.assign(seed)
        self.window.assign(window)
        self.skipped.assign(skipped)


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
