"""No visible structure in a shuffle. Keys are fixed, so a verdict never changes from one run to the next.

Every bound is the quantile of the statistic's own distribution over uniformly random permutations, at a probability of
``ALPHA`` for the whole array that one assertion looks at (Bonferroni). Exact means and variances are those of
permutation statistics: Hoeffding 1951 for ``sum a[p] b[order[p]]``, Wald and Wolfowitz 1943 for serial correlation.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from datarax_core.order.order import Order
from datarax_core.order.permutation import SORTED_UP_TO, round_keys, shuffle, sorted_order

ALPHA = 1e-4
LENGTHS = {256: 1024, 257: 1024, 1000: 512, 50_000: 32, 65_536: 32, 65_537: 32, 2**20 + 1: 4}  # length: keys pooled


@functools.partial(jax.jit, static_argnums=0)
def _records(length: int, key_data: jax.Array, epochs: jax.Array, positions: jax.Array) -> jax.Array:
    """Return record indices (keys, positions): row i is part of epoch ``epochs[i]`` of key ``key_data[i]``."""
    keys = jax.vmap(lambda data, epoch: round_keys(data, epoch[None], jnp.zeros(1, np.uint32))[0])(key_data, epochs)
    if length <= SORTED_UP_TO:
        return sorted_order(length, keys)[:, positions].astype(np.int32)
    return shuffle(positions[None], length, keys.T[:, :, None]).astype(np.int32)


def records(
    length: int, key_data: np.ndarray, epochs: int | np.ndarray = 0, positions: np.ndarray | None = None
) -> np.ndarray:
    positions = np.arange(length) if positions is None else positions
    counters = np.broadcast_to(np.asarray(epochs, np.uint32), key_data.shape[:1])
    return np.asarray(_records(length, key_data, counters, positions.astype(np.uint32)))


def seeds(count: int, first: int = 0) -> np.ndarray:
    """Return the data (count, 2) of ``jax.random.key(first)``, ``jax.random.key(first + 1)``, ...: the least different keys."""
    return np.stack([np.zeros(count, np.uint32), np.arange(first, first + count, dtype=np.uint32)], axis=1)


def scattered(count: int) -> np.ndarray:
    return np.random.default_rng(20_251).integers(0, 2**32, (count, 2), dtype=np.uint32)


@functools.cache
def many_orders(length: int) -> np.ndarray:
    return records(length, seeds(20_000 if length < 1000 else 10_000))


@functools.cache
def pooled_orders(length: int) -> np.ndarray:
    return records(length, seeds(LENGTHS[length], first=1_000_000))


def check_z(z: np.ndarray) -> None:
    """Assert that scores (keys, ...) are near normal, of mean 0, variance 1: each, their sum and sum of squares over keys."""
    keys = len(z)
    assert np.abs(z).max() < stats.norm.isf(ALPHA / 2 / z.size)
    assert np.abs(z.sum(0)).max() / keys**0.5 < stats.norm.isf(ALPHA / 2 / z[0].size)
    low, high = stats.chi2.ppf([ALPHA / 2 / z[0].size, 1 - ALPHA / 2 / z[0].size], keys)
    squares = (z**2).sum(0)
    assert low < squares.min()
    assert squares.max() < high


def check_counts(counts: np.ndarray, expected: float | np.ndarray, *, tests: int = 1) -> None:
    """Assert by Pearson's chi-square that counts of a fixed sum, 10 or more expected, are neither too uneven nor too even."""
    assert np.min(expected) >= 10
    tail = stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), counts.size - 1)
    assert ALPHA / 2 / tests < tail < 1 - ALPHA / 2 / tests


def bits_of(values: np.ndarray, length: int) -> np.ndarray:
    """Return the bits of values, float32 (..., bits, n), without bits that fewer than one value in 8 sets, or leaves.

    Those are too rare for a normal score.
    """
    kept = [bit for bit in range((length - 1).bit_length()) if 1 / 8 <= (np.arange(length) >> bit & 1).mean() <= 7 / 8]
    return (values[..., None, :] >> np.array(kept)[:, None] & 1).astype(np.float32)


