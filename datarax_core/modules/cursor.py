"""The position of a source or pipeline and its run, in one variable, which compiled code advances and ``nnx.state`` holds."""

from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from datarax_core.devices.callbacks import keeping_error
from datarax_core.errors import StateError
from datarax_core.order.permutation import DEVICE_LIMIT

from .host_state import HostState
from .state import checksum_of

_FORMAT: Final = 1
"""Version of the words of a definition: they are compared if both were written by this version."""

_NUM_WORDS: Final = 12

_SEVERAL: Final = 1 << 31
"""The bit of word 8 that says that batches have several sizes: no single size is as large."""


class Cursor(nnx.Module):
    """A position that compiled code can advance, and the run (one loop over the stream) that stands there.

    All of it is in the variable ``offset``, uint32 (12,): so ``nnx.state`` and ``nnx.update``, ``nnx.split`` and ``nnx.merge``,
    and checkpoints of module states, resume exactly. It is one variable because ``nnx.jit`` takes 17 us for each. Its words:

    - 0: the position less ``base``; 1, 2: ``base``, low word first, which changes once in 2**31 records;
    - 3, 4: the position at which the run began; 5: 1 while a loop is under way that was not told yet that it is over;
    - 6: the records that compiled code advanced by, modulo 2**32: what moves word 0 alone came from outside;
    - 7: `_FORMAT`; 8 to 11: facts about the stream, see `describe`.

    In version 0.1.0, ``offset`` was int32 (), and the rest plain attributes.
    """

    stream: str | None = None
    """Name of the source if that is a stream, whose place is in no variable: then nothing but a state moves the position."""

    def __init__(self) -> None:
        self.base = 0  # also a plain attribute, so that a trace knows it
        self.offset = nnx.Variable(_words_of(0, 0))
        self._run = RunState()

    @property
    def is_traced(self) -> bool:
        """Whether this cursor is an argument of the trace that is under way."""
        return isinstance(self.offset.get_raw_value(), jax.core.Tracer)

    @property
    def position(self) -> int:
        """Number of records served since the start of the stream."""
        return self._current().position

    @property
    def run_start(self) -> int:
        """The position at which the run under way began."""
        return self._current().start

    @property
    def in_loop(self) -> bool:
        """Whether a loop is under way, or was when the position was saved, that was not told yet that it is over."""
        return self._current().in_loop

    @property
    def resumes_loop(self) -> bool:
        """Whether the next loop goes on with a loop that was under way when the position was saved."""
        run = self._current()
        return run.resumed and run.in_loop

    @property
    def changes(self) -> tuple[dict[str, Any], ...]:
        """What was changed on purpose between the states that led here; see `fingerprints.changes_of`."""
        return self._run.changes

    def note_changes(self, changes: tuple[dict[str, Any], ...]) -> None:
        """Take changes that a state lists, or none."""
        self._current().changes = changes

    def forget_changes(self) -> None:
        """Note that the stream begins anew: no changes led here."""
        if not self.is_traced:
            self.note_changes(())

    @property
    def number(self) -> int:
        """Number of the run: another one once a loop began, or a position was restored."""
        return self._current().number

    @property
    def last_position(self) -> int:
        """The last position that is known on the host; `position` raises if ``nnx.update`` wrote one that does not fit."""
        return self._run.position

    def move(self, position: int) -> None:
        """Move to ``position``. Compiled code is traced again once in 2**31 records, when ``base`` changes."""
        run = self._current()
        words = run.words.copy()
        if not 0 <= position - self.base <= DEVICE_LIMIT:
            self.base = 0 if position <= DEVICE_LIMIT else position
            words[1:3] = _low_and_high(self.base)
        words[0] = position - self.base
        run.position = position
        run.write(words)

    # -- in compiled code -----------------------------------------------------------------------------------------------

    @property
    def here(self) -> Any:
        """The position: an integer, or under a trace an int32 array.

        Raises:
            ValueError: Under a trace, the position is larger than 32 bits can address.
        """
        if not self.is_traced:
            return self.position
        if self.base:
            raise ValueError(
                f"the stream stands past position {self.base}, which 32-bit positions under jit cannot address; "
                "iterate from Python, or reset()"
            )
        words = self.offset.get_raw_value()
        return words[0].astype(np.int32) if words.ndim else words

    def advance(self, size: int) -> None:
        """Advance by ``size`` records; under a trace, the program checks as it runs that 32 bits can address the position."""
        if not self.is_traced:
            self.move(self.position + size)
            return
        here, words = self.here, self.offset.get_raw_value()
        is_past = here > DEVICE_LIMIT - size
        if not words.ndim:  # restored from a state of version 0.1.0
            jax.lax.cond(is_past, lambda: jax.debug.callback(_refuse_overflow, here), lambda: None)
            self.offset.set_raw_value(here + np.int32(size))
            return
        is_past |= (words[1] | words[2]) > 0  # restored, since `base` was looked at, by nnx.update
        jax.lax.cond(is_past, lambda: jax.debug.callback(_refuse_overflow, words), lambda: None)
        moved = np.zeros(_NUM_WORDS, np.uint32)
        moved[[0, 6]] = size
        self.offset.set_raw_value(words + moved)

    # -- runs -----------------------------------------------------------------------------------------------------------

    def begins_anew(self, *, is_over: bool) -> bool:
        """Return whether `begin_run` starts a new run; if not, it continues the run under way.

        A run that was restored goes on. If it is over, its loop ends at once where the loop that it was saved in had not been
        told yet; otherwise the next run begins.
        """
        run = self._current()
        return not run.resumed or (is_over and not run.in_loop)

    def begin_run(self, epoch_length: int | None, *, is_over: bool) -> int:
        """Start a new run, or continue a restored run; return the number that identifies its iterator.

        A new run starts at the next epoch of which no record was served yet.
        """
        run = self._current()
        if self.begins_anew(is_over=is_over):
            if epoch_length is not None:
                self.move(self.start_of_next(epoch_length))
            run.start = run.position
        run.resumed, run.in_loop = False, True
        run.number += 1
        words = run.words.copy()
        words[3:5], words[5] = _low_and_high(run.start), 1
        run.write(words)
        return run.number

    def start_of_next(self, epoch_length: int) -> int:
        """Return the start of the next epoch of which no record was served."""
        return -(-self._current().position // epoch_length) * epoch_length

    def is_current(self, run: int) -> bool:
        """Return whether the run with this number is still under way."""
        return self._current().number == run

    def end_loop(self, number: int | None = None) -> None:
        """Note that the loop of a run (None: of the current one) was told that it is over, or was left.

        Destructors call it: it uses no module global unless the variable was written from outside.
        """
        run = self._current()
        if run.in_loop and number in (None, run.number):
            run.end_loop()

    def leaves_loop_later(self, number: int) -> bool:
        """Return whether a trace is under way in which nothing may be written; the end of this run's loop is noted for later.

        For destructors, which the garbage collector calls at any time.
        """
        run = self._run
        if run.variable is not self.offset or run.may_write():
            return False
        run.left = number
        run.seen = None  # so that the next use follows
        return True

    def restore(self, position: int, run_start: int, *, in_loop: bool = False) -> None:
        """Move to a saved position; the next loop continues the saved run, and existing iterators end."""
        is_traced, run = self.is_traced, self._run
        variable = self.offset
        self.base = 0 if position <= DEVICE_LIMIT else position
        words = _words_of(position, run_start, base=self.base, in_loop=in_loop)
        if is_traced:
            given: Any = variable.get_raw_value()
            made: Any = jnp.concatenate([words[:6], given[6:]]) if given.ndim else words
            variable.set_raw_value(made)
            return
        if run.variable is not variable:  # the first use of a copy
            run = self._own_run()
        words[7:] = run.words[7:]
        run.position, run.start, run.in_loop, run.resumed = position, run_start, in_loop, True
        run.number += 1
        run.write(words)

    def describe(self, batch_size: Any, epoch_length: int | None, definition: int) -> None:
        """Note facts about the stream, of which a checksum of its definition: variables of another stream are refused.

        ``batch_size`` is a number, or the JSON value of several sizes, of which a checksum with the highest bit is noted.
        """
        run = self._current()
        words = run.words.copy()
        length = 2**64 - 1 if epoch_length is None else epoch_length
        size = batch_size if isinstance(batch_size, int) else _SEVERAL | checksum_of({"batch_size": batch_size})
        words[7:] = (_FORMAT, size, *_low_and_high(length), definition)
        run.write(words)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _current(self) -> "RunState":
        """Return the run as the variable has it, which compiled code, ``nnx.update`` and ``nnx.clone`` write or copy."""
        run, variable = self._run, self.offset
        if run.variable is variable and run.seen is variable.get_raw_value():
            return run
        return self._follow() if run.variable is variable else self._own_run()

    def _own_run(self) -> "RunState":
        """Take over the values of the variable as a run of this cursor's own: it is new, a copy, or was unpickled."""
        run, words = self._run, np.asarray(self.offset.get_raw_value())
        if run.variable is not None:  # that of the cursor that this one was copied from
            run = run.renewed()
        run.variable, run.resumed = self.offset, True
        if not words.ndim:  # of version 0.1.0
            position = self.base + int(words)
            words = _words_of(position, min(run.start, position), base=self.base)
        self._adopt(run, words)
        self._run = run
        return run

    def _follow(self) -> "RunState":
        """Follow the variable, which compiled code has advanced, or ``nnx.update`` has written."""
        run, given = self._run, self.offset.get_raw_value()
        words = np.asarray(given)
        if not words.ndim:  # a state of version 0.1.0, which has the position alone
            position = self.base + int(words)
            words = _words_of(position, min(run.start, position), base=self.base)
            words[7:] = run.words[7:]
        moved = words - run.words
        if moved[0] == moved[6] and not np.delete(moved, [0, 6]).any():  # compiled code advanced it, if anything did
            run.position += int(np.int32(moved[0]))
            run.words, run.seen = words, given
            run.leave()
            return run
        self._require_fit(run, words)
        run.resumed = True
        run.number += 1
        self._adopt(run, words)
        return run

    def _adopt(self, run: "RunState", words: np.ndarray) -> None:
        base = _number(words[1:3])
        if self.base != base:
            self.base = base
        run.position, run.start, run.in_loop = base + int(words[0]), _number(words[3:5]), bool(words[5])
        run.write(words)

    def _require_fit(self, run: "RunState", words: np.ndarray) -> None:
        """Raise unless words that were written from outside can be a position of this stream.

        Raises:
            StateError: Says what differs.
        """
        wrong, own = [], run.words
        if own[7] == words[7] == _FORMAT:
            if own[8] != words[8]:
                wrong.append(f"batch_size was {_size_title(words[8])} and is {_size_title(own[8])}")
            if (own[9:11] != words[9:11]).any():
                wrong.append(f"the length of an epoch was {_length(words[9:11])} and is {_length(own[9:11])}")
            if own[11] != words[11] and not wrong:
                wrong.append("its source, order, batch rule or a file of a host stage differs")
        if wrong:
            raise StateError(
                f"the variables of this pipeline were written by nnx.update from those of another stream: {', '.join(wrong)}; "
                "restore them into a pipeline that is built like the one that was saved, or call reset()"
            )
        position = _number(words[1:3]) + int(words[0])
        if self.stream is not None and position != run.position:
            raise StateError(
                f"nnx.update moved the pipeline over {self.stream} from position {run.position} to {position}, but the place "
                "of a stream is in no variable: save pipeline.get_state() beside the variables, and restore it by set_state()"
            )


class RunState(HostState):
    """The run of a `Cursor` on the host: its variable, decoded, and the number of the current iterator.

    Args:
        start: The position at which the run began.
        resumed: Whether the next loop continues the run: True at the very start, and after a restore.
        number: Identifies the current iterator; a new number ends the iterators before it.
        changes: What was changed on purpose, as states list it.
    """

    def __init__(
        self,
        start: int = 0,
        resumed: bool = True,  # noqa: FBT001, FBT002 - in pickles
        number: int = 0,
        changes: tuple[dict[str, Any], ...] = (),
    ) -> None:
        self.start, self.resumed, self.number, self.changes = start, resumed, number, changes
        self.position = 0
        self.in_loop = False
        self.variable: Any = None
        """The variable of the cursor that this is the run of; None for a copy that was not used yet."""
        self.seen: Any = None
        """The array that was last found in the variable."""
        self.words = _words_of(0, 0)
        """The words in `seen`."""
        self.left = -1
        """The number of the run whose loop was left in a trace, which could not be written then."""

    def constructor_data(self) -> tuple[Any, ...]:
        """Return start, number and changes; a copy continues the run."""
        return self.start, True, self.number, self.changes

    def __setstate__(self, state: dict[str, Any]) -> None:  # only pickles of version 0.1.0 hold a dict
        vars(self).update(vars(RunState(state["start"], True, state["number"])))  # noqa: FBT003

    def may_write(self) -> bool:
        """Return whether the variable may be written: not in a trace that it is no argument of. Uses no module global."""
        try:
            self.variable.set_raw_value(self.variable.get_raw_value())
        except Exception:  # noqa: BLE001 - a TraceContextError; destructors have no globals
            return False
        return True

    def end_loop(self) -> None:
        """Write that no loop is under way."""
        self.in_loop = False
        words = self.words.copy()
        words[5] = 0
        self.write(words)

    def leave(self) -> None:
        """Write that the loop was left, if it was in a trace that is over now."""
        if self.left == -1:
            return
        if self.left != self.number or not self.in_loop:
            self.left = -1
        elif self.may_write():
            self.left = -1
            self.end_loop()
        else:
            self.seen = None

    def write(self, words: np.ndarray) -> None:
        """Write words to the variable, and remember the very array."""
        self.words = self.seen = words
        self.variable.set_raw_value(words)


def _words_of(position: int, run_start: int, *, base: int = 0, in_loop: bool = False) -> np.ndarray:
    words = np.zeros(_NUM_WORDS, np.uint32)
    words[:6] = (position - base, *_low_and_high(base), *_low_and_high(run_start), in_loop)
    return words


def _low_and_high(number: int) -> tuple[int, int]:
    return number & 0xFFFFFFFF, number >> 32


def _number(words: np.ndarray) -> int:
    return int(words[0]) | int(words[1]) << 32


def _size_title(word: np.uint32) -> str:
    """Return a batch size for messages; of several sizes only a checksum is known."""
    return f"several sizes (checksum {int(word):08x})" if word & _SEVERAL else str(word)


def _length(words: np.ndarray) -> str:
    length = _number(words)
    return "unknown" if length == 2**64 - 1 else str(length)


def _refuse_overflow(words: Any) -> None:
    keeping_error(_raise_overflow, words)


def _raise_overflow(words: Any) -> None:
    position = int(words) if not np.ndim(words) else _number(words[1:3]) + int(words[0])
    raise OverflowError(
        f"position {position} is the last that 32-bit positions under jit can address; iterate from Python, or reset()"
    )
