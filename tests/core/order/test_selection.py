"""Parts of a source as arithmetic: ranges of the shuffle that a seed selects."""

import jax
import numpy as np
import pytest

from datarax_core.order import Selection


@pytest.mark.parametrize("population", [10, 1000])
def test_rows_of_a_shuffle_that_pass_its_end_go_on_from_its_start(population: int) -> None:
    start, stop = population // 5, population // 2
    inside = Selection(population, range(start, stop), seed=3)
    outside = Selection(population, range(stop, population + start), seed=3)
    numbers = np.arange(population - (stop - start))
    rows = outside.parent_indices(numbers)
    assert sorted([*rows, *inside.parent_indices(np.arange(stop - start))]) == list(range(population))
    mapping, arguments = outside.traced("it")
    np.testing.assert_array_equal(jax.jit(mapping)(arguments, numbers), rows)
    assert str(outside) == f"[{stop}:{population}] and [0:{start}] of {population} shuffled with seed 3"


def test_rows_up_to_the_last_record_are_mapped_in_32_bits() -> None:
    population = 2**31 - 1
    outside = Selection(population, range(2**31 - 20, 2**31 + 100), seed=0)
    numbers = np.arange(120)
    mapping, arguments = outside.traced("it")
    np.testing.assert_array_equal(jax.jit(mapping)(arguments, numbers), outside.parent_indices(numbers))
