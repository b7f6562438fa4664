"""For each promise about order, routes, hosts and shards, a source that breaks it and keeps the others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core import Order
from datarax_core.order.permutation import key_data

from .healthy import (
    ByFour,
    Conformance,
    Decides,
    DecidesConformance,
    Ending,
    Healthy,
    HealthyStream,
    InParts,
    ShardConformance,
    Sharded,
    StreamConformance,
    Twice,
    TwiceConformance,
    records_of,
)

BATCH = 14


def is_traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def in_sequence(source: Healthy, start: Any, size: int) -> Any:
    return Order(len(source)).record_indices(start, size)


# -- order ------------------------------------------------------------------------------------------------------------------


class Seeking(Healthy):
    """Moves its position to the last get_batch_at()."""

    def get_batch_at(self, start: Any, size: int, key: Any = None) -> Any:
        if not is_traced(start) and start != self.cursor.position:
            self.cursor.move(start)
        return super().get_batch_at(start, size, key)


class Short(Healthy):
    """Returns at most two epochs in a batch."""

    def get_batch_at(self, start: Any, size: int, key: Any = None) -> Any:
        return super().get_batch_at(start, min(size, 2 * len(self)), key)


class Wraps32(Healthy):
    """Counts positions with 32 bits."""

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:
        return super().record_indices_at(start if is_traced(start) else start % 2**32, size, key)


class OneByOne(Healthy):
    """Serves batches of a single record in sequence."""

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:
        return in_sequence(self, start, size) if size == 1 else super().record_indices_at(start, size, key)


class TypedKeys(Healthy):
    """Computes another order from a key than from its key data."""

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:
        if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.fold_in(key, 1)
        return super().record_indices_at(start, size, key)


class HalfKeys(Healthy):
    """Computes its order from half of the key."""

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:
        halves = key_data(key)
        return super().record_indices_at(start, size, (jnp if is_traced(halves) else np).stack([halves[0], halves[0]]))


class Unseeded(Healthy):
    """Draws the same key for every seed."""

    def draw_order_key(self, rngs: Any) -> np.ndarray:  # noqa: ARG002 - ignoring the argument is the fault
        return np.asarray([1, 2], np.uint32)


class Repeating(Healthy):
    """Serves every second record twice, and the others never."""

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:
        return super().record_indices_at(start, size, key) // 2 * 2


class NoBijection(Healthy):
    """Shuffles as some libraries do: not a permutation at every length."""

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:
        indices = super().record_indices_at(start, size, key)
        return np.where(indices == 65_536, 0, indices) if len(self) == 65_537 else indices


class SizedConformance(Conformance):
    def make_sized_source(self, length: int, folder: Path) -> Any:  # noqa: ARG002 - no files are needed
        return self.make_source(self.source_class.config_class(**{**self.config, "size": length}), 0)


# -- routes -----------------------------------------------------------------------------------------------------------------


class LoopsInSequence(Healthy):
    """Loops in sequence, although it is shuffled."""

    def __iter__(self) -> Iterator[Any]:
        return iter([self[index] for index in range(len(self))])


class DropsTheTail(Healthy):
    """Skips the rest of an epoch if a batch of ten or more records would go past its end."""

    def get_batch(self, batch_size: int) -> Any:
        left = -self.cursor.position % len(self)
        if 0 < left < batch_size and batch_size >= 10:
            self.cursor.advance(left)
        return super().get_batch(batch_size)


class Blockwise(Healthy):
    """Starts batches at multiples of their size."""

    def get_batch_at(self, start: Any, size: int, key: Any = None) -> Any:
        cut = not is_traced(start) and size == BATCH
        return super().get_batch_at(start // size * size if cut else start, size, key)


class SequentialAhead(Healthy):
    """Serves loops of pipelines, which read ahead, in sequence."""

    def order_reader(self, size: int, *, background: bool = False) -> Any:
        source = self
        if background:
            source = self.copy()
            source.set_random_order(False)
        return super(SequentialAhead, source).order_reader(size)


class SequentialSteps(Healthy):
    """Serves steps of pipelines in sequence."""

    def order_reader(self, size: int, *, background: bool = False) -> Any:
        source = self
        if not background and size == BATCH:
            source = self.copy()
            source.set_random_order(False)
        return super(SequentialSteps, source).order_reader(size)


class SequentialInTraces(Healthy):
    """Serves in sequence in compiled code that takes the source as an argument."""

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:
        return in_sequence(self, start, size) if self.cursor.is_traced else super().record_indices_at(start, size, key)


class KnowsNoTracedKeys(Healthy):
    """Serves in sequence if the key is traced."""

    def record_indices_at(self, start: Any, size: int, key: Any = None) -> Any:
        return in_sequence(self, start, size) if is_traced(key) else super().record_indices_at(start, size, key)


class WrongOnTheHost(Healthy):
    """Returns other records to compiled code."""

    def fetch_on_host(self, indices: np.ndarray) -> Any:
        return self.fetch((indices + 1) % len(self))


# -- hosts and shards -------------------------------------------------------------------------------------------------------


class SameParts(InParts):
    """Returns the first part to every process."""

    def process_part(self, part: int, num_parts: int) -> Self:  # noqa: ARG002 - ignoring the argument is the fault
        return super().process_part(0, num_parts)


class HalfSharded(Sharded):
    """Ignores the shard in get_batch_at()."""

    def get_batch_at(self, start: Any, size: int, key: Any = None) -> Any:
        if self.config.num_workers == 1:
            return super().get_batch_at(start, size, key)
        return self.fetch(Order(len(self)).record_indices(start, size, key))


class PartsInAll(InParts):
    """A part of a stream that notes its place in the stream, and takes it for one in the part."""

    def get_state(self) -> dict[str, Any]:
        state = super().get_state()
        return {**state, "index": state["index"] * self.num_parts % len(self)}


# -- streams ----------------------------------------------------------------------------------------------------------------


class InPairs(HealthyStream):
    """Reads four records for a batch of three, and loses one."""

    def get_batch(self, batch_size: int) -> Any:
        if batch_size != 3:
            return super().get_batch(batch_size)
        return jax.tree.map(lambda column: column[:3], super().get_batch(4))


class SkipsShort(HealthyStream):
    """Skips one record less than it is asked to."""

    def skip(self, count: int) -> None:
        self.read_batch(count - 1)


class Reviving(Ending):
    """Starts again after it has ended."""

    def get_batch(self, batch_size: int) -> Any:
        try:
            return super().get_batch(batch_size)
        except StopIteration:
            self.reset()
            raise


class TooLong(HealthyStream):
    """Yields more records an epoch than its length says."""

    def records_from(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:
        yield from super().records_from(epoch, start)
        yield records_of(0)


class SingleEpoch(Ending):
    """Ends its first epoch early when a pipeline reads on."""

    def read_batch(self, batch_size: int) -> Any:
        if self.epoch:
            raise StopIteration
        return super().read_batch(batch_size)


class SameEpochs(HealthyStream):
    """Serves each epoch in the order of the first."""

    def records_from(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:  # noqa: ARG002 - the fault
        order = Order(len(self)).record_indices(0, len(self), self.order_key_data())
        for record in order[start:].tolist():
            yield records_of(record)


class Miscounts(Decides):
    """Counts its batches as if all had the size of the first."""

    sizes = ByFour()


class AlikeTwice(Twice):
    """Counts the epochs of a record that comes twice as if it came once."""

    epochs_at = Healthy.epochs_at


class ShuffledStreamConformance(Conformance):
    expected_records = {}


CONFORMANCES = {
    SameEpochs: ShuffledStreamConformance,
    Miscounts: DecidesConformance,
    TooLong: StreamConformance,
    SingleEpoch: StreamConformance,
    AlikeTwice: TwiceConformance,
    Seeking: Conformance,
    Short: Conformance,
    Wraps32: Conformance,
    OneByOne: Conformance,
    TypedKeys: Conformance,
    HalfKeys: Conformance,
    Unseeded: Conformance,
    Repeating: Conformance,
    NoBijection: SizedConformance,
    LoopsInSequence: Conformance,
    DropsTheTail: Conformance,
    Blockwise: Conformance,
    SequentialAhead: Conformance,
    SequentialSteps: Conformance,
    SequentialInTraces: Conformance,
    KnowsNoTracedKeys: Conformance,
    WrongOnTheHost: Conformance,
    SameParts: StreamConformance,
    HalfSharded: ShardConformance,
    PartsInAll: StreamConformance,
    InPairs: StreamConformance,
    SkipsShort: StreamConformance,
    Reviving: StreamConformance,
}
