"""Where a stream stands: one position, which the host reads as an integer of any size and a trace as an int32."""

from typing import Any

import jax
import numpy as np
from flax import nnx

from ._permutation import DEVICE_LIMIT


class _Run:
    """The pass that is under way: where it began, and which of its iterators is the current one."""

    def __init__(self) -> None:
        self.start = 0
        self.resumed = True  # the next loop goes on from the position as it is: at the very start, and after a restore
        self.number = 0


class Cursor(nnx.Module):
    """A position that compiled code can advance: ``base`` is part of the program, ``offset`` is a variable in it."""

    def __init__(self) -> None:
        self.base = 0
        self.offset = nnx.Variable(np.zeros((), np.int32))
        self._run = _Run()

    @property
    def is_traced(self) -> bool:
        """Whether a trace is under way in which this cursor is an argument."""
        return isinstance(self.offset.get_raw_value(), jax.core.Tracer)

    @property
    def position(self) -> int:
        """Records served since the start of the stream."""
        return self.base + int(self.offset.get_raw_value())

    @property
    def run_start(self) -> int:
        """The position at which the run under way began."""
        return self._run.start

    def move(self, position: int) -> None:
        """Stand at ``position``. Compiled code is traced again once in 2**31 records, when ``base`` moves."""
        if not 0 <= position - self.base <= DEVICE_LIMIT:
            self.base = 0 if position <= DEVICE_LIMIT else position
        self.offset.set_raw_value(np.asarray(position - self.base, np.int32))

    @property
    def here(self) -> Any:
        """The position: an integer, or under a trace an int32 array.

        Raises:
            ValueError: Under a trace, the position is past what 32 bits can address.
        """
        if not self.is_traced:
            return self.position
        if self.base:
            raise ValueError(
                f"the stream stands past position {self.base}, which 32-bit positions under jit cannot address; "
                "iterate from Python, or reset()"
            )
        return self.offset.get_raw_value()

    def advance(self, size: int) -> None:
        """Move on by ``size``; under a trace the last position that 32 bits can address is checked as the program runs."""
        if not self.is_traced:
            self.move(self.position + size)
            return
        offset = self.here
        limit = DEVICE_LIMIT - size
        jax.lax.cond(offset > limit, lambda: jax.debug.callback(_refuse_overflow, offset), lambda: None)
        self.offset.set_raw_value(offset + np.int32(size))

    def begins_anew(self, *, is_over: bool) -> bool:
        """Whether `begin_run` starts a new run, or goes on with the one under way."""
        return not self._run.resumed or is_over

    def begin_run(self, epoch_length: int | None, *, is_over: bool) -> int:
        """Start a new run, or go on with a restored one that is not over; gives the number that its iterator goes by.

        A new run starts at the next epoch that nothing was served of yet.
        """
        if self.begins_anew(is_over=is_over):
            if epoch_length is not None:
                self.move(-(-self.position // epoch_length) * epoch_length)
            self._run.start = self.position
        self._run.resumed = False
        self._run.number += 1
        return self._run.number

    def is_current(self, run: int) -> bool:
        """Whether the run with this number is still the one under way."""
        return self._run.number == run

    def restore(self, position: int, run_start: int) -> None:
        """Stand where a saved state says; the next loop goes on with its run, and iterators from before end."""
        self.move(position)
        self._run.start, self._run.resumed = run_start, True
        self._run.number += 1

    def renew(self) -> None:
        """Give this copy of a cursor a run of its own."""
        run, self._run = self._run, _Run()
        self._run.start, self._run.resumed = run.start, run.resumed

    def drop_run(self) -> None:
        """Leave nothing here but the position."""
        del self._run


def _refuse_overflow(offset: Any) -> None:
    raise OverflowError(
        f"position {int(offset)} is the last that 32-bit positions under jit can address; iterate from Python, or reset()"
    )
