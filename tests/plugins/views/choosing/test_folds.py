"""Folds and stratified splits: disjoint, complete, and with their share of every class."""

from collections.abc import Callable

import numpy as np
import pytest
from flax import nnx

from datarax_core import DataSourceModule, Pipeline
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import SubsetView, SubsetViewConfig, k_fold, stratified_split

MakeSource = Callable[..., DataSourceModule]


def column(source: DataSourceModule, field: str) -> np.ndarray:
    """Return a field of all records of a source, by record index."""
    return np.asarray(source.fetch_on_host(np.arange(source.num_records))[field])


def served(source: DataSourceModule, field: str) -> np.ndarray:
    return np.concatenate([np.asarray(batch[field]) for batch in Pipeline(source=source, batch_size=16)])


@pytest.mark.parametrize("stratify", [None, "label", "name"])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_folds_are_disjoint_and_complete(make_source: MakeSource, k: int, stratify: str | None) -> None:
    pairs = k_fold(make_source(43), k, seed=2, stratify=stratify)
    held_out = [column(fold, "id") for _, fold in pairs]
    assert sorted(np.concatenate(held_out)) == list(range(43))
    assert np.ptp([len(fold) for fold in held_out]) <= 1
    for (others, _), fold in zip(pairs, held_out, strict=True):
        assert sorted([*column(others, "id"), *fold]) == list(range(43))
    if stratify:
        values = [column(fold, stratify) for _, fold in pairs]
        counts = np.array([[np.sum(fold == value) for value in np.unique(values[0])] for fold in values])
        assert np.ptp(counts, axis=0).max() <= 1


def test_pipelines_serve_folds(make_source: MakeSource) -> None:
    for number, pair in enumerate(k_fold(make_source(43), 2)):
        assert sorted(np.concatenate([served(part, "id") for part in pair])) == list(range(43)), number


def test_folds_depend_on_the_seed_alone(make_source: MakeSource) -> None:
    one, other = k_fold(make_source(40), 4, seed=1), k_fold(make_source(40, shuffle=True, seed=5), 4, seed=1)
    for (_, fold), (_, same) in zip(one, other, strict=True):
        assert set(column(fold, "id")) == set(column(same, "id"))
    assert set(column(one[0][1], "id")) != set(column(k_fold(make_source(40), 4, seed=2)[0][1], "id"))


@pytest.mark.parametrize("stratify", [None, "label"])
def test_configs_name_the_same_folds(make_source: MakeSource, stratify: str | None) -> None:
    source = make_source(40)
    for number, (others, fold) in enumerate(k_fold(source, 3, seed=4, stratify=stratify)):
        for keep, expected in (("train", others), ("test", fold)):
            chosen = {"of": 3, "held_out": number, "keep": keep}
            view = SubsetView(SubsetViewConfig(fold=chosen, seed=4, stratify=stratify), source)
            np.testing.assert_array_equal(column(view, "id"), column(expected, "id"))
            view.set_state(expected.get_state())


def test_parts_hold_their_share_of_every_class(make_source: MakeSource) -> None:
    source = make_source(200)
    parts = stratified_split(source, "label", train=0.7, validation=0.2, seed=3)
    assert {name: len(part) for name, part in parts.items()} == {"train": 140, "validation": 40}
    counts = {name: np.bincount(column(part, "label"), minlength=8)[[1, 3, 7]] for name, part in parts.items()}
    assert {name: of.tolist() for name, of in counts.items()} == {"train": [70, 42, 28], "validation": [20, 12, 8]}
    assert not set(column(parts["train"], "id")) & set(column(parts["validation"], "id"))
    config = SubsetViewConfig(split={"train": 0.7, "validation": 0.2}, part="train", seed=3, stratify="label")
    np.testing.assert_array_equal(column(SubsetView(config, source), "id"), column(parts["train"], "id"))


def test_numbers_of_records_are_shares_too(make_source: MakeSource) -> None:
    parts = stratified_split(make_source(40), "label", few=7, more=20)
    assert [len(part) for part in parts.values()] == [7, 20]
    assert set(column(parts["few"], "label")) == {1, 3, 7}


def test_folds_of_a_mixture_are_mixtures_of_the_folds(make_source: MakeSource) -> None:
    config = MixDataSourcesConfig(num_sources=2, weights=(0.75, 0.25), names=("a", "b"))
    children = [make_source(40), make_source(20)]
    mix = MixDataSourcesNode(config, children, rngs=nnx.Rngs(0))
    for number, (others, fold) in enumerate(k_fold(mix, 4, stratify="label")):
        assert isinstance(others, MixDataSourcesNode)
        assert others.weights == fold.weights == mix.weights  # type: ignore[attr-defined]
        for child, of_mix in zip(children, fold.children, strict=True):  # type: ignore[attr-defined]
            own = k_fold(child, 4, stratify="label")[number][1]
            np.testing.assert_array_equal(column(of_mix, "id"), column(own, "id"))


def test_what_cannot_be_folded_is_refused(source: DataSourceModule, stream: DataSourceModule) -> None:
    with pytest.raises(TypeError, match=r"k is an integer, not 2\.5"):
        k_fold(source, 2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k is at least 2, not 1"):
        k_fold(source, 1)
    with pytest.raises(ValueError, match="has 40 records, which cannot be 41 folds"):
        k_fold(source, 41)
    with pytest.raises(ValueError, match="seed is less than 2"):
        k_fold(source, 2, seed=2**32)
    with pytest.raises(NotImplementedError, match="stream"):
        k_fold(stream, 2)
    with pytest.raises(TypeError, match=r"parts are made of a source, not of \[1, 2, 3\]; make a source of it"):
        k_fold([1, 2, 3], 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a split of MemorySource 'rows' needs a share for each part"):
        stratified_split(source, "label")
    with pytest.raises(TypeError, match=r"not both: train=0\.5, test=3"):
        stratified_split(source, "label", train=0.5, test=3)
