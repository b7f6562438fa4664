"""Views over a source whose records differ from epoch to epoch: each serving is read as it is in its own epoch."""

import warnings
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Pipeline, StructuralConfig
from datarax_views import (
    ConcatView,
    ConcatViewConfig,
    RepeatView,
    RepeatViewConfig,
    SampleView,
    SampleViewConfig,
    ZipView,
    ZipViewConfig,
)


class Varying(DataSourceModule):
    """Records with their number and the epoch that they are read for."""

    varies_by_epoch = True

    def __init__(self, length: int, *, reorders: bool = False, **options: Any) -> None:
        super().__init__(StructuralConfig(stochastic=True, stream_name="shuffle"), rngs=nnx.Rngs(0), **options)
        self.length, self.reorders = length, reorders

    @property
    def reorders_by_epoch(self) -> bool:
        return self.reorders

    def __len__(self) -> int:
        return self.length

    def element_spec(self) -> Any:
        return {name: jax.ShapeDtypeStruct((), np.int32) for name in ("id", "epoch")}

    def get_records(self, indices: Any) -> Any:
        epochs, ids = np.divmod(indices, self.length)
        return {"id": ids.astype(np.int32), "epoch": epochs.astype(np.int32)}


def views() -> dict[str, DataSourceModule]:
    return {
        "adjacent": RepeatView(RepeatViewConfig(times=2, order="adjacent"), Varying(6)),
        "passes": RepeatView(RepeatViewConfig(times=2), Varying(6, reorders=True)),
        "in turn": ConcatView(ConcatViewConfig(), Varying(6), Varying(3)),
        "shuffled": ConcatView(ConcatViewConfig(shuffle=True), Varying(6), Varying(3), rngs=nnx.Rngs(0)),
        "drawn": SampleView(SampleViewConfig(draws=9), Varying(6), rngs=nnx.Rngs(0)),
        "zipped": ZipView(ZipViewConfig(prefix=("", "other ")), Varying(9), Varying(9)),
    }


@pytest.mark.parametrize("name", views())
def test_a_record_is_read_in_the_epoch_that_serves_it(name: str) -> None:
    view = views()[name]
    assert view.varies_by_epoch
    expected = view.epochs_at(0, 36).reshape(4, 9)
    looped = [batch for batch, _ in zip(Pipeline(source=view, batch_size=9, num_epochs=None), range(4), strict=False)]
    assert np.array_equal([batch["epoch"] for batch in looped], expected)
    scanned = Pipeline(source=views()[name], batch_size=9, num_epochs=None).scan(lambda batch: batch, length=4)
    assert np.array_equal(scanned["epoch"], expected)
    assert np.array_equal(scanned["id"], [batch["id"] for batch in looped])


def test_sources_stay_paired_though_one_orders_its_records_anew() -> None:
    with pytest.warns(
        UserWarning, match="source 'a' of .* has other records at its indices in each epoch, by which records"
    ):
        view = ZipView(ZipViewConfig(), {"a": Varying(9, reorders=True), "b": Varying(9)})
    batch = view.fetch(view.indices_to_read(18, np.arange(9)))
    assert batch["a"]["epoch"].tolist() == [0] * 9
    assert batch["b"]["epoch"].tolist() == [2] * 9


def test_draws_of_records_that_change_places_are_those_of_the_first_epoch() -> None:
    with pytest.warns(UserWarning, match="serves the random records of its first epoch in all epochs"):
        view = SampleView(SampleViewConfig(), Varying(6, reorders=True), rngs=nnx.Rngs(0))
    assert not view.varies_by_epoch
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert view.get_batch(20)["epoch"].tolist() == [0] * 20
