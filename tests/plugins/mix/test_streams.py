"""Mixtures with a child that is read forward only."""

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import old_pickles
import old_stream_mixture
import pytest

from datarax_core import DataSourceModule, Pipeline, StructuralConfig, from_iterable
from datarax_core.errors import StateError

MILLION = 1_000_000


class Endless(DataSourceModule):
    """0, 1, 2, ...: the one method that a stream must write."""

    def __init__(self, *, fails_at: int = -1, ends_at: int = 2**31 - 1) -> None:
        super().__init__(StructuralConfig())
        self.at, self.fails_at, self.ends_at = 0, fails_at, ends_at

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"id": jax.ShapeDtypeStruct((), np.int32), "x": jax.ShapeDtypeStruct((2,), np.float32)}

    def get_batch(self, batch_size: int) -> dict[str, np.ndarray]:
        if self.at <= self.fails_at < self.at + batch_size:
            self.fails_at = -1
            raise OSError("the line is down")
        if self.at >= self.ends_at:
            raise StopIteration
        ids = np.arange(self.at, min(self.at + batch_size, self.ends_at), dtype=np.int32)
        self.at += len(ids)
        return {"id": ids, "x": np.zeros((len(ids), 2), np.float32)}


def ids_of(batches: Any) -> list[int]:
    return np.concatenate([np.asarray(batch["id"]) for batch in batches]).tolist()


def test_a_stream_child_makes_the_mixture_a_stream(child: Any, mix: Any) -> None:
    made = mix([child(0, 20, kind="stream"), child(1, 30), child(2, 10, kind="host")])
    assert (made.access, len(made), made.capabilities.sized, made.capabilities.resumable) == ("stream", 60, True, True)
    for deeper in (mix([made, child(3, 5)]), mix([mix([made, child(3, 5)]), child(4, 6)])):
        assert deeper.access == "stream"
    with pytest.raises(NotImplementedError, match="is a stream without random access"):
        made.record_indices_at(0, 5, made.order_key_data())
    with pytest.raises(NotImplementedError, match="is a stream without random access"):
        made.to_grain_iter_dataset()


