"""Model of a position: where batches, loops, states and resets leave a source or a pipeline, in plain integers.

It shares no code with what it is compared with.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Place:
    """Where a source or a pipeline stands.

    Attributes:
        position: Number of records that were served since the start of the stream.
        run_start: The position at which the run began, the one that is under way or was last.
        goes_on: Whether the next loop goes on with that run, if any of it is left: at the very start, and after a restore.
        in_loop: Whether it was saved in a loop that had not been told that it is over; of a state only.
    """

    position: int = 0
    run_start: int = 0
    goes_on: bool = True
    in_loop: bool = False

    def after(self, records: int) -> "Place":
        """Return the place after more records."""
        return replace(self, position=self.position + records, in_loop=False)

    def left(self, run: int | None) -> int | None:
        """Return how many records are left of the run, which is ``run`` records long; None if that has no end."""
        return None if run is None else self.run_start + run - self.position

    def in_next_loop(self, epoch: int | None, *, is_over: bool) -> "Place":
        """Return the place at which the next loop begins, of a stream with epochs of so many records.

        A loop goes on with the run; if that is over, or a loop was begun here before, it is a run of its own, from the first
        epoch of which no record was served.
        """
        if self.goes_on and (self.in_loop or not is_over):
            return replace(self, goes_on=False, in_loop=False)
        start = self.position if epoch is None else -(-self.position // epoch) * epoch
        return Place(start, start, goes_on=False)

    def saved(self, *, in_loop: bool) -> "Place":
        """Return the place in a state that is saved now, within a loop or between loops."""
        return replace(self, goes_on=True, in_loop=in_loop)
