"""Sources with more records than 32 bits count, and their parts: every route serves the right records, or refuses by name."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, StructuralConfig

HUGE = 2**33


class Wide(DataSourceModule):
    """Each record is its own index, in two halves."""

    def __init__(self, length: int = HUGE) -> None:
        super().__init__(StructuralConfig())
        self.length = length

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {name: jax.ShapeDtypeStruct((), np.int32) for name in ("low", "high")}

    def get_records(self, indices: Any) -> dict[str, Any]:
        return {"low": (indices & 0xFFFF).astype(np.int32), "high": (indices >> 16).astype(np.int32)}


class WideTraceable(Wide):
    traceable = True

    def get_records(self, indices: Any) -> dict[str, Any]:
        return super().get_records(indices if isinstance(indices, np.ndarray) else jnp.asarray(indices))


def indices_of(batch: Any) -> list[int]:
    return (np.asarray(batch["high"], np.int64) << 16 | np.asarray(batch["low"])).tolist()  # type: ignore[no-any-return]


PARTS = {
    "[::8]": lambda source: source[::8],
    "[-20:]": lambda source: source[-20:],
    "[::-8]": lambda source: source[::-8],
    "split": lambda source: source.split(train=0.1, test=0.01)["test"],
    "table": lambda source: source[np.append(np.arange(HUGE - 40, HUGE, 3), 7)],
    "of parts": lambda source: source.split(train=0.1, test=0.3)["test"][::4][5:],
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_parts_of_a_host_source_serve_the_same_records_by_every_route(part: Any) -> None:
    def pipeline(position: int) -> Pipeline:
        made = Pipeline(source=part(Wide()), batch_size=4)
        state = made.get_state()
        made.set_state(state | {"position": position})
        return made

    source = part(Wide())
    for position in (0, len(source) // 4 * 3 // 4 * 4):
        expected = indices_of(source.get_batch_at(position, 4))
        assert indices_of(pipeline(position).step()) == expected
        assert indices_of(next(iter(pipeline(position)))) == expected
        assert indices_of(nnx.jit(lambda p: p.step())(pipeline(position))) == expected
        scanned = pipeline(position).scan(lambda batch: batch, length=1)
        assert indices_of(jax.tree.map(lambda leaf: leaf[0], scanned)) == expected


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_parts_that_compiled_code_cannot_address_are_refused(part: Any) -> None:
    pipeline = Pipeline(source=part(WideTraceable()), batch_size=4)
    message = r"^Subset .*WideTraceable names records past the 2147483647 that 32-bit .* only the host can read them"
    for serve in (pipeline.step, lambda: next(iter(pipeline)), lambda: nnx.jit(lambda p: p.step())(pipeline)):
        with pytest.raises(ValueError, match=message):
            serve()


def test_parts_within_32_bits_are_gathered_on_the_device() -> None:
    pipeline = Pipeline(source=WideTraceable()[2**30 : 2**30 + 20 : 2], batch_size=4)
    assert pipeline.explain().splitlines()[1].startswith("device route")
    expected = [2**30 + 2 * row for row in range(4)]
    assert indices_of(pipeline.step()) == expected
    pipeline.reset()
    assert indices_of(nnx.jit(lambda p: p.step())(pipeline)) == expected


def test_a_traceable_source_of_so_many_records_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^WideTraceable is traceable and has 8589934592 records, more than .* traceable = F"
    ):
        Pipeline(source=WideTraceable(), batch_size=4)
    assert indices_of(Pipeline(source=Wide(), batch_size=2).step()) == [0, 1]
