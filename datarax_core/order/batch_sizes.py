"""Batch sizes: arithmetic from positions to the sizes of batches, for one size, a schedule, or sizes that a source decides.

Positions count records. A batch begins at a *boundary*: 0, or where the batch before it ends.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .numbers import whole_number
from .order import HOST_LIMIT
from .permutation import DEVICE_LIMIT


class BatchSizes(ABC):
    """The sizes of batches by the position at which they begin. All methods are closed forms or look-ups in a table.

    Objects compare by value where two pipelines are to share compiled programs, and are hashable and picklable.
    """

    @property
    @abstractmethod
    def largest(self) -> int:
        """Records of the largest batch: buffers are made for it.

        Called: when a route is made.
        Default: none; a class writes it.
        """

    @property
    @abstractmethod
    def distinct(self) -> tuple[int, ...]:
        """All sizes that a full batch may have, in the order in which they are met first, or ascending.

        Called: when a pipeline is made or described.
        Default: none; a class writes it.
        """

    @property
    def short(self) -> tuple[int, ...]:
        """The sizes of batches that are short wherever they come, such as the last of each bucket; none by default.

        Called: when a pipeline is made or described.
        Default: an empty tuple.
        """
        return ()

    @property
    def constant(self) -> int | None:
        """The one size of all batches; None if there may be several.

        Called: when a pipeline is made, and for each batch.
        Default: the size in `distinct`, if there is one and none in `short`.
        """
        return self.distinct[0] if len(self.distinct) == 1 and not self.short else None

    @abstractmethod
    def at(self, position: int) -> int:
        """Return the records of the batch that begins at the boundary ``position``.

        Called: by pipelines and their loops, for each batch; on the loop's thread.
        Default: none; a class writes it.
        """

    def full_at(self, position: int) -> int:
        """Return the size to which ``pad_last`` completes the batch that begins at the boundary ``position``.

        Called: for each batch of a pipeline with ``pad_last``; on the loop's thread.
        Default: `at`.
        """
        return self.at(position)

    @abstractmethod
    def batches_before(self, position: int) -> int:
        """Return the number of batches, of those from position 0 on, that begin before ``position``.

        Called: by ``len(pipeline)``, plans and seeks.
        Default: none; a class writes it.
        """

    @abstractmethod
    def position_of(self, step: int) -> int:
        """Return the position at which batch number ``step`` begins, of the full batches from position 0 on.

        Called: by seeks, plans and scans.
        Default: none; a class writes it.
        """

    @abstractmethod
    def fingerprint(self) -> Any:
        """Return a JSON value that tells these sizes from others; that of one size is the number itself.

        Called: when a state is saved or restored.
        Default: none; a class writes it.
        """

    def describe(self) -> str:
        """Return the sizes in words, such as ``"256, 512 from record 1,000,000 on"``.

        Called: by reports.
        Default: the sizes of `distinct`.
        """
        return ", ".join(f"{size:,}" for size in self.distinct)

    # -- from another boundary than 0, at which a run may begin ---------------------------------------------------------------

    def batches_between(self, start: int, stop: int) -> int:
        """Return the number of batches that begin before ``stop``, if they are cut from the boundary ``start`` on.

        Called: by ``len(pipeline)``, plans and scans.
        Default: the difference of `batches_before`.
        """
        return self.batches_before(stop) - self.batches_before(start)

    def position_after(self, start: int, steps: int) -> int:
        """Return the position after ``steps`` full batches from the boundary ``start`` on.

        Called: by seeks, plans and scans.
        Default: `position_of`, counted from the start.
        """
        return self.position_of(self.batches_before(start) + steps)

    def next_change(self, position: int) -> int | None:
        """Return the position from which on batches may have another size than at ``position``; None if they never do.

        Called: by plans and scans.
        Default: the next position, unless the size is `constant`.
        """
        return None if self.constant is not None else position + 1

    def last_size(self, start: int, stop: int) -> int:
        """Return the records of the last batch between ``start`` and ``stop``, if that is cut short there; 0 if it is full.

        Called: when a run of whole batches begins, and by plans.
        Default: follows from `at` and `position_after`.
        """
        batches = self.batches_between(start, stop)
        if batches <= 0:
            return 0
        begins = self.position_after(start, batches - 1)
        return 0 if begins + self.at(begins) <= stop else stop - begins


@dataclass(frozen=True, slots=True)
class OneBatchSize(BatchSizes):
    """One size for all batches."""

    size: int

    @property
    def largest(self) -> int:
        """The size."""
        return self.size

    @property
    def distinct(self) -> tuple[int, ...]:
        """The size."""
        return (self.size,)

    @property
    def constant(self) -> int | None:
        """The size."""
        return self.size

    def at(self, position: int) -> int:  # noqa: ARG002 - the same everywhere
        """Return the size."""
        return self.size

    def batches_before(self, position: int) -> int:
        """Return the number of batches that begin before ``position``."""
        return -(-position // self.size)

    def position_of(self, step: int) -> int:
        """Return the position at which batch number ``step`` begins."""
        return step * self.size

    def fingerprint(self) -> int:
        """Return the size."""
        return self.size

    def batches_between(self, start: int, stop: int) -> int:
        """Return the number of batches that begin before ``stop``, from ``start`` on."""
        return -((start - stop) // self.size)

    def position_after(self, start: int, steps: int) -> int:
        """Return the position after ``steps`` batches from ``start`` on."""
        return start + steps * self.size


class ScheduledBatchSizes(BatchSizes):
    """Sizes that change at positions: ``[[0, 256], [1_000_000, 512]]`` is 256 from record 0 on, and 512 from 1,000,000 on.

    A batch that begins before a border keeps its size, also where it reaches beyond: the next batch has the next size. Of
    borders that one batch reaches across, only the last counts. Look-ups cost the logarithm of the number of stages, closed
    forms one step for each stage that they pass.

    Args:
        stages: Pairs of (position, batch size), the first at 0, positions rising.

    Raises:
        TypeError: ``stages`` are no pairs of integers.
        ValueError: There is no stage, the first does not begin at 0, a position does not rise, or a size is less than 1; names
            the stage.
    """

    __slots__ = ("_borders", "_sizes")

    def __init__(self, stages: Sequence[Sequence[int]]) -> None:
        pairs = _checked(stages)
        self._borders = tuple(position for position, _ in pairs)
        self._sizes = tuple(size for _, size in pairs)

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """The pairs of (position, batch size)."""
        return tuple(zip(self._borders, self._sizes, strict=True))

    @property
    def largest(self) -> int:
        """The largest of the sizes."""
        return max(self._sizes)

    @property
    def distinct(self) -> tuple[int, ...]:
        """The sizes, each once, in the order of the stages."""
        return tuple(dict.fromkeys(self._sizes))

    def at(self, position: int) -> int:
        """Return the size of the stage in which ``position`` lies; any position may be asked for."""
        return self._sizes[bisect_right(self._borders, position) - 1]

    def batches_before(self, position: int) -> int:
        """Return the number of batches, of those from position 0 on, that begin before ``position``."""
        return self.batches_between(0, position)

    def position_of(self, step: int) -> int:
        """Return the position at which batch number ``step`` begins, of the full batches from position 0 on."""
        return self.position_after(0, step)

    def batches_between(self, start: int, stop: int) -> int:
        """Return the number of batches that begin before ``stop``, if they are cut from ``start`` on."""
        batches = 0
        while start < stop:
            size, end = self.at(start), self.next_change(start)
            steps = -(-((stop if end is None else min(stop, end)) - start) // size)
            batches, start = batches + steps, start + steps * size
        return batches

    def position_after(self, start: int, steps: int) -> int:
        """Return the position after ``steps`` full batches from ``start`` on."""
        while steps > 0:
            size, end = self.at(start), self.next_change(start)
            here = steps if end is None else min(steps, -(-(end - start) // size))
            steps, start = steps - here, start + here * size
        return start

    def next_change(self, position: int) -> int | None:
        """Return the next border at which the size changes; None after the last."""
        size = self.at(position)
        for border, other in self.stages[bisect_right(self._borders, position) :]:
            if other != size:
                return border
        return None

    def fingerprint(self) -> list[list[int]]:
        """Return the stages as lists."""
        return [list(stage) for stage in self.stages]

    def describe(self) -> str:
        """Return the sizes in words, such as ``"256, 512 from record 1,000,000 on"``."""
        first, *rest = self.stages
        return ", ".join([str(first[1]), *(f"{size} from record {position:,} on" for position, size in rest)])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.fingerprint()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScheduledBatchSizes) and self.stages == other.stages

    def __hash__(self) -> int:
        return hash(self.stages)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.fingerprint(),)


def batch_sizes_of(batch_size: Any) -> int | BatchSizes:
    """Return what an argument ``batch_size`` stands for: the number itself, or the sizes of a schedule.

    A schedule whose stages all have one size is that number.

    Raises:
        TypeError, ValueError: It is neither an integer from 1 on nor a schedule; says what is wrong.
    """
    if isinstance(batch_size, BatchSizes):
        return batch_size
    if isinstance(batch_size, np.ndarray) and batch_size.ndim > 1:
        batch_size = batch_size.tolist()
    if isinstance(batch_size, Sequence) and not isinstance(batch_size, str | bytes):
        sizes = ScheduledBatchSizes(batch_size)
        return sizes if sizes.constant is None else sizes.constant
    return _size("batch_size", batch_size)


def _size(title: str, value: Any) -> int:
    size = whole_number(title, value, at_least=1)
    if size > DEVICE_LIMIT:
        raise ValueError(f"{title} is at most {DEVICE_LIMIT}, not {size}: rows are counted in 32 bits")
    return size


def _checked(stages: Any) -> list[tuple[int, int]]:
    """Return the stages of a schedule as pairs of Python integers."""
    hint = "a schedule of batch sizes is pairs of [position, batch size], such as [[0, 256], [1_000_000, 512]]"
    if not stages:
        raise ValueError(f"batch_size={list(stages)!r} has no stage; {hint}")
    pairs: list[tuple[int, int]] = []
    for number, stage in enumerate(stages):
        title = _title(number)
        if not isinstance(stage, Sequence) or isinstance(stage, str | bytes) or len(stage) != 2:
            raise TypeError(f"{title} is a pair of [position, batch size], not {stage!r:.80}; {hint}")
        position = whole_number(f"{title}[0], a position in records,", stage[0], at_least=0)
        size = _size(f"{title}[1]", stage[1])
        if position > HOST_LIMIT:
            raise ValueError(f"{title} begins at position {position}, beyond the last, {HOST_LIMIT}")
        if not pairs and position:
            raise ValueError(
                f"{title} begins at position {position}, so that batches before it have no size; begin a schedule at 0"
            )
        if pairs and position <= (before := pairs[-1][0]):
            what = "begins there too" if position == before else f"begins at {before}, so that the schedule goes back"
            raise ValueError(
                f"{title} begins at position {position}, but {_title(number - 1)} {what}; positions of a schedule rise"
            )
        pairs.append((position, size))
    return pairs


def _title(number: int) -> str:
    return f"batch_size[{number}]"
