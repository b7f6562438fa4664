"""Parts of a source: a range of its record indices, or of a fixed shuffle of them, cut by named shares."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from .order import ORDER_RULE
from .permutation import DEVICE_LIMIT, SORTED_UP_TO, Integers, names_too_many, round_keys, shuffle, sorted_order

_ROUNDING: Final = 1e-12  # the sum of shares such as 0.7, 0.2 and 0.1 may differ from 1 by so much


def cut(shares: Mapping[str, float], length: int, title: str) -> dict[str, range]:
    """Return a range for each share: disjoint, one after another in the order of the names, complete if shares sum to 1.

    Args:
        shares: The share of each part by name: fractions of one (floats), or numbers of records (integers).
        length: Number of records of the source.
        title: Name of the source in errors.

    Raises:
        TypeError: A share is no number, or there are both floats and integers.
        ValueError: There are no shares, a share is out of range or leaves its part empty, or the sum is more than 1 or
            ``length``.
    """
    if not shares:
        raise ValueError(f"a split of {title} needs a share for each part, such as split(train=0.9, test=0.1)")
    are_counts = {_is_count(name, share, title) for name, share in shares.items()}
    if len(are_counts) > 1:
        listed = ", ".join(f"{name}={share!r}" for name, share in shares.items())
        raise TypeError(
            f"the shares of a split of {title} are all parts of one (floats) or all numbers of records (integers), not both: "
            f"{listed}"
        )
    ends = _ends_of_counts(shares, length, title) if are_counts == {True} else _ends_of_parts(shares, length, title)
    parts = {name: range(start, end) for name, start, end in zip(shares, [0, *ends], ends, strict=False)}
    if empty := next((name for name, part in parts.items() if not part), None):
        raise ValueError(
            f"part {empty!r} of {title} would be empty: {shares[empty]!r} of {length} records is none of them; give it more"
        )
    return parts


def _is_count(name: str, share: object, title: str) -> bool:
    """Return whether a share is a number of records and no fraction; raise if it is out of range."""
    is_count = isinstance(share, int | np.integer) and not isinstance(share, bool)
    if not is_count and not isinstance(share, float | np.floating):
        raise TypeError(f"share {name}={share!r} of {title} is no number; give a part of one, or a number of records")
    if is_count and share < 1:  # type: ignore[operator]  # a number, by the check before
        raise ValueError(f"share {name}={share!r} of {title} is out of range: a number of records is at least 1")
    if not is_count and not 0 < share <= 1:  # type: ignore[operator]  # a number, by the check before
        raise ValueError(f"share {name}={share!r} of {title} is out of range: a part of one is more than 0, at most 1")
    return is_count


def _ends_of_counts(shares: Mapping[str, float], length: int, title: str) -> list[int]:
    ends = list(accumulate(map(int, shares.values())))
    if ends[-1] > length:
        raise ValueError(f"the parts of {title} have {ends[-1]} records together, and there are {length}; ask for less")
    return ends


def _ends_of_parts(shares: Mapping[str, float], length: int, title: str) -> list[int]:
    parts = list(map(float, shares.values()))
    sums = [math.fsum(parts[: count + 1]) for count in range(len(parts))]
    if sums[-1] > 1 + _ROUNDING:
        raise ValueError(f"the shares of {title} sum to {sums[-1]!r}, which is more than 1; make them smaller")
    # as a Fraction: the product of a float and a large length would be off by some records
    return [length if total > 1 - _ROUNDING else round(Fraction(total) * length) for total in sums]


_SPLIT_KEY_DATA: Final = (0x73706C69, 0x74)  # "split"; with a seed, four numbers of key data, where orders have two


@dataclass(frozen=True, slots=True)
class Selection:
    """A fixed sequence of record indices of a source, the parent, that has ``population`` records.

    Record i of the subset is record ``rows[i]`` of the parent; with a ``seed``, it is the record at position ``rows[i]`` of the
    shuffle that the seed selects. With a seed, rows may pass the last position, and go on from the first one: so the records
    outside of ``range(a, b)`` are those of ``range(b, population + a)``.
    """

    population: int
    rows: range
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.rows:  # equal ranges get one form; a step that is never taken might be larger than an index
            step = self.rows.step if len(self.rows) > 1 else 1
            rows = range(self.rows.start, self.rows[-1] + (1 if step > 0 else -1), step)
            object.__setattr__(self, "rows", rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        """Return ``[10:20]`` or ``[0:90] of 100 shuffled with seed 0``: the titles of a split's parts differ in this text."""
        rows = self.rows
        stop = "" if rows.stop < 0 else rows.stop
        if self.wraps:
            end = rows.stop - self.population
            return f"[{rows.start}:{self.population}] and [0:{end}] of {self.population} shuffled with seed {self.seed}"
        text = f"[{rows.start}:{stop}]" if rows.step == 1 else f"[{rows.start}:{stop}:{rows.step}]"
        return text if self.seed is None else f"{text} of {self.population} shuffled with seed {self.seed}"

    def fingerprint(self) -> str:
        """Return the text by which a saved state recognises the selection."""
        return str(self) if self.seed is None else f"{self}, rule {ORDER_RULE}"

    @property
    def wraps(self) -> bool:
        """Whether rows pass the last position of a shuffle, and go on from the first one."""
        return self.seed is not None and len(self.rows) > 0 and self.rows[-1] >= self.population

    def parent_indices(self, indices: Integers) -> Integers:
        """Return the parent's record indices, int64 (k,), for concrete record indices of the subset, which must be in range."""
        rows = np.asarray(indices, np.int64) * self.rows.step + self.rows.start
        if self.wraps:
            rows %= self.population
        return rows if self.seed is None else _permuted(rows, self.population, split_keys(self.seed))

    @property
    def as_slice(self) -> slice | None:
        """The slice of the parent's records that this is; None if they are shuffled."""
        rows = self.rows
        return None if self.seed is not None else slice(rows.start, None if rows.stop < 0 else rows.stop, rows.step)

    @property
    def fits_device(self) -> bool:
        """Whether 32-bit arithmetic under jit maps the indices: all of the parent's that the selection may name fit."""
        largest = max(self.rows.start, self.rows[-1]) if self.seed is None else self.population
        return largest <= DEVICE_LIMIT

    def traced(self, title: str) -> tuple["TracedSelection", tuple[Any, ...]]:
        """Return (function of arguments and traced indices, its arguments); the parts of one split share the function.

        Args:
            title: Name of the subset in errors.

        Raises:
            ValueError: The selection does not fit 32 bits (`fits_device`).
        """
        if not self.fits_device:
            raise names_too_many(title)
        bounds = np.asarray([self.rows.start, self.rows.step], np.int32)
        if self.seed is None:
            return TracedSelection(None), (bounds, None)
        return TracedSelection(self.population, self.wraps), (bounds, split_keys(self.seed))