def bit_scores(first: np.ndarray, second: np.ndarray, length: int) -> np.ndarray:
    """Return how often a bit of each are set together, (keys, bits, bits); float32 counts it exactly."""
    scores = []
    for one, other in zip(np.broadcast_to(first, second.shape), second, strict=True):
        a, b = bits_of(one, length), bits_of(other, length)
        share_a, share_b = a.mean(1, dtype=float)[:, None], b.mean(1, dtype=float)
        spread = length * np.sqrt(share_a * (1 - share_a) * share_b * (1 - share_b) / (length - 1))
        scores.append(((a @ b.T).astype(float) - length * share_a * share_b) / spread)
    return np.array(scores)


def value_scores(first: np.ndarray, second: np.ndarray, length: int) -> np.ndarray:
    """Return the correlation of two orders, (keys, 1), whose variance over permutations is 1 / (n - 1)."""
    half = (length - 1) / 2
    total = length * (length**2 - 1) / 12  # the sum of squares of 0 .. n - 1 about their mean
    return ((first - half) * (second - half)).sum(-1, keepdims=True) / total * (length - 1) ** 0.5


def lag_scores(orders: np.ndarray, length: int) -> np.ndarray:
    """Return the circular serial correlation (keys, lags + 1) at lags 1, 2, 4, ...; last, that of the differences at lag 1.

    All lags but n / 2 have the moments of lag 1. Differences d give ``sum d[p] d[p+1] = 2 C1 - S2 - C2``.
    """
    centred = np.arange(length) - (length - 1) / 2
    s2, s4 = (centred**2).sum(), (centred**4).sum()
    three, four = (length - 1) * (length - 2), (length - 1) * (length - 2) * (length - 3)
    mean = -s2 / (length - 1)
    apart = (3 * s2**2 - 6 * s4) / four  # n E[x_a x_b x_c x_d], all different
    touching = (2 * s4 - s2**2) / three  # n E[x_a x_a x_b x_c]
    same = (s2**2 - s4) / (length - 1)  # n E[x_a x_a x_b x_b]
    variance = same + 2 * touching + (length - 3) * apart - mean**2
    shared = 4 * touching + (length - 4) * apart - mean**2  # covariance of C1 and C2
    lags = [2**k for k in range((length - 1).bit_length()) if 2 ** (k + 1) < length]
    values = orders - (length - 1) / 2
    sums = np.stack([(values * np.roll(values, -lag, axis=1)).sum(1) for lag in lags], axis=1)
    differences = (2 * sums[:, 0] - sums[:, 1] - mean) / (5 * variance - 4 * shared) ** 0.5
    return np.column_stack([(sums - mean) / variance**0.5, differences])


@pytest.mark.parametrize("length", LENGTHS)
def test_no_bit_of_a_position_shows_in_a_bit_of_its_record(length: int) -> None:
    check_z(bit_scores(np.arange(length), pooled_orders(length), length))


@pytest.mark.parametrize("length", LENGTHS)
def test_neighbours_and_their_differences_are_not_serially_correlated(length: int) -> None:
    check_z(lag_scores(pooled_orders(length), length))


@pytest.mark.parametrize("length", LENGTHS)
def test_the_epochs_of_one_key_are_independent(length: int) -> None:
    orders, keys = pooled_orders(length), LENGTHS[length]
    following = records(length, seeds(keys, first=1_000_000), 1)
    check_z(value_scores(orders, following, length))
    check_z(bit_scores(orders, following, length))


