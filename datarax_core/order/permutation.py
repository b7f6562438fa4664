"""A keyed bijection of ``[0, n)`` as integer arithmetic, equal to the bit on NumPy and under ``jax.jit``.

Above ``SORTED_UP_TO`` records it is a generalized Feistel network over ``left * 2**k + right`` with the smallest left
modulus that covers ``n``, walked until the value falls inside (Black and Rogaway, "Ciphers with arbitrary finite domains",
2002): fewer than ``sqrt(2 n)`` of the values need a second step. Up to ``SORTED_UP_TO`` records, where such a domain has
too few bits to look random, the records are sorted by a keyed hash. Round keys come from the Threefry-2x32 block cipher
(Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) with the epoch as its counter: key and epoch are
folded, never added.
"""

import functools
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

DEVICE_LIMIT: Final = 2**31 - 1
"""The most records, and the last position, that 32-bit arithmetic on a device can address."""

SORTED_UP_TO: Final = 256
"""Up to this many records, an epoch's records are sorted by a hash."""

ROUNDS: Final = 8
"""Rounds of the Feistel network."""

BLOCK: Final = 16_384
"""Positions that NumPy handles at once: its temporaries stay in the cache (2.5 x faster at 10^6)."""

Integers: TypeAlias = Any
"""A NumPy or a JAX array of integers; functions return an array of the same library as their arguments."""


def names_too_many(title: str) -> ValueError:
    """Return the error about a part of a source that compiled code cannot map to the records that it names."""
    return ValueError(
        f"{title} names records past the {DEVICE_LIMIT} that 32-bit indices under jit can address; only the host can "
        "read them: give the source traceable = False, or placement='host'"
    )


def shuffle(positions: Integers, length: int, keys: Integers) -> Integers:
    """Return the record indices at ``positions`` of a shuffled epoch, by a keyed bijection of ``[0, length)``.

    Args:
        positions: Integers (k,) in ``[0, length)``, in any order.
        length: Number of records: more than ``SORTED_UP_TO``, and at most 2**31 - 1 for JAX arrays.
        keys: Round keys of the epoch from `round_keys`: uint32 (ROUNDS,), or (ROUNDS, k) with a column for each position. For
            lengths past 2**31 - 1, (2 * ROUNDS,) or (2 * ROUNDS, k).

    Returns:
        (k,) int64 for NumPy, uint32 for JAX. Costs fewer than two evaluations of the network a record, on average.
    """
    width = _NARROW if length <= DEVICE_LIMIT else _WIDE
    if width is _WIDE:
        keys = _widened(keys)
    right_bits = (length - 1).bit_length() // 2
    network = functools.partial(_feistel, right_bits=right_bits, left_count=-(-length >> right_bits), width=width)
    if not isinstance(positions, np.ndarray):
        encrypt = functools.partial(network, keys=keys)
        values = encrypt(positions.astype(width.word))
        return jax.lax.while_loop(
            lambda v: jnp.any(v >= length), lambda v: jnp.where(v >= length, encrypt(v), v), values
        )
    indices = np.empty(len(positions), np.int64)
    for at in range(0, len(positions), BLOCK):
        block_keys = keys if keys.ndim == 1 else keys[:, at : at + BLOCK]
        values = network(positions[at : at + BLOCK].astype(width.word), keys=block_keys)
        while (outside := np.flatnonzero(values >= length)).size:
            values[outside] = network(values[outside], keys=keys if keys.ndim == 1 else block_keys[:, outside])
        indices[at : at + BLOCK] = values
    return indices


def sorted_order(length: int, keys: Integers) -> Integers:
    """Return the record indices of whole epochs, int (epochs, length), sorted by a hash that is keyed by epoch."""
    values = np.arange(length, dtype=np.uint32)[None]
    for number in range(4):
        values = _hash(values, keys[:, number : number + 1], _NARROW)
    if isinstance(values, np.ndarray):
        return np.argsort(values, axis=1, kind="stable")
    return jnp.argsort(values, axis=1)


def round_keys(key_data: Integers, epoch_low: Integers, epoch_high: Integers) -> Integers:
    """Return the round keys of each epoch: uint32 (epochs, 2 * ROUNDS), the second half for lengths past 2**31 - 1.

    The epoch is the counter of one Threefry block, whose result is the key of ROUNDS more blocks. These keys fix every shuffled
    order, so a change of them is a new ``ORDER_RULE``.

    Args:
        key_data: uint32 (w,), w even: the data of a PRNG key.
        epoch_low: uint32 (epochs,): the lower 32 bits of each epoch number.
        epoch_high: uint32 (epochs,): the upper 32 bits.
    """
    first, second = _threefry(*_threefry_key(key_data), epoch_low, epoch_high)
    blocks = np.arange(ROUNDS, dtype=np.uint32)[None]
    xp = np if isinstance(first, np.ndarray) else jnp
    return xp.concatenate(_threefry(first[:, None], second[:, None], blocks, xp.zeros_like(blocks)), axis=1)


