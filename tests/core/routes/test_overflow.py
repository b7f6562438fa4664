"""Positions past 32 bits in compiled code: the error of datarax, where core runs the program or `original_errors` is used."""

from collections.abc import Callable
from typing import Any

import jax
import pytest
from flax import nnx

from datarax_core import Pipeline
from datarax_core.devices import original_errors

MakeSource = Callable[..., Any]
LATE = 2**31 - 9
MESSAGE = (
    r"^position 2147483647 is the last that 32-bit positions under jit can address; iterate from Python, or reset\(\)$"
)


class Second(nnx.Module):
    """A stage that draws from another source."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __call__(self, batch: Any) -> Any:
        return {**batch, "second": self.source.get_batch(4)["id"]}


def late(make_source: MakeSource, placement: str) -> Any:
    source = make_source(20, placement=placement)
    source.cursor.move(LATE)
    return source


@pytest.mark.parametrize("placement", ["device", "host"])
def test_scan_raises_it(make_source: MakeSource, placement: str) -> None:
    pipeline = Pipeline(source=make_source(20), batch_size=4)
    with pytest.raises(OverflowError, match=MESSAGE):
        pipeline.scan(lambda source, _: source.get_batch(4)["id"], modules=(late(make_source, placement),), length=4)


@pytest.mark.parametrize("placement", ["device", "host"])
def test_a_loop_raises_it(make_source: MakeSource, placement: str) -> None:
    pipeline = Pipeline(source=make_source(20), batch_size=4, stages=[Second(late(make_source, placement))])
    with pytest.raises(OverflowError, match=MESSAGE):
        list(pipeline)


def test_a_program_of_the_users_own_raises_it(make_source: MakeSource) -> None:
    pipeline, step = Pipeline(source=make_source(20), batch_size=4), nnx.jit(lambda pipeline: pipeline.step()["id"])
    pipeline.cursor.move(LATE)
    assert [step(pipeline).tolist() for _ in range(2)] == [[19, 0, 1, 2], [3, 4, 5, 6]]
    with pytest.raises(OverflowError, match=MESSAGE), original_errors():
        jax.block_until_ready(step(pipeline))
