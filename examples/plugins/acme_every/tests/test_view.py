"""Which records are kept, on the host and in compiled code, and what is refused."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from acme_every import AcmeEvery, AcmeEveryConfig
from datarax_core import EagerSourceBase, SourceConfig, SourceRegistry, build_source, columns_of


class NumbersConfig(SourceConfig):
    type: str = "numbers"
    count: int = 10


class Numbers(EagerSourceBase):
    """Numbers from 0 in memory, which compiled code gathers."""

    config_class = NumbersConfig

    def __init__(self, config: NumbersConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> None:
        columns = columns_of({"number": np.arange(config.count, dtype=np.int32)}, "Numbers")
        super().__init__(config, columns, rngs=rngs, name=name)


def view(count: int, **fields: Any) -> AcmeEvery:
    return AcmeEvery(AcmeEveryConfig(**fields), Numbers(NumbersConfig(count=count)))


def kept_by(view: AcmeEvery) -> list[int]:
    return view.parent_indices(np.arange(len(view))).tolist()


@pytest.mark.parametrize("every", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [7, 20, 21, 22])
def test_these_and_the_others_are_all_records(count: int, every: int) -> None:
    for first in range(every):
        these = kept_by(view(count, every=every, first=first))
        assert these == list(range(first, count, every))
        if every > 1:
            others = kept_by(view(count, every=every, first=first, keep="others"))
            assert others == sorted(set(range(count)) - set(these))


def test_compiled_code_gathers_the_records_of_a_source_in_memory() -> None:
    kept = view(20, every=3, first=2, keep="others")
    assert kept.access == "device"
    compiled = jax.jit(lambda start: kept.get_batch_at(start, 6)["number"])
    assert compiled(2).tolist() == [3, 4, 6, 7, 9, 10]


def test_a_config_names_the_source() -> None:
    registry = SourceRegistry()
    registry.register(AcmeEvery)
    registry.register(Numbers)
    nested = {"type": "acme_every", "every": 2, "source": {"type": "numbers"}}
    source = build_source({"type": "acme_every", "every": 2, "first": 1, "source": nested}, registry)
    assert [int(record["number"]) for record in source] == [2, 6]
    assert "keeps 2 of 5 records" in source.plan()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"every": 3, "first": 3}, "first=3 is not one of the first 3 records; give 0 to 2"),
        ({"every": 1, "keep": "others"}, "every=1 leaves no others; give 2 or more"),
        ({"every": 0}, r"every\n.* greater than or equal to 1"),
    ],
)
def test_values_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AcmeEveryConfig(**fields)


def test_a_view_of_no_record_is_refused() -> None:
    with pytest.raises(ValueError, match="keeps no record: there are 2, and 'every', 'first' and 'keep' leave out all"):
        view(2, every=5, first=3)
