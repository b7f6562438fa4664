"""Packed rows of other views, of mixtures, of sources that differ from epoch to epoch, and of files."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_arrayrecord import write
from datarax_core import Pipeline, StructuralConfig
from datarax_core.records import Ragged
from datarax_core.sources import DataSourceModule
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesNode
from datarax_views import PackView, PackViewConfig

LENGTHS = np.arange(50) * 7 % 23


def documents(first: int = 0, **options: Any) -> MemorySource:
    """Return documents, each of one token, its number, over and over."""
    tokens = Ragged.from_list([np.full(n, first + d, np.int32) for d, n in enumerate(LENGTHS)], dtype=np.int32)
    return MemorySource(MemorySourceConfig(**options), {"tokens": tokens}, rngs=nnx.Rngs(0))


def packed(source: DataSourceModule, **options: Any) -> PackView:
    return PackView(PackViewConfig(**{"length": 24, "field": "tokens", **options}), source)


def counts(view: DataSourceModule) -> list[int]:
    """Return how often each token stands in all rows."""
    batch = view.fetch(np.arange(view.num_records))
    return np.bincount(batch["tokens"][batch["segment_ids"] > 0], minlength=len(LENGTHS)).tolist()


def test_parts_of_a_source_are_packed_each_by_itself() -> None:
    parts = documents(shuffle=True).split(train=0.8, test=0.2)
    found = np.array([counts(packed(part)) for part in parts.values()])
    assert np.array_equal(found.sum(axis=0), LENGTHS)
    assert not (found[0] * found[1]).any()
    even = documents()[np.arange(0, 50, 2)]
    assert counts(packed(even)) == [n if d % 2 == 0 else 0 for d, n in enumerate(LENGTHS.tolist())]


def test_packed_rows_are_split_cut_and_chosen_as_any_records() -> None:
    view = packed(documents())
    parts = view.split(train=0.5, test=0.5)
    assert np.array_equal(np.sum([counts(part) for part in parts.values()], axis=0), LENGTHS)
    np.testing.assert_equal(view[3:5].fetch(np.array([1])), view.fetch(np.array([4])))


def test_a_source_on_the_device_is_packed_by_the_host() -> None:
    source = documents(placement="device")
    assert source.access == "device"
    view = packed(source)
    assert view.access == "host"
    assert counts(view) == LENGTHS.tolist()


class Growing(DataSourceModule):
    """Documents whose tokens are those of the epoch before plus one."""

    reorders = False

    def __len__(self) -> int:
        return len(LENGTHS)

    def element_spec(self) -> Any:
        return {"tokens": jax.ShapeDtypeStruct((None,), np.int32)}  # type: ignore[arg-type]  # of varying length

    @property
    def varies_by_epoch(self) -> bool:
        return True

    @property
    def reorders_by_epoch(self) -> bool:
        return self.reorders

    def record_lengths(self, field: str) -> np.ndarray:  # noqa: ARG002 - there is one
        return LENGTHS

    def get_records(self, indices: np.ndarray) -> Any:
        epochs, records = np.divmod(indices, len(self))
        return {
            "tokens": Ragged.from_list([np.full(LENGTHS[r], e, np.int32) for e, r in zip(epochs, records, strict=True)])
        }


class Reordering(Growing):
    """Documents that are others in each epoch."""

    reorders = True


@pytest.mark.parametrize("repack", [True, False])
def test_documents_that_differ_by_epoch_are_read_for_the_epoch_of_the_row(*, repack: bool) -> None:
    view = packed(Growing(StructuralConfig()), repack=repack)
    pipeline = Pipeline(source=view, stages=[], batch_size=7, rngs=nnx.Rngs(0), num_epochs=3)
    batches = [jax.tree.map(np.asarray, batch) for batch in pipeline]
    tokens = np.concatenate([batch["tokens"][batch["segment_ids"] > 0] for batch in batches])
    assert np.array_equal(tokens, np.repeat(np.arange(3), LENGTHS.sum()))


def test_documents_that_are_others_in_each_epoch_are_packed_as_in_the_first() -> None:
    with pytest.warns(UserWarning, match="serves the random records of its first epoch in all epochs"):
        view = packed(Reordering(StructuralConfig()))
    assert not view.varies_by_epoch


def test_a_mixture_in_a_config_is_packed_child_by_child(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tokens = np.repeat(np.arange(50), LENGTHS)
        np.savez(tmp_path / f"{name}.npz", tokens=tokens, **{"tokens.offsets": np.cumsum([0, *LENGTHS])})
    (tmp_path / "train.yaml").write_text(
        """
        seed: 3
        batch_size: 8
        num_epochs: null
        source:
          type: pack
          length: 24
          repack: true
          source:
            type: mix
            weights: [0.75, 0.25]
            sources: [{type: memory, path: a.npz, shuffle: true}, {type: memory, path: b.npz, shuffle: true}]
        """
    )
    first, second = (Pipeline.from_config(tmp_path / "train.yaml") for _ in range(2))
    assert isinstance(first.source, MixDataSourcesNode)
    rows = [jax.tree.map(np.asarray, batch) for _, batch in zip(range(20), first, strict=False)]
    loop = iter(second)
    for _ in range(9):
        next(loop)
    state = second.get_state()
    third = Pipeline.from_config(tmp_path / "train.yaml")
    third.set_state(state)
    rest = [jax.tree.map(np.asarray, batch) for _, batch in zip(range(11), third, strict=False)]
    np.testing.assert_equal(rest, rows[9:])


def test_lengths_beside_files_are_all_that_a_plan_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "docs.array_record", documents())
    config = {
        "type": "pack",
        "length": 24,
        "source": {"type": "arrayrecord", "paths": str(tmp_path / "docs.array_record")},
    }
    pipeline = Pipeline.from_config({"batch_size": 4, "source": config, "seed": 0})
    source = pipeline.source
    with monkeypatch.context() as patch:
        patch.setattr(type(source.parent), "get_records", None)
        assert len(source) == len(packed(documents()))
    assert counts(source) == LENGTHS.tolist()
