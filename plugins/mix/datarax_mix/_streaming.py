"""What a mixture does where a child is a stream: it is read forward, and its state holds those of such children."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np

from datarax_core.errors import StateError
from datarax_core.order import HOST_LIMIT
from datarax_core.records import Batch
from datarax_core.sources import DataSourceModule

from ._stream import begin_anew, start_over, streams_of

if TYPE_CHECKING:
    from ._children import Mixed


class StreamAccess(DataSourceModule):
    """Reading, looping, resetting and resuming, for both kinds of mixtures: over streams too, or over records only."""

    children: Any
    _mixed: "Mixed"
    _saved_with_streams: ClassVar[tuple[str, ...]] = ("streams", "ended")

    # -- reading --------------------------------------------------------------------------------------------------------

    def get_batch(self, batch_size: int) -> Batch:
        """The next ``batch_size`` records; where the mixture ends with a child whose length nobody knows, what is left.

        Raises:
            StopIteration: None are left.
        """
        if self.access != "stream":
            return super().get_batch(batch_size)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(f"batch_size is a whole number from 1, not {batch_size!r:.80}")
        batch = self.read_batch(int(batch_size))
        self.note_served(1)
        return batch

    def read_batch(self, batch_size: int) -> Batch:
        """`get_batch`, not counted."""
        if self.access != "stream":
            return super().read_batch(batch_size)
        left = self._left_before_end()
        if not left:
            raise StopIteration
        batch, size = self._mixed.read(self, self.cursor.position, min(batch_size, left))
        self.cursor.advance(size)
        return batch

    def skip(self, count: int) -> None:
        """Leave out the next ``count`` records; of children with random access none is read."""
        streams = list(streams_of(self.children))
        if not streams or any(child.epoch_length is None for _, child in streams):
            super().skip(count)
            return
        position, counts = self.cursor.position, self._mixed.timeline.counts
        left_out = counts(position + count) - counts(position)
        for number, child in streams:
            if left_out[number]:
                child.skip(int(left_out[number]))
        self.cursor.advance(count)

    def __iter__(self) -> Iterator[Any]:
        """One epoch of elements in this mixture's order; a second loop is the next epoch.

        A loop ends with `RuntimeError` if another one, `set_state` or `reset` came between.
        """
        if self.access != "stream":
            return super().__iter__()
        length, stood, stream = self.epoch_length, self.cursor.position, self._mixed.stream
        run = self.cursor.begin_run(length, is_over=self._run_has_ended())
        if stream.ended is not None:
            begin_anew(self.children[stream.ended])
            stream.go_on()
        if (left_out := self.cursor.position - stood) > 0:
            self.cursor.move(stood)
            self.skip(left_out)
        return self.loop_over(run)

    def __next__(self) -> Any:
        """The next element of the epoch that is under way."""
        if self.access != "stream":
            return super().__next__()
        if self._run_has_ended():
            raise StopIteration
        batch = self.read_batch(1)
        return jax.tree.map(lambda column: column[0], batch)

    # -- progress -------------------------------------------------------------------------------------------------------

    def reset(self, seed: int | None = None) -> None:
        """Back to the start, and the children too; with ``seed``, of the mixture that ``nnx.Rngs(seed)`` gives.

        Raises:
            NotImplementedError: A child is a stream that cannot start over.
        """
        for child in self.children:
            start_over(child, seed if child.access == "stream" else None)
        super().reset(seed)
        self._mixed.stream.go_on()

    def get_state(self) -> dict[str, Any]:
        """Where the mixture stands, and what it is; with the states of the children that are streams, at every depth.

        Raises:
            StateError: A child that is a stream cannot say where it stands, or failed halfway through a batch.
        """
        if self.access != "stream":
            return super().get_state()
        self._mixed.stream.require_whole()
        return {**super().get_state(), "streams": self._stream_states(), "ended": self._mixed.stream.ended}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` gave; nothing is changed unless all of it fits.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: Names all that differs between the mixture that the state is of and this one.
        """
        if self.access != "stream" or not isinstance(state, dict):
            super().set_state(state)
            return
        own = {name: value for name, value in state.items() if name not in self._saved_with_streams}
        streams, ended = self._checked_streams(state)
        before, streams_before = super().get_state(), self._stream_states()
        super().set_state(own)
        try:
            self._restore_streams(streams)
        except BaseException:  # an interruption, too: all of it is restored, or nothing
            super().set_state(before)
            self._restore_streams(streams_before)
            raise
        self._mixed.stream.go_on(ended=ended)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _run_has_ended(self) -> bool:
        length = self.epoch_length
        if length is None:
            return self._mixed.stream.ended is not None or not self._left_before_end()
        return self.cursor.position >= self.cursor.run_start + length

    def _left_before_end(self) -> int:
        """Records until the mixture ends with a child that has a length, though another has none; else as good as any."""
        end = self._mixed.timeline.known_end
        return HOST_LIMIT if end is None else max(0, self.cursor.run_start + end - self.cursor.position)

    def _stream_states(self) -> dict[str, Any]:
        for _, child in streams_of(self.children):
            if not child.capabilities.resumable:
                raise StateError(
                    f"{child.title} cannot say where it stands, so that {self.title} has no state to save; define get_state() "
                    "and set_state()"
                )
        return {str(number): child.get_state() for number, child in streams_of(self.children)}

    def _restore_streams(self, states: dict[str, Any]) -> None:
        for number, child in streams_of(self.children):
            child.set_state(states[str(number)])

    def _checked_streams(self, state: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
        streams, ended = state.get("streams"), state.get("ended")
        numbers = {str(number) for number, _ in streams_of(self.children)}
        is_child = ended is None or (not isinstance(ended, bool) and ended in range(len(self.children)))
        if not isinstance(streams, dict) or streams.keys() != numbers or not is_child:
            raise StateError(
                f"this is no state of {self.title}: 'streams' has the states of its children {sorted(numbers)}, and 'ended' "
                f"is the number of one or None, not {streams!r:.80} and {ended!r:.80}"
            )
        return streams, None if ended is None else int(ended)