@dataclass(frozen=True)
class TracedSelection:
    """`Selection.parent_indices` for compiled code, without the bounds of a part, so that parts share compiled programs."""

    population: int | None
    wraps: bool = False

    def __call__(self, arguments: tuple[Any, ...], indices: jax.Array) -> jax.Array:
        """Return the parent's record indices, int32 (k,)."""
        bounds, keys = arguments
        rows: jax.Array = indices.astype(np.int32) * bounds[1] + bounds[0]
        if self.population is None:
            return rows
        if self.wraps:  # of unsigned integers, since the sum before may pass 2**31
            rows = (rows.astype(np.uint32) % np.uint32(self.population)).astype(np.int32)
        return jnp.asarray(_permuted(rows, self.population, jnp.asarray(keys)), np.int32)


@functools.lru_cache(maxsize=64)
def split_keys(seed: int) -> np.ndarray:
    """Return the round keys of a split, uint32 (1, 2 * ROUNDS), which differ from those of every order."""
    key_data = np.asarray([seed, 0, *_SPLIT_KEY_DATA], np.uint32)
    keys: np.ndarray = round_keys(key_data, np.zeros(1, np.uint32), np.zeros(1, np.uint32))
    keys.flags.writeable = False
    return keys


def _permuted(rows: Integers, length: int, keys: Integers) -> Integers:
    return sorted_order(length, keys)[0, rows] if length <= SORTED_UP_TO else shuffle(rows, length, keys[0])