@pytest.mark.parametrize("length", [256, 257, 1000, 50_000])
def test_keys_that_differ_in_one_bit_give_independent_orders(length: int) -> None:
    base = scattered(1)
    flips = np.zeros((64, 2), np.uint32)
    flips[np.arange(64), np.arange(64) // 32] = np.uint32(1) << np.arange(64, dtype=np.uint32) % 32
    orders, flipped = records(length, base), records(length, base ^ flips)
    check_z(value_scores(orders, flipped, length))
    check_z(bit_scores(orders, flipped, length))


@pytest.mark.parametrize("length", [2, 3, 4, 5])
@pytest.mark.parametrize("over", ["keys", "epochs"])
def test_every_small_permutation_is_about_equally_likely(length: int, over: str) -> None:
    count = 200 * math.factorial(5)
    key_data, epochs = (seeds(count), 0) if over == "keys" else (np.repeat(seeds(1), count, axis=0), np.arange(count))
    codes = records(length, key_data, epochs) @ length ** np.arange(length)
    permutations, counts = np.unique(codes, return_counts=True)
    assert len(permutations) == math.factorial(length)
    check_counts(counts, count / len(permutations))


@pytest.mark.parametrize("apart", ["one epoch", "one seed", "one bit of either number"])
def test_every_pair_of_small_permutations_is_about_equally_likely(apart: str) -> None:
    count = 40 * math.factorial(4) ** 2
    key_data = scattered(count)
    bits = np.uint32(1) << np.arange(count, dtype=np.uint32) % 32
    sides = np.arange(count) // 32 % 2
    other = key_data.copy()
    if apart == "one bit of either number":
        other[np.arange(count), sides] ^= bits
    elif apart == "one seed":
        other[:, 1] += np.uint32(1)
    pairs = np.hstack([records(4, key_data), records(4, other, int(apart == "one epoch"))])
    combinations, counts = np.unique(pairs @ 4 ** np.arange(8), return_counts=True)
    assert len(combinations) == math.factorial(4) ** 2
    check_counts(counts, count / len(combinations))


@pytest.mark.parametrize("length", [256, 257, 1000])
def test_every_record_is_equally_likely_at_every_position(length: int) -> None:
    orders = many_orders(length)
    cells = np.bincount((np.arange(length) * length + orders).ravel(), minlength=length**2).reshape(length, length)
    expected = len(orders) / length
    check_counts(cells[0], expected)  # the record at position 0
    check_counts(cells[:, 0], expected)  # the position of record 0
    # All cells: fixed sums of rows and columns leave (n - 1)**2 degrees of freedom, after scaling by (n - 1) / n.
    statistic = ((cells - expected) ** 2 / expected).sum() * (length - 1) / length
    assert ALPHA / 2 < stats.chi2.sf(statistic, (length - 1) ** 2) < 1 - ALPHA / 2


@pytest.mark.parametrize(("length", "distance"), [(32, 1), (32, 16), *itertools.product((257, 272), (1, 16, 17))])
def test_every_pair_of_records_is_equally_likely_at_two_positions(length: int, distance: int) -> None:
    # At 257 and 272 the network's right half is 16 wide: positions 16 apart share it, 1 apart they share the left half.
    pairs_of_records = length * (length - 1)
    count = 20 * pairs_of_records
    key_data = np.broadcast_to(seeds(1), (count, 2))
    pairs = records(length, key_data, np.arange(count), np.array([0, distance])).astype(np.int64)
    counts = np.bincount(pairs @ [length, 1], minlength=length**2).reshape(length, length)
    assert not counts.diagonal().any()
    check_counts(counts[~np.eye(length, dtype=bool)], count / pairs_of_records)


@pytest.mark.parametrize("length", [1000, 4096, 50_000, 65_536])
def test_differences_of_records_a_fixed_distance_apart_are_uniform(length: int) -> None:
    # Each of the n - 1 differences modulo n occurs n / (n - 1) times a key, near Poisson, so chi-square with n - 2.
    orders = records(length, seeds(16))
    distances = [1, 2 ** ((length - 1).bit_length() // 2), length // 3]
    for distance in distances:
        differences = (np.roll(orders, -distance, axis=1) - orders) % length
        counts = np.bincount(differences.ravel(), minlength=length)
        assert counts[0] == 0
        check_counts(counts[1:], orders.size / (length - 1), tests=len(distances))


@pytest.mark.parametrize("length", [256, 257, 1000])
def test_fixed_points_are_as_many_as_chance_leaves(length: int) -> None:
    # Poisson(1) but for 2**n / n!; the same for positions that move by any fixed distance.
    orders = many_orders(length)
    for distance in (0, 1, 16):
        moved = ((orders - np.arange(length)) % length == distance).sum(1)
        expected = stats.poisson.pmf(np.arange(5), 1)
        counts = np.bincount(np.minimum(moved, 5), minlength=6)
        check_counts(counts, len(orders) * np.append(expected, 1 - expected.sum()), tests=3)


@pytest.mark.parametrize("length", [100, 256, 257, 1000])
def test_inversions_and_descents_are_as_many_as_chance_leaves(length: int) -> None:
    orders = records(length, seeds(400))
    inversions = sum((orders[:, at : at + 1] > orders[:, at + 1 :]).sum(1) for at in range(length - 1))
    spread = (length * (length - 1) * (2 * length + 5) / 72) ** 0.5
    check_z((inversions[:, None] - length * (length - 1) / 4) / spread)
    descents = (np.diff(orders, axis=1) < 0).sum(1, keepdims=True)  # Eulerian numbers: variance (n + 1) / 12
    check_z((descents - (length - 1) / 2) / ((length + 1) / 12) ** 0.5)


@pytest.mark.parametrize("length", LENGTHS)
def test_no_run_of_rising_or_falling_records_is_too_long(length: int) -> None:
    # A run of m starts at a given place with probability 1 / m!; the union bound over places, keys and directions.
    orders = pooled_orders(length)
    longest = next(m for m in itertools.count(2) if 2 * orders.size / math.factorial(m) < ALPHA)
    rising = np.diff(orders, axis=1) > 0
    for steps in (rising, ~rising):
        run = np.ones_like(steps[:, longest - 2 :])
        for at in range(longest - 1):
            run &= steps[:, at : steps.shape[1] - longest + 2 + at]
        assert not run.any()


@pytest.mark.parametrize("length", [2**31 - 1, 2**31, 2**40 + 1, 2**62 + 12_345, 2**63 - 1])
def test_records_of_large_orders_look_drawn_at_random(length: int) -> None:
    # 20,000 neighbouring positions of so many are as good as independent draws.
    size, keys = 20_000, 20
    rows = round_keys(seeds(1)[0], *np.stack([np.arange(keys), np.zeros(keys)]).astype(np.uint32))
    shares = np.stack([shuffle(np.arange(size), length, row) for row in rows]) / length
    for share in shares:
        check_counts(np.histogram(share, 1000, (0, 1))[0], size / 1000, tests=keys)
    centred = (shares - 0.5) * 12**0.5
    lags = np.stack(
        [(centred[:, lag:] * centred[:, :-lag]).sum(1) / (size - lag) ** 0.5 for lag in (1, 2, 16, 4096)], 1
    )
    check_z(lags)
    positions = np.arange(size) >> np.arange(14)[:, None] & 1
    signs = positions * 2 - 1
    check_z(np.einsum("bp,kp->kb", signs, centred) / size**0.5)


def test_a_seed_ahead_is_not_an_epoch_ahead() -> None:
    key_data = seeds(128)
    assert (key_data == [jax.random.key_data(jax.random.key(seed)) for seed in range(128)]).all()
    counters = np.stack([np.arange(128), np.zeros(128)]).astype(np.uint32)
    keys = np.concatenate([round_keys(data, *counters) for data in key_data])
    assert len(np.unique(keys, axis=0)) == 128 * 128
    for length in (100, 1000):
        orders = {
            Order(length).record_indices(epoch * length, length, key_data[seed]).tobytes()
            for seed, epoch in np.ndindex(40, 40)
        }
        assert len(orders) == 1600


def test_every_number_of_long_key_data_counts() -> None:
    key_data = np.array([1, 2, 3, 4], np.uint32)
    variants = [key_data, *(key_data + np.eye(4, dtype=np.uint32)), key_data[[2, 3, 0, 1]], key_data[:2], key_data[2:]]
    assert len({Order(1000).record_indices(0, 1000, variant).tobytes() for variant in variants}) == len(variants)