def test_all_kinds_at_once_in_exact_proportions(child: Any, mix: Any) -> None:
    made = mix(
        [child(0, 20, kind="stream"), mix([child(1, 30), child(2, 9, kind="host")]), child(3, 10)], (0.5, 0.3, 0.2)
    )
    ids = ids_of(made.get_batch(7) for _ in range(40))
    for count in range(1, 281):
        served = Counter(min(i // MILLION, 2) if i // MILLION != 3 else 3 for i in ids[:count])
        for numbers, share in (((0,), 5), ((1, 2), 3), ((3,), 2)):
            assert abs(10 * sum(served[number] for number in numbers) - share * count) < 10
    own = [i for i in ids if i < MILLION]
    assert own == [(place + 7 * epoch) % 20 for epoch in range(7) for place in range(20)][: len(own)]


def test_batch_sizes_do_not_matter(child: Any, mix: Any) -> None:
    def made() -> Any:
        return mix([child(0, 20, kind="stream"), child(1, 30), child(2, 8, kind="stream")], (0.5, 0.3, 0.2))

    one = ids_of([made().get_batch(200)])
    other = made()
    assert ids_of(other.get_batch(size) for size in (1, 2, 50, 47, 100)) == one
    skipped = made()
    skipped.skip(53)
    assert ids_of([skipped.get_batch(100)]) == one[53:153]
    assert ids_of(Pipeline(source=made(), batch_size=16)) == one[:58]
    assert [int(element["id"]) for element in made()] == one[:58]


def test_each_loop_over_elements_is_an_epoch(child: Any, mix: Any) -> None:
    made = mix([child(0, 20, kind="stream"), child(1, 30)])
    whole = ids_of([mix([child(0, 20, kind="stream"), child(1, 30)]).get_batch(150)])
    loop = iter(made)
    assert [int(next(loop)["id"]) for _ in range(10)] == whole[:10]
    assert [int(element["id"]) for element in made] == whole[50:100]  # what is left of the first is left out
    with pytest.raises(RuntimeError, match="this loop is over"):
        next(loop)
    made.reset()
    assert [int(element["id"]) for element in made] == whole[:50]


def test_a_stream_without_a_length_repeats_and_the_mixture_has_none(child: Any, mix: Any) -> None:
    made = mix([child(0, 7, kind="no length"), child(1, 30)])
    assert (made.epoch_length, made.capabilities.sized) == (None, False)
    with pytest.raises(TypeError, match="has no length: one of its children is a stream without one"):
        len(made)
    ids = ids_of([made.get_batch(40)])
    own = [i for i in ids if i < MILLION]
    assert own == [(place + 7 * epoch) % 7 for epoch in range(3) for place in range(7)][:20]
    assert "It does not end" in made.plan()


def test_first_exhausted_ends_a_mixture_with_its_stream_without_a_length(child: Any, mix: Any) -> None:
    made = mix([child(0, 7, kind="no length"), child(1, 30)], stop="first_exhausted")
    ids = ids_of(Pipeline(source=made, batch_size=4))
    assert [i for i in ids if i < MILLION] == list(range(7))
    assert len(ids) in (14, 15)
    made.reset()
    assert ids_of([made.get_batch(100)]) == ids
    with pytest.raises(StopIteration):
        made.get_batch(1)
    state = made.get_state()
    assert state["ended"] == 0
    made.reset()
    assert [int(element["id"]) for element in made] == ids
    again = [int(element["id"]) for element in made]  # begins anew with the next epoch of the stream
    assert sorted(i for i in again if i < MILLION) == list(range(7))


def test_first_exhausted_ends_a_mixture_with_a_child_that_has_a_length(child: Any, mix: Any) -> None:
    made = mix([child(0, 1000, kind="no length"), child(1, 9), child(2, 30)], (0.5, 0.3, 0.2), stop="first_exhausted")
    ids = ids_of(Pipeline(source=made, batch_size=4))
    assert sorted(i for i in ids if i // MILLION == 1) == [MILLION + i for i in range(9)]
    assert ids[-1] // MILLION == 1
    with pytest.raises(StopIteration):
        made.get_batch(1)
    made.reset()
    assert [int(element["id"]) for element in made] == ids
    again = [int(element["id"]) for element in made]
    assert (len(again), made.cursor.position) == (len(ids), 2 * len(ids))
    assert f"after record {len(ids)}; repeats" in made.plan()


def test_a_child_drops_out_of_a_mixture_that_has_no_length(child: Any, mix: Any) -> None:
    made = mix(
        [child(0, 7, kind="no length"), child(1, 9), child(2, 30)], (0.5, 0.3, 0.2), at_end=("repeat", 2, "repeat")
    )
    ids = ids_of(made.get_batch(size) for size in (10, 60, 30, 1000))
    assert [i // MILLION for i in ids].count(1) == 18
    after = max(place for place, i in enumerate(ids) if i // MILLION == 1) + 1
    counts = np.bincount([i // MILLION for i in ids[after : after + 700]])
    assert counts.tolist() == [500, 0, 200]


def test_a_child_that_fails_halfway_loses_nothing(child: Any, mix: Any) -> None:
    made = mix([Endless(fails_at=12), child(1, 30, kind="stream"), child(2, 9)], (0.4, 0.4, 0.2))
    whole = ids_of([mix([Endless(), child(1, 30, kind="stream"), child(2, 9)], (0.4, 0.4, 0.2)).get_batch(60)])
    served = ids_of([made.get_batch(20)])
    with pytest.raises(OSError, match="the line is down"):
        made.get_batch(20)
    assert served + ids_of([made.get_batch(20), made.get_batch(20)]) == whole


def test_no_state_is_saved_after_a_child_failed_halfway(child: Any, mix: Any) -> None:
    class Failing(type(child(0, 9, kind="stream"))):  # type: ignore[misc]
        broken = True

        def records_from(self, epoch: int, start: int) -> Any:
            if self.broken and start == 0:
                raise OSError("the line is down")
            return super().records_from(epoch, start)

    made = mix([child(1, 30, kind="stream"), Failing(StructuralConfig(), 0, 9)])
    with pytest.raises(OSError, match="the line is down"):
        made.get_batch(8)
    with pytest.raises(StateError, match="has no state to save: a child failed to read its part of a batch"):
        made.get_state()
    Failing.broken = False
    assert sorted(ids_of([made.get_batch(8)])) == [0, 1, 2, 3, *(MILLION + i for i in range(4))]
    made.get_state()


def test_a_mixture_with_a_stream_that_has_no_state_is_neither_saved_nor_reset(child: Any, mix: Any) -> None:
    made = mix([Endless(), child(1, 30)])
    assert not made.capabilities.resumable
    with pytest.raises(StateError, match="Endless cannot say where it stands, so that MixDataSourcesNode has no state"):
        made.get_state()
    with pytest.raises(NotImplementedError, match="Endless is a stream that cannot start over"):
        made.reset()
    ended = mix([Endless(ends_at=5), child(1, 30)])
    with pytest.raises(NotImplementedError, match="Endless is a stream that cannot start over"):
        ended.get_batch(100)


def test_closing_a_mixture_closes_its_children_and_reading_goes_on(child: Any, mix: Any) -> None:
    stream = child(0, 20, kind="stream")
    whole = ids_of([mix([child(0, 20, kind="stream"), child(1, 30)]).get_batch(40)])
    with mix([stream, child(1, 30)]) as made:
        served = ids_of([made.get_batch(10)])
        assert stream.is_reading
    assert not stream.is_reading
    assert served + ids_of([made.get_batch(30)]) == whole


@old_pickles.not_in_an_older_jax
@pytest.mark.filterwarnings("ignore:datarax_core.*was moved:DeprecationWarning")
def test_a_mixture_with_a_stream_that_version_0_1_0_pickled_goes_on() -> None:
    written = json.loads(Path(old_stream_mixture.__file__).with_suffix(".json").read_text())
    restored = old_pickles.load(written["pickle"])
    assert old_stream_mixture.served(restored.clone()) == written["served"]
    assert old_stream_mixture.served(pickle.loads(pickle.dumps(restored))) == written["served"]  # noqa: S301 - our own
    assert old_stream_mixture.served(restored) == written["served"]
    with pytest.raises(StopIteration):
        restored.get_batch(1)
    assert restored.get_state()["ended"] == 0


def test_an_empty_stream_is_an_error_and_no_endless_loop(child: Any, mix: Any) -> None:
    made = mix([child(0, 0, kind="no length"), child(1, 30)])
    with pytest.raises(ValueError, match="Stream is empty: it has no records to serve in MixDataSourcesNode"):
        made.get_batch(10)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "4"])
def test_a_batch_size_is_a_whole_number(child: Any, mix: Any, size: Any) -> None:
    made = mix([child(0, 5, kind="stream"), child(1, 30)])
    with pytest.raises(ValueError, match="batch_size is a whole number from 1"):
        made.get_batch(size)


def test_a_mixture_with_an_iterable_resumes_by_its_own_state(child: Any, mix: Any) -> None:
    def build() -> Any:
        numbers = grain.MapDataset.range(40).map(lambda i: {"id": np.int32(i), "x": np.full(2, i, np.float32)})
        return mix({"theirs": from_iterable(numbers.to_iter_dataset()), "ours": child(1, 30)}, (0.5, 0.5))

    expected = np.asarray(build().get_batch(100)["id"]).tolist()
    made = build()
    made.get_batch(33)
    state = json.loads(json.dumps(made.get_state()))
    assert state["streams"]["0"]["iterable"]["kind"] == "get_state"
    resumed = build()
    resumed.set_state(state)
    assert np.asarray(resumed.get_batch(67)["id"]).tolist() == expected[33:]
    assert "Child 'theirs': It resumes by the own state" in Pipeline(source=made, batch_size=4).explain()
