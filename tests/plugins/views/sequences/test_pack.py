"""Views of packed rows: what rows hold, against the documents themselves; order, states, epochs, hosts and mixtures."""

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline
from datarax_core.records import Ragged
from datarax_core.sources import SourceView, from_sequence
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import PackView, PackViewConfig

LENGTHS = np.random.default_rng(0).integers(0, 31, 120)


def documents(lengths: np.ndarray = LENGTHS, *, shuffle: bool = False, **more: Any) -> MemorySource:
    """Return documents whose token t is 100 d + t in document d."""
    tokens = Ragged.from_list([100 * d + np.arange(n, dtype=np.int32) for d, n in enumerate(lengths)], dtype=np.int32)
    columns = {"tokens": tokens, "id": np.arange(len(lengths)), **more}
    return MemorySource(MemorySourceConfig(shuffle=shuffle, placement="host"), columns, rngs=nnx.Rngs(0))


def packed(source: Any = None, **options: Any) -> PackView:
    """Return a view of rows of 32 tokens."""
    return PackView(PackViewConfig(**{"length": 32, "field": "tokens", **options}), source or documents())


def segments(batch: Any) -> list[list[tuple[int, int]]]:
    """Return (document, token) of each token of each segment, checked against segment ids and positions."""
    found = []
    for tokens, ids, places in zip(batch["tokens"], batch["segment_ids"], batch["positions"], strict=True):
        assert ids.dtype == places.dtype == np.int32
        filled = int((ids > 0).sum())
        assert not np.concatenate([column[filled:] for column in (tokens, ids, places)]).any()
        assert np.array_equal(np.unique(ids[:filled]), np.arange(1, ids.max() + 1))
        assert (np.diff(ids[:filled]) >= 0).all()
        for number in range(1, ids.max() + 1):
            at = ids == number
            found.append([(int(t) // 100, int(t) % 100) for t in tokens[at]])
            assert places[at].tolist() == list(range(at.sum()))
    return found


def every_token(lengths: np.ndarray = LENGTHS) -> Counter[tuple[int, int]]:
    return Counter((d, t) for d, n in enumerate(lengths.tolist()) for t in range(n))


def all_rows(view: PackView, epoch: int = 0) -> Any:
    """Return all rows of an epoch, as a loop asks for them."""
    start = epoch * len(view)
    indices = view.record_indices_at(start, len(view), view.order_key_data())
    return view.fetch(view.indices_to_read(start, indices))


def test_rows_hold_whole_documents_each_once() -> None:
    view = packed()
    found = segments(all_rows(view))
    assert sorted(found) == [[(d, t) for t in range(n)] for d, n in enumerate(LENGTHS) if n]
    assert len(view) <= LENGTHS.sum() / 32 * 1.1


@pytest.mark.parametrize("options", [{}, {"block": 7}, {"max_segments": 2}, {"shuffle_documents": False}, {"seed": 5}])
def test_every_token_is_served_once_an_epoch_whatever_the_options(options: dict[str, Any]) -> None:
    found = segments(all_rows(packed(**options)))
    assert Counter(token for one in found for token in one) == every_token()


def test_rows_hold_at_most_so_many_documents() -> None:
    assert packed(max_segments=2).fetch(np.arange(5))["segment_ids"].max() <= 2
    assert "at most 2 segments a row" in packed(max_segments=2).describe_view()


def test_documents_that_are_too_long_are_split_in_pieces_whose_positions_begin_anew_or_go_on() -> None:
    lengths = np.array([70, 5, 32, 40])
    for positions_in in ("segment", "document"):
        batch = all_rows(packed(documents(lengths), too_long="split", positions_in=positions_in))
        own = batch["tokens"][batch["segment_ids"] > 0]
        assert Counter((int(t) // 100, int(t) % 100) for t in own) == every_token(lengths)
        places = batch["positions"][batch["segment_ids"] > 0]
        assert np.array_equal(places, own % 100 % (100 if positions_in == "document" else 32))


def test_documents_that_are_too_long_are_cut_or_left_out() -> None:
    lengths = np.array([70, 5, 32, 40])
    cut = segments(all_rows(packed(documents(lengths), too_long="truncate")))
    assert sorted(cut) == [[(d, t) for t in range(min(n, 32))] for d, n in enumerate(lengths)]
    left = segments(all_rows(packed(documents(lengths), too_long="drop")))
    assert sorted(map(len, left)) == [5, 32]


@pytest.mark.parametrize("positions_in", ["segment", "document"])
@pytest.mark.parametrize("last_row", ["pad", "drop"])
def test_concatenated_rows_are_slices_of_all_tokens(last_row: str, positions_in: str) -> None:
    view = packed(strategy="concat", last_row=last_row, positions_in=positions_in)
    stream = np.concatenate([100 * d + np.arange(n) for d, n in enumerate(LENGTHS)])
    batch = view.fetch(np.arange(len(view)))
    own = batch["tokens"][batch["segment_ids"] > 0]
    assert len(view) == (-(-len(stream) // 32) if last_row == "pad" else len(stream) // 32)
    assert np.array_equal(own, stream[: len(own)])
    if positions_in == "document":
        assert np.array_equal(batch["positions"][batch["segment_ids"] > 0], own % 100)
    else:
        segments(batch)
    assert (batch["segment_ids"][:, 0] == 1).all()


def test_concatenated_documents_are_shuffled_on_demand() -> None:
    found = segments(all_rows(packed(strategy="concat", shuffle_documents=True)))
    firsts = list(dict.fromkeys(one[0][0] for one in found))
    assert firsts != sorted(firsts)
    assert Counter(token for one in found for token in one) == every_token()


def test_several_fields_are_packed_alike_each_with_its_padding() -> None:
    masks = Ragged.from_list([np.arange(n) % 2 == 0 for n in LENGTHS], dtype=bool)
    vectors = Ragged.from_list([np.full((n, 2), d, np.float32) for d, n in enumerate(LENGTHS)], shape=(None, 2))
    source = documents(mask=masks, vector=vectors)
    view = packed(source, field=["tokens", "mask", "vector"], pad_value={"tokens": -1, "vector": 0.5})
    batch = view.fetch(np.arange(len(view)))
    real = batch["segment_ids"] > 0
    assert batch["vector"].shape == (len(view), 32, 2)
    assert np.array_equal(batch["mask"][real], batch["tokens"][real] % 100 % 2 == 0)
    assert np.array_equal(batch["vector"][real][:, 1], batch["tokens"][real] // 100)
    assert (batch["tokens"][~real] == -1).all()
    assert (batch["vector"][~real] == 0.5).all()
    assert not batch["mask"][~real].any()


def test_fields_are_named_as_the_config_says_and_nested_as_they_are() -> None:
    source = from_sequence([{"text": {"tokens": np.arange(n, dtype=np.uint16)}} for n in range(1, 9)])
    options = {"field": None, "segment_field": "text.segments", "position_field": "places"}
    view = packed(source, **options)
    batch = view.fetch(np.arange(2))
    assert batch["text"]["tokens"].dtype == np.uint16
    assert np.array_equal(batch["text"]["tokens"], batch["places"])
    assert batch["text"]["segments"].shape == batch["places"].shape == (2, 32)
    assert jax.tree.map(lambda s: s.shape, view.element_spec()) == jax.tree.map(lambda c: c.shape[1:], batch)


class Passed(SourceView):
    """A wrapper whose reads are counted: tokens and their lengths are not known without them."""

    def read_parent(self, indices: np.ndarray, parent: int = 0) -> Any:
        vars(self).setdefault("read", []).append(np.array(indices))
        return super().read_parent(indices, parent)

    def whole_column(self, field: str) -> Any:
        return None if field == "tokens" else self.parent.whole_column(field)

    def record_lengths(self, field: str) -> None:  # noqa: ARG002 - it is not known
        return None


def test_documents_that_have_to_be_read_are_read_once_a_batch() -> None:
    source = Passed(PackViewConfig(length=1), documents(np.array([70, 5, 32, 40])))
    view = packed(source, too_long="split", length_field=None)
    assert len(view) == 5
    source.read.clear()
    np.testing.assert_equal(
        view.fetch(np.arange(5)), packed(documents(np.array([70, 5, 32, 40])), too_long="split").fetch(np.arange(5))
    )
    assert [sorted(rows.tolist()) for rows in source.read] == [[0, 1, 2, 3]]


def test_lengths_of_a_field_save_the_pass_over_the_documents() -> None:
    source = Passed(PackViewConfig(length=1), documents(size=LENGTHS))
    view = packed(source, length_field="size")
    assert len(view) == len(packed())
    assert not hasattr(source, "read")
    assert Counter(token for one in segments(all_rows(view)) for token in one) == every_token()


def test_repacked_rows_hold_every_token_in_each_epoch_and_other_neighbours() -> None:
    view = packed(repack=True)
    epochs = [segments(all_rows(view, epoch)) for epoch in range(3)]
    for found in epochs:
        assert Counter(token for one in found for token in one) == every_token()
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert [len(one) for one in epochs[0]] == [len(one) for one in epochs[1]]
    concat = packed(repack=True, strategy="concat")
    assert Counter(t for one in segments(all_rows(concat, 1)) for t in one) == every_token()


def test_a_part_of_repacked_rows_keeps_those_of_the_first_epoch() -> None:
    view = packed(repack=True)
    with pytest.warns(UserWarning, match="first epoch"):
        part = view[:5]
    np.testing.assert_equal(part.fetch(np.arange(5)), view.fetch(np.arange(5)))
    assert not part.varies_by_epoch


@pytest.mark.parametrize("options", [{}, {"repack": True}, {"strategy": "concat"}])
def test_a_run_resumed_in_an_epoch_goes_on_as_if_it_had_not_stopped(options: dict[str, Any]) -> None:
    def pipeline() -> Pipeline:
        view = packed(documents(shuffle=True), **options)
        return Pipeline(source=view, stages=[], batch_size=7, rngs=nnx.Rngs(1), num_epochs=3)

    whole = [jax.tree.map(np.asarray, batch) for batch in pipeline()]
    first, second = pipeline(), pipeline()
    loop = iter(first)
    for _ in range(9):
        next(loop)
    second.set_state(first.get_state())
    rest = [jax.tree.map(np.asarray, batch) for batch in second]
    np.testing.assert_equal(rest, whole[9:])
    tokens = Counter(int(t) for batch in whole for t in batch["tokens"][batch["segment_ids"] > 0])
    assert set(tokens.values()) == {3}


def test_a_state_is_refused_over_documents_of_other_lengths() -> None:
    state = packed().get_state()
    other = packed(documents(np.roll(LENGTHS, 1)))
    with pytest.raises(ValueError, match="lengths"):
        other.set_state(state)


def test_rows_are_shuffled_as_the_documents_are_unless_the_config_says_otherwise() -> None:
    assert packed(documents(shuffle=True)).is_random_order
    assert not packed(documents()).is_random_order
    assert not packed(documents(shuffle=True), shuffle=False).is_random_order
    rows = packed().record_indices_at(0, 5)
    assert rows.tolist() == [0, 1, 2, 3, 4]


def test_a_mixture_of_packed_sources_has_exact_proportions_of_rows() -> None:
    sources = [documents(shuffle=True), documents(LENGTHS[::-1].copy(), shuffle=True)]
    mix = MixDataSourcesNode(MixDataSourcesConfig(num_sources=2, weights=[0.75, 0.25]), sources, rngs=nnx.Rngs(0))
    over = PackView.over(PackViewConfig(length=32, field="tokens"), mix)
    assert isinstance(over, MixDataSourcesNode)
    indices = over.record_indices_at(0, 40, over.order_key_data())
    assert (indices < len(packed())).sum() == 30


def test_a_view_nested_in_a_config_is_built_and_read_through_compiled_stages(tmp_path: Path) -> None:
    np.savez(tmp_path / "docs.npz", tokens=np.arange(LENGTHS.sum()), **{"tokens.offsets": np.cumsum([0, *LENGTHS])})
    (tmp_path / "train.yaml").write_text(
        """
        seed: 0
        batch_size: 4
        source:
          type: pack
          length: 32
          field: tokens
          repack: true
          source: {type: memory, path: docs.npz, shuffle: true}
        """
    )
    pipeline = Pipeline.from_config(tmp_path / "train.yaml")
    seen = np.concatenate([np.asarray(b["tokens"])[np.asarray(b["segment_ids"]) > 0] for b in pipeline])
    assert np.array_equal(np.sort(seen), np.arange(LENGTHS.sum()))


def attention_mask(batch: Any) -> Any:
    """Return the batch with the mask of attention within documents: bool (k, length, length)."""
    ids = batch["segment_ids"]
    same = (ids[:, :, None] == ids[:, None, :]) & (ids[:, :, None] > 0)
    return {**batch, "mask": same & jnp.tril(jnp.ones((ids.shape[1], ids.shape[1]), bool))}


def test_loop_step_and_scan_serve_one_stream_through_a_compiled_stage() -> None:
    def pipeline() -> Pipeline:
        view = packed(documents(shuffle=True), repack=True)
        return Pipeline(source=view, stages=[attention_mask], batch_size=8, rngs=nnx.Rngs(0), num_epochs=None)

    steps = 2 * len(packed()) // 8  # over the end of an epoch
    looped = [batch for _, batch in zip(range(steps), pipeline(), strict=False)]
    by_step = pipeline()
    stepped = [by_step.step() for _ in range(steps)]
    scanned = pipeline().scan(lambda batch: batch, length=steps)
    for number in range(steps):
        expected = jax.tree.map(np.asarray, looped[number])
        np.testing.assert_equal(jax.tree.map(np.asarray, stepped[number]), expected)
        np.testing.assert_equal({name: np.asarray(column)[number] for name, column in scanned.items()}, expected)
    mask, places = np.asarray(looped[0]["mask"]), np.asarray(looped[0]["positions"])
    real = np.asarray(looped[0]["segment_ids"]) > 0
    assert np.array_equal(mask.sum(axis=-1)[real], places[real] + 1)


def test_twins_share_the_plan_and_pickles_hold_it() -> None:
    view = packed()
    length = len(view)
    assert nnx.clone(view).planned is view.planned
    again = pickle.loads(pickle.dumps(view))  # noqa: S301 - made here
    assert again._plan._planned is not None
    assert len(again) == length
    np.testing.assert_equal(again.fetch(np.arange(4)), view.fetch(np.arange(4)))


def test_a_plan_is_described() -> None:
    text = packed(documents(np.array([70, 5, 0, 32, 40])), too_long="split", repack=True).describe_view()
    assert text == (
        "packs 5 documents (147 tokens) into 5 rows of 32, 91.8% full, at most 3 segments a row\n"
        "2 too long are split; 1 empty is left out; packed anew each epoch\nleaves out the field id"
    )
