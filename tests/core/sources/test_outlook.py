"""What a source or a pipeline says it will serve; and the parts of the protocol that a mixture sets apart."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from datarax_core import Pipeline, columns_of
from datarax_core._cli.app import app
from datarax_core.order.order import epochs_of
from datarax_core.order.permutation import fold_in
from datarax_core.order.reader import chunk_size_of


def test_a_plan_of_any_source(make_source: Any, make_host_source: Any, streams: Any) -> None:
    source = make_source(100, shuffle=True, name="digits")
    assert source.plan() == "EagerSourceBase 'digits': 100 records an epoch, shuffled; 1 epoch, 100 records in all"
    assert source.plan(3).endswith("3 epochs, 300 records in all")
    assert make_host_source(10).plan(None) == "HostRecords: 10 records an epoch, in sequence; without end"
    assert (
        make_source(9, shard=(1, 2))
        .plan(1)
        .startswith("EagerSourceBase: 4 records an epoch, in sequence, shard 1 of 2")
    )
    assert streams.Endless().plan() == "Endless: a stream without a length; it is read until it ends"
    assert streams.Sized(7).plan() == "Sized: 7 records an epoch, as they come; 1 epoch, 7 records in all"


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({}, "4 batches a run (batches of 32, 1 epoch)"),
        ({"num_epochs": 2, "drop_last": True}, "6 batches a run (batches of 32, 2 epochs, drop_last)"),
        ({"num_epochs": None}, "batches without end (batches of 32, endless)"),
    ],
)
def test_a_plan_of_a_pipeline(make_source: Any, options: dict[str, Any], first: str) -> None:
    assert Pipeline(source=make_source(100), batch_size=32, **options).plan().splitlines()[0] == first
    one = Pipeline(source=make_source(20), batch_size=32)
    assert one.plan().splitlines()[0] == "1 batch a run (batches of 32, 1 epoch)"


def test_drx_plan_is_one_message_where_it_cannot(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plan", str(tmp_path / "none.yaml")])
    assert result.exit_code == 1
    assert "none.yaml" in result.output
    assert "Traceback" not in result.output


def test_epochs_of_positions_of_any_size() -> None:
    assert epochs_of(8, 5, 5).tolist() == [1, 1, 2, 2, 2]
    assert epochs_of(2**62 + 2**60 - 1, 3, 2**60).tolist() == [4, 5, 5]
    assert jax.jit(lambda start: epochs_of(start, 5, 5))(8).tolist() == [1, 1, 2, 2, 2]


def test_a_source_names_the_epoch_of_a_record(make_source: Any) -> None:
    source = make_source(10)
    assert source.num_records == 10
    assert source.epochs_at(8, 4).tolist() == [0, 0, 1, 1]
    assert source.stats_at(5) == {}


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_folding_numbers_in_is_what_jax_does(impl: str) -> None:
    key, numbers = jax.random.key(7, impl=impl), np.asarray([0, 1, 77, 2**31, 2**32 - 1], np.uint32)
    words = np.asarray(jax.random.key_data(key))
    folded = fold_in(words, numbers)
    assert jax.jit(fold_in)(words, numbers).tolist() == folded.tolist()
    if impl == "threefry2x32":
        theirs = [jax.random.key_data(jax.random.fold_in(key, number)).tolist() for number in numbers]
        assert folded.T.tolist() == theirs
        twice = fold_in(folded, np.full(5, 3, np.uint32))
        again = [jax.random.fold_in(jax.random.fold_in(key, number), 3) for number in numbers]
        assert twice.T.tolist() == [jax.random.key_data(one).tolist() for one in again]


def test_numbers_past_32_bits_are_others() -> None:
    words, number = np.asarray([1, 2], np.uint32), np.asarray([5], np.uint32)
    assert fold_in(words, number, np.asarray([1], np.uint32)).tolist() != fold_in(words, number).tolist()


@pytest.mark.parametrize(
    ("epoch", "batch", "held"),
    [
        (10, 4, 160),
        (1000, 4, 16_000),
        (50_000, 256, 12_544),
        (16_385, 256, 8_448),
        (10**9, 256, 16_384),
        (50_000, 20_000, 20_000),
        (10_000, 256, 10_240),
        (3, 256, 256),
    ],
)
def test_a_stretch_of_an_order_is_an_even_part_of_an_epoch(epoch: int, batch: int, held: int) -> None:
    assert chunk_size_of(epoch, batch, at_most=1 << 14) == held


def test_columns_are_put_together_when_they_are_placed() -> None:
    class Made:
        dtype, shape, nbytes, asked = np.dtype(np.int32), (4,), 16, 0

        def __len__(self) -> int:
            return 4

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            self.asked += 1
            return np.arange(4, dtype=np.int32)

    columns = columns_of({"x": np.zeros(4, np.int32)}, "the test's data")
    columns.columns["x"] = made = Made()
    for _ in range(2):
        assert columns.placed()[1][0].tolist() == [0, 1, 2, 3]
    assert made.asked == 1
