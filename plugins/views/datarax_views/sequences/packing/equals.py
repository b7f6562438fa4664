"""Exchange of pieces of equal length, another one in each epoch, as arithmetic.

Within the pieces of one length a keyed permutation says which takes the place of which: a swap-or-not shuffle (Hoang, Morris
and Rogaway, "An Enciphering Scheme Based on a Card Shuffle", 2012). It works for any number of pieces, so that one batch with
pieces of many lengths takes one evaluation. Each round halves what is left of the order before.
"""

from typing import Final

import numpy as np

_ROUNDS: Final = 24
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio, as SplitMix64 counts
_MULTIPLIERS: Final = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))  # of Murmur3's finaliser


class Equals:
    """Pieces grouped by length, in which they change places.

    Args:
        lengths: Integers (p,): the length of each piece.
        seed: Selects the permutations, together with the epoch.
    """

    def __init__(self, lengths: np.ndarray, seed: int) -> None:
        number = np.int32 if len(lengths) < 2**31 else np.int64
        self._seed = seed
        self._by_length = np.argsort(narrowest(lengths), kind="stable").astype(number)
        self._places = np.empty(len(lengths), number)
        self._places[self._by_length] = np.arange(len(lengths), dtype=number)
        begins = np.flatnonzero(np.diff(lengths[self._by_length], prepend=-1))
        self._starts = np.append(begins, len(lengths)).astype(np.int64)

    def exchanged(self, pieces: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Return the pieces that are in the places of ``pieces`` in these epochs, each as long: int64 (k,).

        Args:
            pieces: Integers (k,): numbers of pieces.
            epochs: int64 (k,): an epoch for each.
        """
        places = self._places[pieces].astype(np.int64)
        groups = np.searchsorted(self._starts, places, side="right") - 1
        firsts = self._starts[groups]
        sizes = self._starts[groups + 1] - firsts
        keys = _mixed(_mixed(np.full(len(places), self._seed, np.uint64) + _STEP) ^ epochs.astype(np.uint64))
        keys = _mixed(keys ^ (groups.astype(np.uint64) + _STEP))
        exchanged: np.ndarray = self._by_length[firsts + permuted(places - firsts, sizes, keys)].astype(np.int64)
        return exchanged


def permuted(numbers: np.ndarray, sizes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return int64 (k,): each number under the permutation of ``[0, size)`` that its key selects.

    Args:
        numbers: int64 (k,), each in ``[0, size)``.
        sizes: int64 (k,), 1 to 2**32 - 1.
        keys: uint64 (k,): equal keys and sizes select equal permutations.
    """
    half = np.uint64(32)
    steps = np.arange(1, _ROUNDS + 1, dtype=np.uint64) * _STEP
    words = _mixed(keys[None] + steps[:, None])
    partner_sums = (((words >> half) * sizes.astype(np.uint64)) >> half).astype(np.int64)
    numbers = numbers.astype(np.int64)
    for word, partner_sum in zip(words, partner_sums, strict=True):
        partners = partner_sum - numbers
        np.add(partners, sizes, out=partners, where=partners < 0)
        swaps = np.maximum(numbers, partners).view(np.uint64) * _STEP
        swaps ^= word
        swaps ^= swaps >> half
        swaps *= _MULTIPLIERS[0]
        np.copyto(numbers, partners, where=swaps.view(np.int64) < 0)
    return numbers


def narrowest(numbers: np.ndarray) -> np.ndarray:
    """Return numbers from 0 on in the narrowest dtype, in which a stable sort is quickest: of 16 bits by radix."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))), copy=False)


def _mixed(words: np.ndarray) -> np.ndarray:
    words = words ^ (words >> np.uint64(33))
    words *= _MULTIPLIERS[0]
    words ^= words >> np.uint64(33)
    words *= _MULTIPLIERS[1]
    words ^= words >> np.uint64(33)
    return words