def fold_in(key_data: Integers, low: Integers, high: Integers = 0) -> Integers:
    """Return the data of ``jax.random.fold_in(key, number)`` for ``k`` numbers: uint32 (2, k).

    One of three rules in core that fold numbers into a key; this rule is for one number of 64 bits, such as the position of a
    categorical mixture's draw. For Threefry keys and numbers below 2**32 it equals ``jax.random.fold_in`` to the bit, so that
    users can compute the same draws, but it compiles nothing on NumPy; larger numbers put their upper 32 bits in the other half
    of Threefry's counter. The other rules fold the epoch and the index of a record one after another:
    `datarax_core.stages.randomness.record_keys` after the number of a stage, so that two stages draw differently, and
    `datarax_core.sources.MetadataManager` without one. The three give different keys, and stay as they are because a change of
    values would change the draws of saved runs.

    Args:
        key_data: uint32 (w,), w even: the data of one key; or (2, k): the data of a key for each number.
        low: uint32 (k,): the lower 32 bits of each number.
        high: uint32 (k,): the upper 32 bits.
    """
    key = _threefry_key(key_data) if key_data.ndim == 1 else (key_data[0], key_data[1])
    xp = jnp if any(isinstance(given, jax.Array) for given in (key_data, low, high)) else np
    return xp.stack(_threefry(*key, xp.broadcast_to(xp.asarray(high, np.uint32), low.shape), low))


def key_data(key: jax.Array | np.ndarray) -> Integers:
    """Return the data of a PRNG key, uint32 (w,), given as a typed key or as key data.

    Raises:
        TypeError: ``key`` is neither, or several keys.
    """
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        with jax.ensure_compile_time_eval():  # a key that a trace closes over has its data now
            key = jax.random.key_data(key)
    if not isinstance(key, jax.Array | np.ndarray):
        raise TypeError(f"a key is one PRNG key, as jax.random.key makes it, not {key!r}")
    if key.dtype != np.uint32 or key.ndim != 1 or not key.shape[0] or key.shape[0] % 2:
        raise TypeError(f"a key is one PRNG key, as jax.random.key makes it, not {key.dtype}{list(key.shape)}")
    return key


class _Width(NamedTuple):
    """Integer width of the Feistel network, and the multipliers of its hash, which are those of Murmur3's finalisers."""

    word: type
    bits: int
    multipliers: tuple[int, int]


_NARROW = _Width(np.uint32, 32, (0x85EBCA6B, 0xC2B2AE35))

_WIDE = _Width(np.uint64, 64, (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53))


def _feistel(values: Integers, *, keys: Integers, right_bits: int, left_count: int, width: _Width) -> Integers:
    """Return a bijection of ``[0, left_count * 2**right_bits)``: each round moves a half of a value by a hash of the other."""
    shift, mask = width.word(right_bits), width.word((1 << right_bits) - 1)
    count, top = width.word(left_count), width.word(width.bits - right_bits)
    minimum = np.minimum if isinstance(values, np.ndarray) else jnp.minimum
    left, right = values >> shift, values & mask
    for number in range(ROUNDS):
        if number % 2:
            right = right ^ (_hash(left, keys[number], width) >> top)
        else:
            moved = left + _scaled(_hash(right, keys[number], width), count, width)
            left = minimum(moved, moved - count)  # modulo: the smaller of the two, since one of them wrapped below zero
    return (left << shift) | right


def _hash(values: Integers, key: Integers, width: _Width) -> Integers:
    first, second = map(width.word, width.multipliers)
    values = values ^ key  # a new array, so that NumPy may work in place from here on; JAX makes new ones anyway
    values *= first
    values ^= values >> width.word(width.bits // 2 - 1)
    values *= second
    values ^= values >> width.word(width.bits // 2 - 3)
    return values


def _scaled(hashed: Integers, count: Any, width: _Width) -> Integers:
    """Return ``hashed * count / 2**bits``, in [0, count): the upper half of a product, from two half-width products."""
    half = width.word(width.bits // 2)
    low = hashed & width.word((1 << (width.bits // 2)) - 1)
    low *= count
    low >>= half
    hashed = hashed >> half
    hashed *= count
    hashed += low
    hashed >>= half
    return hashed


def _threefry_key(key_data: Integers) -> tuple[Integers, Integers]:
    """Return the key that Threefry takes, uint32 (1,) twice; of longer key data, two numbers at a time are folded in."""
    key = (key_data[0:1], key_data[1:2])
    for more in range(2, key_data.shape[0], 2):
        key = _threefry(*key, key_data[more : more + 1], key_data[more + 1 : more + 2])
    return key


def _threefry(key0: Integers, key1: Integers, x0: Integers, x1: Integers) -> tuple[Integers, Integers]:
    """Return a block of Threefry-2x32 with 20 rounds; uint32 arrays broadcast (NumPy scalars would warn of overflow)."""
    schedule = (key0, key1, key0 ^ key1 ^ np.uint32(0x1BD11BDA))
    x0, x1 = x0 + key0, x1 + key1
    for block in range(5):
        for distance in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
            x0 = x0 + x1
            x1 = ((x1 << np.uint32(distance)) | (x1 >> np.uint32(32 - distance))) ^ x0
        x0 = x0 + schedule[(block + 1) % 3]
        x1 = x1 + schedule[(block + 2) % 3] + np.uint32(block + 1)
    return x0, x1


def _widened(keys: np.ndarray) -> np.ndarray:
    """Return the 64-bit round keys, uint64 (ROUNDS,), made of the 2 * ROUNDS 32-bit keys of an epoch."""
    return keys[:ROUNDS].astype(np.uint64) << np.uint64(32) | keys[ROUNDS:].astype(np.uint64)
