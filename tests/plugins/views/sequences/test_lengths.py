"""Lengths of records: known without reading, given by a field, or read once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx

from datarax_core.config import StructuralConfig
from datarax_core.errors import SpecError
from datarax_core.records import Ragged
from datarax_core.sources import SourceView
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views.sequences.lengths import lengths_of

LENGTHS = [3, 0, 5, 1, 7]
TOKENS = [np.arange(n, dtype=np.int32) for n in LENGTHS]


def source_of(**more: object) -> MemorySource:
    columns = {"tokens": Ragged.from_list(TOKENS), "label": np.arange(5), "image": np.zeros((5, 4, 2)), **more}
    return MemorySource(MemorySourceConfig(), columns)


def test_a_source_in_memory_knows_the_lengths_of_its_records() -> None:
    source = source_of()
    assert source.record_lengths("tokens").tolist() == LENGTHS
    assert source.record_lengths("image").tolist() == [4] * 5
    assert source.record_lengths("label") is None


def test_lengths_of_records_of_which_several_axes_vary_are_those_of_the_first() -> None:
    images = Ragged.from_list([np.zeros((h, w, 3), np.uint8) for h, w in [(2, 5), (4, 1), (3, 3)]])
    source = MemorySource(MemorySourceConfig(), {"image": images})
    assert source.record_lengths("image").tolist() == [2, 4, 3]


def test_parts_and_mixtures_know_the_lengths_of_their_records() -> None:
    source = source_of()
    assert source[1:4].record_lengths("tokens").tolist() == LENGTHS[1:4]
    assert source[::-2].record_lengths("image").tolist() == [4] * 3
    part = source.split(half=0.6)["half"]
    assert part.record_lengths("tokens").tolist() == [len(part[i]["tokens"]) for i in range(3)]
    other = MemorySource(MemorySourceConfig(), {"words": Ragged.from_list(TOKENS[::-1]), "label": np.arange(5)})
    config = MixDataSourcesConfig(
        num_sources=2, weights=(0.5, 0.5), select={"a": ["tokens", "label"]}, rename={"b": {"words": "tokens"}}
    )
    mixture = MixDataSourcesNode(config, {"a": source, "b": other}, rngs=nnx.Rngs(0))
    assert mixture.record_lengths("tokens").tolist() == LENGTHS + LENGTHS[::-1]
    assert [len(mixture[i]["tokens"]) for i in range(10)] == LENGTHS + LENGTHS[::-1]


def test_views_know_the_lengths_of_the_records_that_they_pass_on() -> None:
    class Backwards(SourceView):
        renumbers = True

        def __len__(self) -> int:
            return 2 * len(self.parent)

        def parent_indices(self, indices: np.ndarray) -> np.ndarray:
            return (len(self.parent) - 1 - indices) % len(self.parent)

    view = Backwards(StructuralConfig(), source_of())
    assert view.record_lengths("tokens").tolist() == LENGTHS[::-1] * 2
    assert view.record_lengths("image").tolist() == [4] * 10
    assert SourceView(StructuralConfig(), source_of()).record_lengths("tokens").tolist() == LENGTHS


def test_a_field_that_a_mixture_fills_in_has_the_length_of_its_value() -> None:
    other = MemorySource(MemorySourceConfig(), {"label": np.arange(2), "image": np.zeros((2, 4, 2))})
    config = MixDataSourcesConfig(num_sources=2, weights=(0.5, 0.5), fill={"tokens": [1, 2]})
    mixture = MixDataSourcesNode(config, [source_of(), other], rngs=nnx.Rngs(0))
    assert mixture.record_lengths("tokens").tolist() == [*LENGTHS, 2, 2]


def test_a_class_that_makes_its_records_of_the_columns_does_not_show_the_columns() -> None:
    class Shortened(MemorySource):
        def get_records(self, indices: object) -> object:
            batch = super().get_records(indices)
            return {**batch, "tokens": batch["tokens"].truncate(2)}

    source = Shortened(MemorySourceConfig(), {"tokens": Ragged.from_list(TOKENS)})
    assert source.record_lengths("tokens") is None


def test_lengths_of_text_are_characters_and_of_bytes_bytes() -> None:
    texts, data = ["año", "", "日本語で", "x", "five!"], [b"ab", b"", b"\x00\x00", b"abcd", b"a"]
    source = source_of(text=texts, data=data)
    assert lengths_of(source, "text").tolist() == [3, 0, 4, 1, 5]
    assert lengths_of(source, "data").tolist() == [2, 0, 2, 4, 1]


def test_a_field_may_hold_the_lengths() -> None:
    source = source_of(n=np.asarray([9, 8, 7, 6, 5], np.uint8), bad=np.asarray([1, 2, -3, 4, 5]))
    assert lengths_of(source, "tokens", length_field="n").tolist() == [9, 8, 7, 6, 5]
    assert lengths_of(source, "tokens", length_field="n").dtype == np.int64
    with pytest.raises(SpecError, match=r"length_field='bad' of record 2 of MemorySource is -3; a length is 0 or more"):
        lengths_of(source, "tokens", length_field="bad")
    with pytest.raises(
        SpecError, match=r"length_field='image' of MemorySource is float64\[4, 2\]; lengths are one whole"
    ):
        lengths_of(source, "tokens", length_field="image")


def test_a_field_without_a_length_or_of_no_source_is_refused() -> None:
    with pytest.raises(SpecError, match=r"'label' of MemorySource is one value a record, which has no length"):
        lengths_of(source_of(), "label")
    with pytest.raises(SpecError, match=r"no field 'token'; did you mean 'tokens'\? \(fields: image, label, tokens\)"):
        lengths_of(source_of(), "token")


def test_lengths_that_nothing_knows_are_read_once() -> None:
    class Shortened(SourceView):
        reads = 0

        def get_records(self, indices: np.ndarray) -> Any:
            self.reads += len(indices)
            return {"tokens": self.read_parent(indices)["tokens"].truncate(2)}

        def element_spec(self) -> Any:
            return {"tokens": super().element_spec()["tokens"]}

    view = Shortened(StructuralConfig(), source_of())
    assert view.record_lengths("tokens") is None
    assert lengths_of(view, "tokens").tolist() == [2, 0, 2, 1, 2]
    assert view.reads == 5


def test_a_slice_has_the_columns_of_its_parent_without_a_copy() -> None:
    source = source_of()
    part = source[1:4]
    assert np.shares_memory(part.whole_column("label"), source.whole_column("label"))
    assert [record.tolist() for record in part.whole_column("tokens")] == [record.tolist() for record in TOKENS[1:4]]
    assert part[1:].whole_column("label").tolist() == [2, 3]
    assert source[::-2].whole_column("label").tolist() == [4, 2, 0]
    assert [record.tolist() for record in source[::-2].whole_column("tokens")] == [t.tolist() for t in TOKENS[::-2]]
    half = source.split(half=0.6)["half"]
    assert half.whole_column("label").tolist() == [half[i]["label"] for i in range(3)]


def test_text_of_files_is_no_whole_column_since_it_is_checked_as_it_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", text=np.array(["ab", "", "abc"]), label=np.arange(3))
    source = MemorySource(MemorySourceConfig(path=str(tmp_path / "x.npz")))
    assert source.whole_column("text") is None
    assert source.whole_column("label").tolist() == [0, 1, 2]
    assert source.whole_column("nix") is None
    assert lengths_of(source, "text").tolist() == [2, 0, 3]
