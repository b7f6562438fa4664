"""Text and bytes are one kind of field, whatever their width and dtype, and none takes the room of the longest."""

import json
import tracemalloc
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, SpecError, StateError, StructuralConfig, columns_of
from datarax_core.records import check_batch, describe, differences, spec_of
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode

WORDS = ["a", "bc", "d", "efgh"]
FORMS: list[Any] = [
    WORDS,
    np.array(WORDS),
    np.array(WORDS, "<U9"),
    np.array(WORDS, object),
    np.array(WORDS, np.dtypes.StringDType()),
]


def memory(texts: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(), {"t": texts, "x": np.arange(4)})


@pytest.mark.parametrize("make", [memory, lambda texts: MemorySource(MemorySourceConfig(), [{"t": t} for t in texts])])
@pytest.mark.parametrize("long", ["x" * 100_000, b"x" * 400_000])
def test_one_long_value_costs_no_room_for_the_others(make: Any, long: Any) -> None:
    texts = [long[:1]] * 3_999 + [long]
    if make is memory:
        make = lambda texts: MemorySource(MemorySourceConfig(), {"t": texts})  # noqa: E731 - without the other field
    tracemalloc.start()
    try:
        source = make(texts)
        assert [source[0], source[3_999]] == [{"t": long[:1]}, {"t": long}]
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("one", FORMS)
@pytest.mark.parametrize("other", FORMS)
def test_texts_of_every_form_mix_and_share_states_and_specs(one: Any, other: Any) -> None:
    sources = [memory(one), memory(other)]
    assert differences(sources[0].element_spec(), sources[1].element_spec()) == []
    sources[1].set_state(json.loads(json.dumps(sources[0].get_state())))
    mix = MixDataSourcesNode(MixDataSourcesConfig(num_sources=2, weights=(1, 1)), sources, rngs=nnx.Rngs(0))
    served = [text for batch in Pipeline(source=mix, batch_size=3) for text in batch["t"].tolist()]
    assert sorted(served) == sorted(WORDS * 2)


def test_arrays_of_text_stay_as_they_are() -> None:
    assert memory(np.array(WORDS, "<U9")).get_batch(2)["t"].dtype == "<U9"
    assert memory(np.array([b"ab"] * 4)).get_batch(2)["t"].dtype == "S2"


def test_a_state_of_an_earlier_release_that_named_a_width_fits_the_same_texts() -> None:
    source = memory(WORDS)
    state = source.get_state()
    fingerprint = {n: v for n, v in state["fingerprint"].items() if n not in ("records", "class", "config")}
    of_old = {**fingerprint, "element_spec": {"t": "<U4[]", "x": "int64[]"}, "sample": "0a1b2c3d"}
    source.set_state({**state, "fingerprint": of_old})
    for changed in ({"t": "|S4[]", "x": "int64[]"}, {"t": "<U4[2]", "x": "int64[]"}, {"t": "<U4[]"}):
        with pytest.raises(StateError, match="element_spec was"):
            memory(FORMS[1]).set_state({**state, "fingerprint": {**of_old, "element_spec": changed}})


def test_a_state_of_other_texts_is_refused() -> None:
    with pytest.raises(StateError, match="records was"):
        memory(["a", "bc", "d", "other"]).set_state(memory(FORMS[1]).get_state())


def test_text_and_bytes_are_two_kinds() -> None:
    sources = [memory(np.array(WORDS)), memory(np.array(WORDS, "S"))]
    with pytest.raises(SpecError, match=r"field 't' is bytes\[\] where text\[\] is expected in child '1'"):
        MixDataSourcesNode(MixDataSourcesConfig(num_sources=2, weights=(1, 1)), sources, rngs=nnx.Rngs(0))
    with pytest.raises(SpecError, match="field 't' of element 1 of a test is bytes where element 0 is"):
        columns_of([{"t": np.array("a")}, {"t": np.array(b"a")}], "a test")


def test_a_batch_may_hold_text_of_any_width_but_nothing_else() -> None:
    spec = spec_of({"t": np.array(WORDS)})
    assert describe(spec) == {"t": "text[]"}
    for form in FORMS[1:]:
        check_batch({"t": form}, spec, 4, origin="the source")
    with pytest.raises(SpecError, match=r"the source gave .*: field 't' holds 3 where text is expected"):
        check_batch({"t": np.array(["a", 3], object)}, spec, 2, origin="the source")
    with pytest.raises(SpecError, match="field 't' holds b'a' where text is expected"):
        check_batch({"t": np.array(["a", b"a"], object)}, spec, 2, origin="the source")


def test_a_default_for_text_may_be_longer_than_the_texts() -> None:
    sources = [memory(np.array(WORDS)), MemorySource(MemorySourceConfig(), {"x": np.arange(4)})]
    config = MixDataSourcesConfig(num_sources=2, weights=(1, 1), fill={"t": "not given"})
    mix = MixDataSourcesNode(config, sources, rngs=nnx.Rngs(0))
    assert sorted(mix.get_batch(8)["t"].tolist()) == sorted([*WORDS, *["not given"] * 4])


class Widths(DataSourceModule):
    """A source whose batches are as wide as their longest text."""

    def __len__(self) -> int:
        return 4

    def element_spec(self) -> Any:
        return {"t": jax.ShapeDtypeStruct((), np.dtype("<U1"))}

    def get_records(self, indices: Any) -> Any:
        return {"t": np.array([WORDS[index] for index in np.asarray(indices)])}


@pytest.mark.parametrize(("cacheable", "workers"), [(True, 0), (False, 1)])
def test_longer_texts_of_later_batches_are_not_cut_off(workers: int, *, cacheable: bool) -> None:
    source = Widths(StructuralConfig(cacheable=cacheable))
    pipeline = Pipeline(source=source, batch_size=1, workers=workers, num_epochs=2)
    assert [str(text) for batch in pipeline for text in batch["t"]] == WORDS * 2
