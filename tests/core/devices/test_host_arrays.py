"""Host sources that hold arrays as plain attributes, under transformations of flax and jax."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pipeline_copies import COPIES

from datarax_core import DataSourceModule, Pipeline, StructuralConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode

SPEC = {"x": jax.ShapeDtypeStruct((), np.float32)}


class Records(DataSourceModule):
    """As a third party writes it."""

    def __init__(self, start: float = 0.0, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        super().__init__(StructuralConfig(), rngs=rngs, name=name)
        self.v = np.arange(start, start + 20, dtype=np.float32)
        self.more = nnx.data({"w": np.ones(20, np.float32), "n": 3})

    def __len__(self) -> int:
        return 20

    def element_spec(self) -> dict[str, Any]:
        return SPEC

    def get_records(self, indices: Any) -> dict[str, Any]:
        return {"x": np.asarray(self.v)[indices] * self.more["w"][indices]}


class Batches(DataSourceModule):
    """Of the other contract, which cannot be traced."""

    def __init__(self) -> None:
        super().__init__(StructuralConfig())
        self.v = np.arange(20, dtype=np.float32)

    def __len__(self) -> int:
        return 20

    def element_spec(self) -> dict[str, Any]:
        return SPEC

    def get_batch_at(self, start: int, size: int, key: Any = None) -> dict[str, Any]:  # noqa: ARG002 - of the contract
        return {"x": np.stack([self.v[int(start) + i] for i in range(size)])}


def mixture() -> DataSourceModule:
    return MixDataSourcesNode(MixDataSourcesConfig(num_sources=2), [Records(), Records(100)], rngs=nnx.Rngs(0))


MAKE: dict[str, Callable[[], DataSourceModule]] = {
    "get_records": Records,
    "get_batch_at": Batches,
    "subset": lambda: Records()[2:],
    "split": lambda: Records().split(train=0.75)["train"],
    "mixture": mixture,
}


def step(pipeline: Pipeline) -> Any:
    return pipeline.step()["x"]


@pytest.fixture(params=MAKE.values(), ids=MAKE)
def make(request: pytest.FixtureRequest) -> Callable[[], Pipeline]:
    return lambda: Pipeline(source=request.param(), batch_size=4)


def test_a_step_under_nnx_jit_reads_them(make: Callable[[], Pipeline]) -> None:
    expected, pipeline, program = make(), make(), nnx.jit(step)
    for _ in range(6):
        assert program(pipeline).tolist() == step(expected).tolist()
    assert step(pipeline).tolist() == step(expected).tolist()
    assert [batch["x"].tolist() for batch in pipeline] == [batch["x"].tolist() for batch in expected]


@pytest.mark.parametrize("kind", ["get_records", "mixture"])
def test_the_body_of_nnx_scan_reads_them(kind: str) -> None:
    expected, pipeline = (Pipeline(source=MAKE[kind](), batch_size=4) for _ in range(2))

    @nnx.jit
    def run(pipeline: Pipeline) -> Any:
        def body(pipeline: Pipeline, _: Any) -> tuple[Pipeline, Any]:
            return pipeline, pipeline.step()["x"]

        return nnx.scan(body, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))(pipeline, jnp.arange(3))[1]

    assert run(pipeline).tolist() == [step(expected).tolist() for _ in range(3)]


@pytest.mark.parametrize("kind", ["get_records", "split"])
def test_a_source_under_jit_reads_them(kind: str) -> None:
    source, expected = MAKE[kind](), MAKE[kind]()
    key = source.order_key_data()
    batch = expected.get_batch_at(3, 4, key)["x"].tolist()
    assert jax.jit(lambda source, start: source.get_batch_at(start, 4, key)["x"])(source, 3).tolist() == batch
    assert jax.jit(lambda start: source.get_batch_at(start, 4, key)["x"])(3).tolist() == batch
    assert nnx.jit(lambda source: source.get_batch(4)["x"])(source).tolist() == expected.get_batch(4)["x"].tolist()


def test_nothing_of_them_is_copied_or_kept() -> None:
    program = nnx.jit(step)

    def trial() -> list[weakref.ref[Any]]:
        source = Records()
        pipeline = Pipeline(source=source, batch_size=4)
        assert not [leaf for leaf in jax.tree.leaves(nnx.state(pipeline)) if leaf.shape == (20,)]
        jax.block_until_ready([program(pipeline), program(pipeline)])
        assert isinstance(source.v, np.ndarray)
        return [weakref.ref(part) for part in (source, source.v, pipeline)]

    refs = [ref for _ in range(3) for ref in trial()]
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []


def test_an_array_that_is_replaced_or_written_to_is_read_anew() -> None:
    pipeline, program = Pipeline(source=Records(), batch_size=4), nnx.jit(step)
    assert program(pipeline).tolist() == [0, 1, 2, 3]
    pipeline.source.v[:] = 7
    assert program(pipeline).tolist() == [7, 7, 7, 7]
    pipeline.source.v = np.arange(100, 120, dtype=np.float32)
    assert program(pipeline).tolist() == [108, 109, 110, 111]


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_reads_them(copied: Callable[[Pipeline], Pipeline]) -> None:
    program = nnx.jit(step)
    original = Pipeline(source=Records(), batch_size=4)
    assert program(original).tolist() == [0, 1, 2, 3]
    pipeline = copied(original)
    del original
    gc.collect()
    assert program(pipeline).tolist() == [4, 5, 6, 7]
    assert step(pipeline).tolist() == [8, 9, 10, 11]
    assert program(copied(pipeline)).tolist() == [12, 13, 14, 15]
