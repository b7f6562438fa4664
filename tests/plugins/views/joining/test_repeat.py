"""Records several times an epoch: copies that are augmented differently, mixtures that keep their proportions."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, Ragged
from datarax_core.errors import ConfigError
from datarax_core.pipeline import build_source
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import BucketView, BucketViewConfig, RepeatView, RepeatViewConfig

MakeSource = Callable[..., DataSourceModule]


class Noise(nnx.Module):
    stochastic = True

    def __call__(self, batch: Any, keys: jax.Array) -> Any:
        return {"id": batch["id"], "noise": jax.vmap(lambda key: jax.random.bits(key, (), np.uint32))(keys)}


class HostNoise:
    """A stage that is called with NumPy columns."""

    on_host = True
    stochastic = True

    def __call__(self, batch: Any, generators: Any) -> Any:
        noise = [generator.integers(2**32) for generator in generators]
        return {"id": batch["id"], "noise": np.array(noise, np.uint32)}


@pytest.mark.parametrize("order", ["passes", "adjacent"])
@pytest.mark.parametrize("noise", [Noise, HostNoise])
def test_each_copy_is_augmented_differently(make_source: MakeSource, order: Any, noise: Any) -> None:
    view = RepeatView(RepeatViewConfig(times=3, order=order), make_source(8, shuffle=True))
    pipeline = Pipeline(source=view, stages=[noise()], batch_size=5, num_epochs=2, rngs=nnx.Rngs(0))
    batches = list(pipeline)
    ids = np.concatenate([np.asarray(batch["id"]) for batch in batches])
    drawn = np.concatenate([np.asarray(batch["noise"]) for batch in batches])
    assert Counter(ids[:24].tolist()) == dict.fromkeys(range(8), 3)
    assert len(np.unique(drawn)) == len(drawn) == 48
    adjacent = (ids.reshape(-1, 3) == ids.reshape(-1, 3)[:, :1]).all()
    assert adjacent == (order == "adjacent")


@pytest.mark.parametrize("order", ["passes", "adjacent"])
def test_a_mixture_keeps_its_proportions(make_source: MakeSource, order: Any) -> None:
    config = MixDataSourcesConfig(num_sources=2, weights=(0.75, 0.25))
    mix = MixDataSourcesNode(config, [make_source(8, shuffle=True), make_source(8, 100)], rngs=nnx.Rngs(0))
    view = RepeatView(RepeatViewConfig(times=2, order=order), mix)
    assert (len(view), view.num_records, view.serves_each_once) == (32, 16, False)
    ids = np.array([int(element["id"]) for element in view])
    assert (ids >= 100).sum() == 8
    part = view.where(id=(0, 103))
    assert isinstance(part, RepeatView)
    assert (np.array([int(element["id"]) for element in part]) >= 100).sum() == len(part) // 4


def test_parts_are_repeated_as_the_whole(make_source: MakeSource) -> None:
    view = RepeatView(RepeatViewConfig(times=2), make_source(10))
    assert [int(element["id"]) for element in view[3:5]] == [3, 4, 3, 4]
    assert [int(element["id"]) for element in view[[7, 2]]] == [7, 2, 7, 2]
    assert sorted(int(element["id"]) for part in view.split(a=0.3, b=0.7).values() for element in part) == sorted(
        [*range(10)] * 2
    )
    assert view[4]["id"] == 4


def test_repeated_once_it_is_the_source(make_source: MakeSource) -> None:
    source = make_source(10, shuffle=True)
    view = RepeatView(RepeatViewConfig(times=1), source)
    assert view.serves_each_once
    assert [int(element["id"]) for element in view] == [int(element["id"]) for element in source]


@pytest.mark.parametrize("shuffle", [True, False])
def test_its_order_is_that_of_its_source(make_source: MakeSource, *, shuffle: bool) -> None:
    view = RepeatView(RepeatViewConfig(times=2), make_source(shuffle=shuffle))
    view.set_random_order(shuffle)
    with pytest.raises(ValueError, match="repeats records in the order of its source; make it of a source that is"):
        view.set_random_order(not shuffle)


def test_its_description_says_how_often(make_source: MakeSource) -> None:
    view = RepeatView(RepeatViewConfig(times=4, order="adjacent"), make_source(10))
    assert view.describe_view() == "serves each of 10 records 4 times an epoch, copies adjacent"
    assert "40 records an epoch" in view.plan()


def test_a_config(tmp_path: Path) -> None:
    np.save(tmp_path / "id.npy", np.arange(5))
    source = build_source({"type": "repeat", "times": 2, "source": {"type": "memory", "path": str(tmp_path)}})
    assert [int(element["id"]) for element in source] == [*range(5), *range(5)]
    with pytest.raises(ConfigError, match="repeat in a config needs its 'source'"):
        build_source({"type": "repeat", "times": 2})
    with pytest.raises(ConfigError, match="times"):
        build_source({"type": "repeat", "times": 0, "source": {"type": "memory", "path": str(tmp_path)}})


def test_batches_of_one_bucket_are_repeated_as_they_are() -> None:
    def bucketed() -> BucketView:
        tokens = Ragged.from_list([np.arange(1 + number * 7 % 20, dtype=np.int32) for number in range(50)])
        source = MemorySource(
            MemorySourceConfig(shuffle=True), {"id": np.arange(50), "tokens": tokens}, rngs=nnx.Rngs(0)
        )
        return BucketView(BucketViewConfig(field="tokens", bounds=(8, 20), batch_size=6), source)

    def ids(pipeline: Pipeline) -> list[list[int]]:
        return [np.asarray(batch["id"]).tolist() for batch in pipeline]

    view = RepeatView(RepeatViewConfig(times=2), bucketed())
    assert ids(Pipeline(source=view)) == ids(Pipeline(source=bucketed(), num_epochs=2))
    with pytest.raises(ValueError, match="decides its batches itself, which adjacent copies would not fit into"):
        RepeatView(RepeatViewConfig(times=2, order="adjacent"), bucketed())


def test_what_cannot_be_repeated(make_source: MakeSource, stream: DataSourceModule) -> None:
    with pytest.raises(NotImplementedError, match=r"is a stream, .*; Pipeline\(num_epochs=...\) serves its epochs"):
        RepeatView(RepeatViewConfig(times=2), stream)
    view = RepeatView(RepeatViewConfig(times=2), make_source(4))
    with pytest.raises(NotImplementedError, match="serves records several times an epoch; see record_indices_at"):
        view.order()

    class Reordered(type(make_source(4))):  # type: ignore[misc]  # a class of the test
        reorders_by_epoch = True

    source = make_source(4)
    source.__class__ = Reordered
    with pytest.raises(ValueError, match=r"has other records at its indices in each epoch, .* give order='passes'"):
        RepeatView(RepeatViewConfig(times=2, order="adjacent"), source)
