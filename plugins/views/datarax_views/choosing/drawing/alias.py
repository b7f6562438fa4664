"""Alias tables: draws of records in proportion to weights, in a fixed number of integer operations for each draw.

The method is that of A. J. Walker, "An efficient method for generating discrete random variables with general distributions"
(ACM TOMS 3, 1977). Each of n records has a column of equal probability, which holds a part of its own weight and a part of the
weight of one other record, its alias. The columns are filled by the rule of L. Hübschle-Schneider and P. Sanders, "Parallel
weighted random sampling" (ACM TOMS 48, 2022), which M. D. Vose's algorithm (IEEE TSE 17, 1991) does one record at a time: here
prefix sums of integers give all columns at once, without rounding.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Self

import jax
import jax.numpy as jnp
import numpy as np

from datarax_core.order import DEVICE_LIMIT

ALIAS_RULE: Final = 1
"""Version of the arithmetic, a part of every saved state: other tables, or draws from them, are another stream."""

_UNIT_BITS: Final = 32
_UNIT: Final = 1 << _UNIT_BITS


@dataclass(frozen=True, eq=False)
class AliasTable:
    """The columns of n records.

    A draw is a number of 64 bits, times n: the upper part of the product is a column, the next 32 bits choose between the
    record of the column and its alias. A record's probability differs from ``weight / sum(weights)`` by at most ``2**-31 / n``
    (a part in 2 * 10^9 of the mean probability), and for large weights by a part in 10^15 of their own. A weight of zero is
    exact: that record is never drawn.
    """

    bounds: np.ndarray
    """uint32 (n,): the record of a column is drawn if the 32 bits are below its bound."""

    aliases: np.ndarray
    """int32 (n,): the record that is drawn otherwise; the record itself if its column holds no other."""

    @classmethod
    def of(cls, weights: np.ndarray) -> Self:
        """Return the table for float64 (n,) ``weights``: finite, none below zero, one above, and at most 2**31 - 1 of them.

        The same weights give the same table on every machine. O(n log n); a million records take a tenth of a second.
        """
        return cls.of_units(units_of(weights))

    @classmethod
    def of_units(cls, units: np.ndarray) -> Self:
        """Return the table for weights in units of one column's 2**32nd part: int64 (n,), whose sum is ``n * 2**32``."""
        bounds = np.minimum(units, _UNIT)
        aliases = np.arange(len(units), dtype=np.int32)
        light, heavy = np.flatnonzero(units < _UNIT), np.flatnonzero(units > _UNIT)
        if heavy.size:
            missing, more = np.cumsum(_UNIT - units[light]), np.cumsum(units[heavy] - _UNIT)
            # a light column is filled up by the first heavy record that has not been used up by the columns before
            before = missing - (_UNIT - units[light])
            aliases[light] = heavy[np.searchsorted(more, before, side="right")]
            # a heavy record that is used up has given too much to the last of them, and takes that from the next heavy one
            bounds[heavy] = _UNIT - (missing[np.searchsorted(missing, more)] - more)
            aliases[heavy[:-1]] = heavy[1:]
        is_full = bounds == _UNIT
        aliases[is_full] = np.flatnonzero(is_full)
        return cls(np.where(is_full, _UNIT - 1, bounds).astype(np.uint32), aliases)

    def __len__(self) -> int:
        return len(self.bounds)

    def draw(self, bits: np.ndarray) -> np.ndarray:
        """Return int64 (k,): the records that numbers of 64 bits draw, given by their upper and lower halves, uint32 (2, k)."""
        high, low = bits.astype(np.uint64)
        length, word = np.uint64(len(self)), np.uint64(32)
        high *= length
        low *= length
        low >>= word
        high += low
        columns = (high >> word).astype(np.int64)
        is_own = high.astype(np.uint32) < self.bounds[columns]
        records: np.ndarray = np.where(is_own, columns, self.aliases[columns])
        return records

    @cached_property
    def tables(self) -> np.ndarray:
        """The table as one array for a device, int32 (n, 2): bounds, as the same bits, and aliases; made when it is needed."""
        return np.stack([self.bounds.view(np.int32), self.aliases], axis=1)

    def extremes(self) -> tuple[int, float]:
        """Return (number of records that are never drawn, probability of the record that is drawn most often)."""
        own = np.where(self.aliases == np.arange(len(self)), _UNIT, self.bounds.astype(np.int64))
        units = own.astype(np.float64)
        np.add.at(units, self.aliases, (_UNIT - own).astype(np.float64))
        return int(np.count_nonzero(units == 0)), float(units.max() / (len(self) * _UNIT))

    def checksum(self) -> str:
        """Return a text that tells tables apart."""
        digest = sha256(self.bounds.tobytes())
        digest.update(self.aliases.tobytes())
        return digest.hexdigest()[:32]


def traced_draw(tables: Any, bits: jax.Array) -> jax.Array:
    """Return int32 (k,): the result of `AliasTable.draw` for traced ``bits`` and `AliasTable.tables`; equal to the bit."""
    tables, length = jnp.asarray(tables), jnp.uint32(tables.shape[0])
    high, low = bits
    middle = high * length
    fraction = middle + upper_product(low, length)
    columns = (upper_product(high, length) + (fraction < middle).astype(np.uint32)).astype(np.int32)
    found = tables.at[columns].get(mode="promise_in_bounds")
    bounds = jax.lax.bitcast_convert_type(found[:, 0], np.uint32)
    return jnp.where(fraction < bounds, columns, found[:, 1])


def units_of(weights: np.ndarray) -> np.ndarray:
    """Return weights as whole numbers with the sum ``n * 2**32``, int64 (n,), by the method of largest remainders."""
    length = len(weights)
    if length > DEVICE_LIMIT:
        raise ValueError(
            f"a table of {length} records is more than the {DEVICE_LIMIT} that its 32-bit indices can name"
        )
    total = length << _UNIT_BITS
    scaled = np.ldexp(weights, -int(np.frexp(weights.max())[1]))  # the largest is from 1/2 to 1: no sum overflows
    exact = scaled * (total / math.fsum(scaled))  # fsum rounds once: NumPy's sum differs from machine to machine
    units: np.ndarray = exact.astype(np.int64)
    left = total - _integer_sum(units)  # below zero if products were rounded up
    changed = np.flatnonzero(scaled > 0 if left > 0 else units > 0)
    each, more = divmod(left, len(changed))
    units[changed] += each
    if more:
        remainders = (exact - np.floor(exact))[changed]
        least = np.partition(remainders, len(remainders) - more)[len(remainders) - more]  # no sort, which takes seconds
        above = remainders > least
        level = np.flatnonzero(remainders == least)[: more - np.count_nonzero(above)]
        units[changed[above]] += 1
        units[changed[level]] += 1
    return units


def _integer_sum(units: np.ndarray) -> int:
    """Return the sum of int64 numbers from 0, which 64 bits may not hold."""
    return (int((units >> _UNIT_BITS).sum()) << _UNIT_BITS) + int((units & (_UNIT - 1)).sum())


def upper_product(left: Any, right: Any) -> Any:
    """Return the upper 32 bits of the product of two uint32, from products of 16-bit halves."""
    half, mask = np.uint32(16), np.uint32(0xFFFF)
    upper, lower = (left >> half) * (right & mask), (left & mask) * (right >> half)
    middle = ((left & mask) * (right & mask) >> half) + (upper & mask) + (lower & mask)
    return (left >> half) * (right >> half) + (upper >> half) + (lower >> half) + (middle >> half)
