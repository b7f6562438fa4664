"""One source that has parts, such as groups by a value, in place of a list of children."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, build_source
from datarax_core.errors import ConfigError
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import GroupsView, GroupsViewConfig


class Thirds(MemorySource):
    """A source whose parts are its thirds."""

    def parts(self) -> Mapping[str, DataSourceModule]:
        third = len(self) // 3
        return {str(number): self[number * third : (number + 1) * third] for number in range(3)}


def thirds() -> Thirds:
    return Thirds(MemorySourceConfig(shuffle=True), {"x": np.arange(30)}, rngs=nnx.Rngs(0))


WHOLE = {"type": "memory", "path": "x.npz"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sources": WHOLE}, {"0": 4, "1": 4, "2": 4}),
        ({"num_sources": 3}, {"0": 4, "1": 4, "2": 4}),
        ({"sources": WHOLE, "weights": [1, 2, 3]}, {"0": 2, "1": 4, "2": 6}),
        ({"sources": WHOLE, "weights": {"2": 0.5, "0": 0.25, "1": 0.25}}, {"0": 3, "1": 3, "2": 6}),
        ({"sources": WHOLE, "weights": {2: 1, 0: 1, 1: 0}, "at_end": {0: 9, 1: 1, 2: 1}}, {"0": 6, "1": 0, "2": 6}),
        ({"sources": WHOLE, "weights": [{"from": 0, "weights": {0: 1, 1: 0, 2: 0}}]}, {"0": 12, "1": 0, "2": 0}),
        ({"sources": WHOLE, "temperature": 1.0}, {"0": 4, "1": 4, "2": 4}),
    ],
)
def test_parts_are_the_children_under_their_names(fields: dict[str, Any], expected: dict[str, int]) -> None:
    made = MixDataSourcesNode(MixDataSourcesConfig(**fields), thirds(), rngs=nnx.Rngs(0))
    assert made.counts_at(12) == expected
    assert made.access == "device"
    served = np.asarray(made.get_batch(12)["x"])
    for number in range(3):
        assert ((served >= 10 * number) & (served < 10 * number + 10)).sum() == expected[str(number)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sources": WHOLE, "weights": [1, 2]}, "weights has 2 entries for 3 children"),
        ({"sources": WHOLE, "at_end": ["drop"]}, "at_end has 1 entries for 3 children"),
        ({"num_sources": 2}, "num_sources=2 differs from the 3 sources 0, 1, 2"),
        (
            {"sources": WHOLE, "weights": {0: 1, 1: 1, 7: 1}},
            "differ from the names in the config in '2'; give each part a",
        ),
    ],
)
def test_a_config_for_other_parts_is_refused(fields: dict[str, Any], message: str) -> None:
    config = MixDataSourcesConfig(**fields)
    with pytest.raises(ValueError, match=message):
        MixDataSourcesNode(config, thirds(), rngs=nnx.Rngs(0))


def test_a_single_source_without_parts_is_refused(tmp_path: Any) -> None:
    np.savez(tmp_path / "x.npz", x=np.arange(3))
    with pytest.raises(ConfigError, match="one of type 'memory', which has no parts; give a list of sources"):
        build_source({"type": "mix", "sources": {"type": "memory", "path": str(tmp_path / "x.npz")}})
    source = MemorySource(MemorySourceConfig(), {"x": np.arange(3)})
    with pytest.raises(TypeError, match="mixes several sources, and was given one, MemorySource, which has no parts"):
        MixDataSourcesNode(MixDataSourcesConfig(num_sources=1), source, rngs=nnx.Rngs(0))  # type: ignore[arg-type]


@pytest.mark.parametrize("placement", ["device", "host"])
def test_groups_of_one_source_make_balanced_batches(tmp_path: Any, placement: str) -> None:
    labels = np.repeat(np.arange(4), [70, 20, 7, 3])
    np.savez(tmp_path / "x.npz", x=np.arange(100), label=labels, flag=labels == 3)
    whole = {"type": "memory", "path": str(tmp_path / "x.npz"), "shuffle": True, "placement": placement}
    config = {"type": "mix", "sources": {"type": "groups", "by": "label", "source": whole}}
    balanced = build_source(config, seed=0)
    assert balanced.access == placement
    for batch in Pipeline(source=balanced, batch_size=8, drop_last=True, num_epochs=2):
        assert np.bincount(np.asarray(batch["label"])).tolist() == [2, 2, 2, 2]
        assert (labels[np.asarray(batch["x"])] == np.asarray(batch["label"])).all()
    flags = {**config, "sources": {**config["sources"], "by": "flag"}, "weights": {False: 3, True: 1}}
    served = Pipeline(source=build_source(flags, seed=0), batch_size=20)
    assert all(np.asarray(batch["flag"]).sum() == 5 for batch in served)
    source = MemorySource(MemorySourceConfig(), {"x": np.arange(100), "label": labels})
    groups = GroupsView(GroupsViewConfig(by="label"), source)
    made = MixDataSourcesNode(MixDataSourcesConfig(num_sources=4), groups, rngs=nnx.Rngs(0))
    assert made.names == ("0", "1", "2", "3")
    assert "keeps 7 of 100 records" in made.plan()
