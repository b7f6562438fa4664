"""Two ways to read a mixture on from its position: by index, or forward only if a child is a stream.

A mixture is given one of them when it is built, and passes itself to each call.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import jax
import numpy as np

from datarax_core.errors import SpecError, StateError
from datarax_core.modules import set_state_but
from datarax_core.order import HOST_LIMIT
from datarax_core.records import Batch, joined_batches
from datarax_core.sources import DataSourceModule, HostState

from .children import MixedChildren, Mixture
from .order import Children, by_child, child_keys

_SAVED_WITH_STREAMS: Final = ("streams", "ended")


class ReadMixture(Mixture, Protocol):
    """The part of a `MixDataSourcesNode` that reading uses."""

    cursor: Any

    def note_served(self, batches: int) -> None:
        """Count batches that were served."""

    def loop_over(self, run: int) -> Iterator[Any]:
        """Return the elements of the run with this number."""


def reading_of(children: Children, mixed: MixedChildren) -> "IndexedReading | StreamReading":
    """Return the way to read a mixture of these children."""
    return StreamReading(mixed) if any(streams_of(children)) else IndexedReading()


@dataclass(frozen=True, slots=True)
class IndexedReading:
    """Reading of a mixture without streams: as every source with random access reads. It has no state of its own."""

    def get_batch(self, mix: DataSourceModule, batch_size: int) -> Batch:
        """Return the next ``batch_size`` records, and count the batch."""
        return DataSourceModule.get_batch(mix, batch_size)

    def read_batch(self, mix: DataSourceModule, batch_size: int) -> Batch:
        """Return the next ``batch_size`` records for a pipeline."""
        return DataSourceModule.read_batch(mix, batch_size)

    def skip(self, mix: DataSourceModule, count: int) -> None:
        """Leave out the next ``count`` records."""
        DataSourceModule.skip(mix, count)

    def begin_loop(self, mix: DataSourceModule) -> Iterator[Any]:
        """Begin a loop over the elements of one epoch."""
        return DataSourceModule.__iter__(mix)

    def next_element(self, mix: DataSourceModule) -> Any:
        """Return the next element of the loop under way."""
        return DataSourceModule.__next__(mix)

    def get_state(self, mix: DataSourceModule) -> dict[str, Any]:
        """Return the state of the mixture."""
        return DataSourceModule.get_state(mix)

    def set_state(self, mix: DataSourceModule, state: dict[str, Any], but: Collection[str] = ()) -> None:
        """Restore a state of the mixture."""
        DataSourceModule.set_state(mix, state, but)

    def restart(self) -> None:
        """Do nothing: no records are held."""

    def begin_epoch(self, mix: DataSourceModule) -> None:
        """Begin the next epoch, as a source with random access does: it has no epoch to begin, and starts over."""
        DataSourceModule.begin_epoch(mix)


class StreamReading(HostState):
    """Reading of a mixture with streams: forward only, while children with random access are read by position.

    Args:
        mixed: The children of the mixture.
        ended: Number of the child without a length that the mixture has ended with; None if it goes on.
        held: Records by child that were read but not served, because the read of another child failed.
    """

    def __init__(self, mixed: MixedChildren, ended: int | None = None, held: dict[int, Batch] | None = None) -> None:
        self._mixed = mixed
        self._ended = ended
        self._held = {} if held is None else held

    @classmethod
    def restored(cls, mixed: MixedChildren, earlier: "StreamReading") -> "StreamReading":
        """Return the reading from a pickle of version 0.1.0, which has no ``_mixed``."""
        saved = vars(earlier)
        return cls(mixed, saved["_ended"], saved["_held"])

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the arguments for a copy of the mixture, whose children stand where these do."""
        return self._mixed, self._ended, dict(self._held)

    def restart(self, *, ended: int | None = None) -> None:
        """Drop all held records: the children stand where the mixture does."""
        self._ended, self._held = ended, {}

    # -- batches ----------------------------------------------------------------------------------------------------------

    def get_batch(self, mix: ReadMixture, batch_size: int) -> Batch:
        """Return the next ``batch_size`` records, or fewer at the end of a mixture without a length; count the batch.

        Raises:
            ValueError: ``batch_size`` is not a whole number from 1.
            StopIteration: The mixture has ended.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(f"batch_size is a whole number from 1, not {batch_size!r:.80}")
        batch = self.read_batch(mix, int(batch_size))
        mix.note_served(1)
        return batch

    def read_batch(self, mix: ReadMixture, batch_size: int) -> Batch:
        """Return the next ``batch_size`` records, or fewer at the end of a mixture without a length.

        Raises:
            StopIteration: The mixture has ended.
        """
        left = self._left_before_end(mix)
        if not left or self._ended is not None:
            raise StopIteration
        parts, size = self._read_parts(mix, min(batch_size, left))
        batch = self._mixed.merged(parts, size)
        mix.cursor.advance(size)
        return batch

    def skip(self, mix: ReadMixture, count: int) -> None:
        """Leave out the next ``count`` records; if all streams have a length, no other child is read."""
        streams = list(streams_of(mix.children))
        if any(child.epoch_length is None for _, child in streams):
            self.read_batch(mix, count)
            return
        position, counts = mix.cursor.position, self._mixed.timeline.counts
        left_out = counts(position + count) - counts(position)
        for number, child in streams:
            if left_out[number]:
                child.skip(int(left_out[number]))
        mix.cursor.advance(count)

    # -- elements ---------------------------------------------------------------------------------------------------------

    def begin_loop(self, mix: ReadMixture) -> Iterator[Any]:
        """Begin a loop over the elements of one epoch; what is left of an interrupted epoch is skipped."""
        before, is_over = mix.cursor.position, self._run_has_ended(mix)
        is_new = mix.cursor.begins_anew(is_over=is_over)
        run = mix.cursor.begin_run(mix.epoch_length, is_over=is_over)
        if self._ended is not None and is_new:
            begin_next_epoch(mix.children[self._ended])
            self.restart()
        if (left_out := mix.cursor.position - before) > 0:
            mix.cursor.move(before)
            self.skip(mix, left_out)
        return mix.loop_over(run)

    def next_element(self, mix: ReadMixture) -> Any:
        """Return the next element of the loop under way."""
        if self._run_has_ended(mix):
            mix.cursor.end_loop()
            raise StopIteration
        batch = self.read_batch(mix, 1)
        return jax.tree.map(lambda column: column[0], batch)

    def begin_epoch(self, mix: ReadMixture) -> None:
        """Begin the next epoch of a mixture without a length: the child that ended begins its next one, the others go on."""
        if self._ended is not None:
            begin_next_epoch(mix.children[self._ended])
            self.restart()
        mix.cursor.restore(mix.cursor.position, mix.cursor.position)

    # -- state ------------------------------------------------------------------------------------------------------------

    def get_state(self, mix: Any) -> dict[str, Any]:
        """Return the state of the mixture with the states of the children that are streams, at every depth.

        Raises:
            StateError: A stream cannot be resumed, or a child failed to read its part of a batch.
        """
        if self._held:
            raise StateError(
                f"{mix.title} has no state to save: a child failed to read its part of a batch; read on, or reset()"
            )
        return {**DataSourceModule.get_state(mix), "streams": self._stream_states(mix), "ended": self._ended}

    def set_state(self, mix: Any, state: dict[str, Any], but: Collection[str] = ()) -> None:
        """Restore a state of the mixture and of its streams; if any refuses its state, nothing is changed.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: The state is of another mixture; names each difference.
        """
        if not isinstance(state, dict):
            DataSourceModule.set_state(mix, state)
            return
        own = {name: value for name, value in state.items() if name not in _SAVED_WITH_STREAMS}
        streams, ended = self._checked_streams(mix, state)
        own_before, streams_before = DataSourceModule.get_state(mix), self._stream_states(mix)
        DataSourceModule.set_state(mix, own, but)
        try:
            _restore_streams(mix, streams, but)
        except BaseException:  # an interruption by the user must not leave half of a state restored either
            DataSourceModule.set_state(mix, own_before)
            _restore_streams(mix, streams_before)
            raise
        self.restart(ended=ended)

    # -- inside -----------------------------------------------------------------------------------------------------------

    def _read_parts(self, mix: ReadMixture, size: int) -> tuple[list[tuple[int, np.ndarray, Batch]], int]:
        """Return ([(child, its rows, its records)], number of records) of the next ``size`` records; fewer at the end.

        Records that were read stay held if the read of another child raises.

        Raises:
            StopIteration: The mixture has ended.
        """
        children = mix.children
        keys = child_keys(np.asarray(mix.order_key_data()), len(children))
        which, places = self._mixed.timeline.at(mix.cursor.position, size)
        rows_of = dict(by_child(which))
        for child in sorted(rows_of, key=lambda child: children[child].access != "stream"):
            rows = rows_of[child]
            if not rows.size:
                continue
            if children[child].access != "stream":
                start = int(places[rows[0]])
                try:
                    indices = np.asarray(children[child].record_indices_at(start, len(rows), keys[child]), np.int64)
                    to_read = children[child].indices_to_read(start, indices)
                    self._held[child] = self._mixed.read_child(mix, child, to_read)
                except StopIteration as error:  # it would be taken for the end of the mixture
                    title = children[child].title
                    raise RuntimeError(
                        f"{title} raised StopIteration for records that its length says it has"
                    ) from error
                continue
            found = self._fill(child, children[child], len(rows))
            if found < len(rows):  # a stream without a length has ended, and the mixture ends with it
                size, self._ended = int(rows[found]), child
                rows_of = {one: rows[rows < size] for one, rows in rows_of.items()}
        held, self._held = self._held, {}
        served = {child: rows[rows < size] for child, rows in rows_of.items()}
        if not size:
            raise StopIteration
        parts = [
            (child, rows, jax.tree.map(lambda leaf, size=rows.size: leaf[:size], held[child]))
            for child, rows in served.items()
            if rows.size
        ]
        return parts, size

    def _fill(self, child: int, source: DataSourceModule, wanted: int) -> int:
        """Read a stream until ``wanted`` of its records are held, or until the mixture ends with it; return their number."""
        restarts = 0
        while (found := self._num_held(child)) < wanted:
            try:
                more = source.read_batch(wanted - found)
            except StopIteration:
                if source.epoch_length is not None:
                    raise SpecError(
                        f"{source.title} ended, but has {source.epoch_length} records an epoch; a stream with a length goes on "
                        "with its next epoch by itself"
                    ) from None
                if self._mixed.timeline.stop == "first_exhausted":
                    return found
                restarts += 1
                if restarts > 1 and self._num_held(child) == found:
                    raise ValueError(
                        f"{source.title} is empty: it has no records to serve in {self._mixed.title}"
                    ) from None
                begin_next_epoch(source)
                continue
            restarts = 0
            held = self._held.get(child)
            self._held[child] = more if held is None else joined_batches([held, more])
        return wanted

    def _num_held(self, child: int) -> int:
        return next((len(leaf) for leaf in jax.tree.leaves(self._held.get(child))), 0)

    def _run_has_ended(self, mix: ReadMixture) -> bool:
        length = mix.epoch_length
        if length is None:
            return self._ended is not None or not self._left_before_end(mix)
        return bool(mix.cursor.position >= mix.cursor.run_start + length)

    def _left_before_end(self, mix: ReadMixture) -> int:
        """Return the records before the known end of a mixture without a length; `HOST_LIMIT` if no end is known."""
        end = self._mixed.timeline.known_end
        return HOST_LIMIT if end is None else max(0, mix.cursor.run_start + end - mix.cursor.position)

    def _stream_states(self, mix: Mixture) -> dict[str, Any]:
        for _, child in streams_of(mix.children):
            if not child.capabilities.resumable:
                raise StateError(
                    f"{child.title} cannot say where it stands, so that {mix.title} has no state to save; define get_state() "
                    "and set_state()"
                )
        return {str(number): child.get_state() for number, child in streams_of(mix.children)}

    def _checked_streams(self, mix: Mixture, state: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
        streams, ended = state.get("streams"), state.get("ended")
        numbers = {str(number) for number, _ in streams_of(mix.children)}
        is_child = ended is None or (not isinstance(ended, bool) and ended in range(len(mix.children)))
        if not isinstance(streams, dict) or streams.keys() != numbers or not is_child:
            raise StateError(
                f"this is no state of {mix.title}: 'streams' has the states of its children {sorted(numbers)}, and 'ended' "
                f"is the number of a child or None, not {streams!r:.80} and {ended!r:.80}"
            )
        return streams, None if ended is None else int(ended)


def begin_next_epoch(source: DataSourceModule) -> None:
    """Let a stream that has ended go on with its next epoch; a stream without loops of its own starts over."""
    if (
        type(source).begin_epoch is DataSourceModule.begin_epoch
        and type(source).__iter__ is not DataSourceModule.__iter__
    ):
        iter(source)
    else:
        source.begin_epoch()


def start_over(source: DataSourceModule, seed: int | None = None) -> None:
    """Call ``source.reset(seed)``.

    Raises:
        NotImplementedError: The source is a stream that defines no ``reset``.
    """
    if source.access == "stream" and type(source).reset is DataSourceModule.reset:
        raise NotImplementedError(f"{source.title} is a stream that cannot start over; define reset()")
    source.reset(seed)


def streams_of(children: Children) -> Iterator[tuple[int, DataSourceModule]]:
    """Yield (number, child) for each child that is a stream."""
    return ((number, child) for number, child in enumerate(children) if child.access == "stream")


def _restore_streams(mix: Mixture, states: dict[str, Any], but: Collection[str] = ()) -> None:
    for number, child in streams_of(mix.children):
        set_state_but(child, states[str(number)], but, prefix=f"{mix.mixed.names[number]}.")
