"""Windows against slices of NumPy: over records, inside records and across them, by every way to read them."""

import pickle
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import datarax_arrayrecord
from datarax_arrayrecord import ArrayRecordSourceModule
from datarax_core import Pipeline
from datarax_core.config import StructuralConfig
from datarax_core.records import Batch, Ragged
from datarax_core.sources import DataSourceModule, SourceView
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import WindowView, WindowViewConfig


class Unseen(SourceView):
    """A wrapper whose records are read one call after another, and whose columns nobody sees."""

    def read_parent(self, indices: np.ndarray, parent: int = 0) -> Batch:
        self.read = [*getattr(self, "read", []), *indices.tolist()]
        return super().read_parent(indices, parent)

    def whole_column(self, field: str) -> None:  # noqa: ARG002
        return None


def held(columns: Any, placement: str = "host", **options: Any) -> MemorySource:
    rngs = nnx.Rngs(3) if options.get("shuffle") else None
    return MemorySource(MemorySourceConfig(placement=placement, **options), columns, rngs=rngs)


def unseen(columns: Any) -> SourceView:
    return Unseen(StructuralConfig(), held(columns))


def window(source: DataSourceModule, **options: Any) -> WindowView:
    return WindowView(WindowViewConfig(**options), source)


def all_records(source: DataSourceModule) -> dict[str, Any]:
    return jax.tree.map(np.asarray, source.fetch(np.arange(len(source))))


def sliced(values: np.ndarray, cut: dict[str, Any]) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Return (start, inputs, targets, mask) of each window of a sequence, one by one."""
    length, shift, remainder = cut["length"], cut.get("shift", 0), cut.get("remainder", "drop")
    stride = cut.get("stride") or length
    starts = list(range(0, len(values) - length - shift + 1, stride))
    following = starts[-1] + stride if starts else 0
    is_left = following < len(values) - shift and (not starts or starts[-1] + length + shift < len(values))
    if is_left and remainder == "overlap" and len(values) >= length + shift:
        starts.append(len(values) - length - shift)
    if is_left and remainder == "pad":
        starts.append(following)
    padded = np.concatenate([values, np.full((length + shift + stride, *values.shape[1:]), -7, values.dtype)])
    made = []
    for start in starts:
        mask = np.arange(start, start + length) + shift < len(values)
        made.append((start, padded[start:][:length], padded[start + shift :][:length], mask))
    return made


CUTS = st.fixed_dictionaries(
    {
        "length": st.integers(1, 6),
        "stride": st.none() | st.integers(1, 8),
        "shift": st.integers(0, 3),
        "remainder": st.sampled_from(["drop", "pad", "overlap"]),
    }
).map(lambda cut: {**cut, **({"pad_value": -7} if cut["remainder"] == "pad" else {})})


def expected(sequences: list[np.ndarray], cut: dict[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the records of the windows of all sequences, and the sequence of each."""
    made = [(n, *found) for n, values in enumerate(sequences) for found in sliced(values, cut)]
    fields = {"x": np.array([inputs for _, _, inputs, _, _ in made])}
    if cut["shift"]:
        fields["targets"] = np.array([targets for _, _, _, targets, _ in made])
    if cut["remainder"] == "pad":
        fields["mask"] = np.array([mask for *_, mask in made])
    return fields, np.array([n for n, *_ in made], int)


@settings(deadline=None, max_examples=40)
@given(CUTS, st.integers(1, 40), st.data())
def test_windows_over_records_are_slices(cut: dict[str, Any], length: int, data: st.DataObject) -> None:
    values = (
        np.arange(3 * length, dtype=np.int32).reshape(length, 3) if length % 2 else np.arange(length, dtype=np.int16)
    )
    fields, sequences = expected([values], cut)
    columns = {"x": values}
    if not len(sequences):
        with pytest.raises(ValueError, match="too few for"):
            window(held(columns), **cut)
        return
    view = window(held(columns), **cut)
    assert len(view) == len(sequences)
    some = np.asarray(data.draw(st.lists(st.integers(0, len(view) - 1), min_size=1, max_size=9)))
    for source in (view, window(unseen(columns), **cut)):
        assert source.access == "host"
        batch = source.fetch(some)
        assert batch.keys() == fields.keys()
        for name, column in batch.items():
            assert column.dtype == fields[name].dtype
            np.testing.assert_array_equal(column, fields[name][some])


@settings(deadline=None, max_examples=40)
@pytest.mark.parametrize("cross", [True, False])
@given(CUTS, st.lists(st.integers(0, 14), min_size=1, max_size=8), st.data())
def test_windows_inside_records_and_across_them_are_slices(
    cross: Any, cut: dict[str, Any], lengths: list[int], data: st.DataObject
) -> None:
    records = [np.arange(n, dtype=np.int64) + 100 * record for record, n in enumerate(lengths)]
    columns = {
        "x": Ragged.from_list(records),
        "label": np.arange(len(lengths)) * 10,
        "text": [f"t{n}" for n in lengths],
    }
    both = np.concatenate(records)
    fields, sequences = expected([both] if cross else records, cut)
    options = {**cut, "cross": True} if cross else {**cut, "too_short": "drop"}
    if not len(sequences):
        with pytest.raises(ValueError, match="too few for"):
            window(held(columns), **options)
        return
    if cross:
        starts = np.array([start for start, *_ in sliced(both, cut)])
        sequences = np.searchsorted(np.cumsum(lengths), starts, side="right")
    some = np.asarray(data.draw(st.lists(st.integers(0, len(sequences) - 1), min_size=1, max_size=9)))
    without_text = {name: column for name, column in columns.items() if name != "text"}
    for source in (held(columns), held(without_text), unseen(columns)):
        view = window(source, **options)
        assert len(view) == len(sequences)
        batch = view.fetch(some)
        for name, column in fields.items():
            np.testing.assert_array_equal(batch[name], column[some])
        np.testing.assert_array_equal(batch["label"], sequences[some] * 10)
        if "text" in batch:
            assert batch["text"].tolist() == [f"t{lengths[n]}" for n in sequences[some]]


@pytest.mark.parametrize("remainder", ["drop", "pad", "overlap"])
@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("stride", [3, 8])
def test_windows_over_a_source_on_the_device_are_gathered_there(remainder: str, shift: int, stride: int) -> None:
    rng = np.random.default_rng(0)
    columns = {
        "x": rng.integers(0, 9, (50, 2), np.int64),
        "y": rng.random(50, np.float32),
        "when": np.arange(50).astype("datetime64[D]"),
    }
    options: dict[str, Any] = {"length": 5, "stride": stride, "shift": shift, "remainder": remainder}
    if shift:
        options["target_of"] = "x"
    if remainder == "pad":
        del columns["when"]  # dates have nothing to pad with
        options["pad_value"] = {"x": 7, "y": 0.5}
    on_host = window(held(columns), **options)
    placed = held(columns, "device")
    view = window(placed, **options)
    assert view.access == "device"
    indices = np.array([1, 0, len(view) - 1, 1])
    for batch in (view.fetch(indices), view.fetch_on_host(indices)):
        assert batch.keys() == on_host.fetch(indices).keys()
        jax.tree.map(np.testing.assert_array_equal, dict(batch), dict(on_host.fetch(indices)))
    numbers = window(placed, **options, field=("x", "y"))
    expected = {name: column for name, column in on_host.fetch(indices).items() if name != "when"}
    traced = jax.jit(numbers.fetch_traced)(indices)
    jax.tree.map(np.testing.assert_array_equal, traced, expected)
    read, arrays = view.compiled_records()
    jax.tree.map(np.testing.assert_array_equal, jax.jit(read)(arrays, indices), expected)


def served(source: DataSourceModule, **options: Any) -> list[Any]:
    pipeline = Pipeline(source=source, batch_size=4, rngs=nnx.Rngs(0), **{"stages": [], **options})
    return [np.asarray(batch["x"]).tolist() for batch in pipeline]


def test_a_pipeline_serves_windows_shuffled_and_resumes_anywhere() -> None:
    columns = {"x": np.arange(103, dtype=np.int32)}
    for placement in ("host", "device"):
        view = WindowView(WindowViewConfig(length=5, shift=1), held(columns, placement, shuffle=True), rngs=nnx.Rngs(0))
        batches = served(view, num_epochs=2)
        assert view.is_random_order
        rows = list(chain.from_iterable(batches))
        epochs = [sorted(rows[part]) for part in (slice(20), slice(20, None))]
        assert epochs == [[list(range(n, n + 5)) for n in range(0, 100, 5)]] * 2
        assert rows[:20] != epochs[0]
        pipeline = Pipeline(source=view, stages=[], batch_size=4, rngs=nnx.Rngs(0), num_epochs=2)
        loop = iter(pipeline)
        for _ in range(3):
            next(loop)
        state = pickle.loads(pickle.dumps(pipeline.get_state()))  # noqa: S301 - our own
        assert len(str(state)) < 1500
        again = Pipeline(source=view.copy(), stages=[], batch_size=4, rngs=nnx.Rngs(0), num_epochs=2)
        again.set_state(state)
        assert [np.asarray(batch["x"]).tolist() for batch in again] == batches[3:]


@pytest.mark.parametrize("placement", ["host", "device"])
def test_step_and_scan_serve_what_the_loop_serves(placement: str) -> None:
    view = window(held({"x": np.arange(64)}, placement, shuffle=True), length=4, shift=1)
    loop = served(view, num_epochs=1, drop_last=True)
    pipeline = Pipeline(source=view, stages=[], batch_size=4, rngs=nnx.Rngs(0))
    assert np.asarray(pipeline.step()["x"]).tolist() == loop[0]
    pipeline.reset()
    scanned = pipeline.scan(lambda batch: (batch["x"], batch["targets"]), length=3)
    assert np.asarray(scanned[0]).tolist() == loop[:3]
    np.testing.assert_array_equal(scanned[1], scanned[0] + 1)


def test_workers_and_threads_serve_the_same() -> None:
    records = [np.arange(n) + 1000 * n for n in range(5, 40)]
    view = window(unseen({"x": Ragged.from_list(records)}), length=5, stride=3)
    plain = served(view)
    assert served(view, threads=3) == served(view, prefetch=0) == plain
    assert pickle.loads(pickle.dumps(view)).fetch([3])["x"].tolist() == view.fetch(np.array([3]))["x"].tolist()  # noqa: S301


def test_records_that_windows_share_are_read_once_a_batch() -> None:
    source = unseen({"x": np.arange(100)})
    view = window(source, length=10, stride=1)
    view.fetch(np.arange(20))
    assert source.read == list(range(29))
    source = unseen({"x": Ragged.from_list([np.arange(20), np.arange(50), np.arange(5)])})
    view = window(source, length=5, cross=True)
    source.read = []
    view.fetch(np.array([1, 4, 0, 5]))
    assert source.read == [0, 1]
    assert view.fetch(np.array([len(view) - 1]))["x"].tolist() == [[0, 1, 2, 3, 4]]


def test_several_fields_are_cut_alike_and_others_are_those_of_the_record() -> None:
    lengths = [4, 9, 6]
    columns = {
        "obs": Ragged.from_list([np.arange(n * 2.0).reshape(n, 2) for n in lengths]),
        "act": Ragged.from_list([np.arange(n) for n in lengths]),
        "words": Ragged.from_list([np.arange(n + 1) for n in lengths]),
        "who": np.array([7, 8, 9]),
    }
    for make in (held, unseen):
        view = window(make(columns), length=3, field=("obs", "act"), shift=1, target_of="act")
        assert view.element_spec()["obs"].shape == (3, 2)
        assert view.element_spec()["words"].shape == (None,)
        record = view[2]
        assert record["obs"].tolist() == [[6, 7], [8, 9], [10, 11]]
        assert record["act"].tolist() == [3, 4, 5]
        assert record["targets"].tolist() == [4, 5, 6]
        assert record["words"].tolist() == list(range(10))
        assert record["who"] == 8
        assert [int(one["who"]) for one in view] == [7, 8, 8, 9]


def test_windows_are_cut_inside_records_of_one_length_too() -> None:
    series = np.arange(60).reshape(4, 15)
    for make in (held, unseen):
        view = window(make({"x": series, "id": np.arange(4)}), length=4, stride=5, inside=True, field="x")
        assert len(view) == 12
        assert all_records(view)["x"].tolist() == [series[n, s : s + 4].tolist() for n in range(4) for s in (0, 5, 10)]
        crossing = window(make({"x": series, "id": np.arange(4)}), length=7, cross=True, field="x")
        assert all_records(crossing)["x"].tolist() == np.arange(56).reshape(8, 7).tolist()
        assert all_records(crossing)["id"].tolist() == [0, 0, 0, 1, 1, 2, 2, 3]


def test_records_of_a_list_of_tuples_or_arrays_keep_their_form() -> None:
    pairs = window(held([(np.float32(n), n * 10) for n in range(7)]), length=3)
    assert [column.tolist() for column in pairs[1]] == [[3, 4, 5], [30, 40, 50]]
    bare = window(held(np.arange(9)), length=4)
    assert bare[1].tolist() == [4, 5, 6, 7]
    nested = window(unseen({"a": np.arange(6)}), length=2)
    assert nested[2]["a"].tolist() == [4, 5]


def test_the_records_of_a_mixture_stay_in_proportion() -> None:
    children = [held({"x": np.arange(100)}), held({"x": -np.arange(50)})]
    mixture = MixDataSourcesNode(MixDataSourcesConfig(num_sources=2, weights=(0.75, 0.25)), children, rngs=nnx.Rngs(0))
    view = WindowView.over(WindowViewConfig(length=5), mixture)
    assert isinstance(view, MixDataSourcesNode)
    rows = np.concatenate(served(view))
    assert len(rows) == 30
    assert set(np.diff(rows, axis=1).ravel().tolist()) == {-1, 1}
    assert np.sum(np.diff(rows[:16], axis=1)[:, 0] == 1) == 12
    with pytest.raises(ValueError, match="make it of each source below that"):
        WindowView(WindowViewConfig(length=5), mixture)


class Noisy(DataSourceModule):
    """Records that differ in each epoch."""

    varies_by_epoch = True

    def __len__(self) -> int:
        return 20

    def element_spec(self) -> Any:
        return {"x": jax.ShapeDtypeStruct((), np.dtype(np.int32)), "y": jax.ShapeDtypeStruct((6,), np.dtype(np.int32))}

    def get_records(self, indices: np.ndarray) -> Batch:
        epochs, records = np.divmod(indices, 20)
        x = (1000 * epochs + records).astype(np.int32)
        return {"x": x, "y": x[:, None] * 10 + np.arange(6, dtype=np.int32)}


@pytest.mark.parametrize("options", [{"field": "x"}, {"field": "y", "inside": True}, {"field": "y", "cross": True}])
def test_records_that_differ_by_epoch_are_those_of_the_epoch(options: dict[str, Any]) -> None:
    view = window(Noisy(StructuralConfig()), length=5, stride=5, **options)
    assert view.varies_by_epoch
    pipeline = Pipeline(source=view, stages=[], batch_size=len(view), rngs=nnx.Rngs(0), num_epochs=3)
    batches = [np.asarray(batch[options["field"]]) for batch in pipeline]
    first = Noisy(StructuralConfig()).get_records(np.arange(20))[options["field"]]
    elements = first[:, :5].reshape(-1, 5) if "inside" in options else first.reshape(-1, 5)
    step = 1000 if options["field"] == "x" else 10_000
    for epoch, batch in enumerate(batches):
        np.testing.assert_array_equal(batch, elements + step * epoch)
    assert view.indices_to_read(len(view), np.arange(2)).tolist() == [len(view), len(view) + 1]


def test_windows_of_files_are_planned_by_the_note_beside_them(tmp_path: Path) -> None:
    episodes = [np.arange(n, dtype=np.int16) + 100 * n for n in (5, 12, 0, 31)]
    written = datarax_arrayrecord.write(
        tmp_path / "x.array_record", {"x": Ragged.from_list(episodes), "id": np.arange(4)}
    )
    source = ArrayRecordSourceModule(written.config)
    assert source.record_lengths("x").tolist() == [5, 12, 0, 31]
    view = window(source, length=4, stride=3, too_short="drop")
    assert view.access == "host"
    found = all_records(view)
    assert found["x"].tolist() == [e[s : s + 4].tolist() for e in episodes for s in range(0, len(e) - 3, 3)]
    assert found["id"].tolist() == [0] + [1] * 3 + [3] * 10


def test_views_of_windows_and_windows_of_views_nest() -> None:
    source = held({"x": np.arange(100)})
    outer = window(window(source, length=5)[4:], length=2)
    assert outer[0]["x"].tolist() == [[20, 21, 22, 23, 24], [25, 26, 27, 28, 29]]
    inner = window(window(source, length=10), length=3, inside=True, field="x")
    assert all_records(inner)["x"].tolist() == [
        [10 * n + 3 * s + j for j in range(3)] for n in range(10) for s in range(3)
    ]
    assert window(source[::-1], length=3)[0]["x"].tolist() == [99, 98, 97]


def test_what_is_served_is_said() -> None:
    source = held({"x": np.arange(1000)})
    assert window(source, length=512, stride=256).describe_view() == (
        "2 windows of 512 every 256 over 1,000 records; 232 left over"
    )
    assert window(source, length=100, shift=1, remainder="pad").describe_view() == (
        "10 windows of 100 every 100, targets 1 further on, over 1,000 records; the end completed by padding"
    )
    ragged = held({"x": Ragged.from_list([np.arange(n) for n in (30, 5, 64)])})
    assert window(ragged, length=16, too_short="drop").describe_view() == (
        "5 windows of 16 every 16 inside 3 records of 5 to 64; 14 left over; 1 record too short left out"
    )
    assert window(ragged, length=20, cross=True, remainder="overlap").describe_view() == (
        "5 windows of 20 every 20 across 3 records of 99 elements in all; the end covered by windows that begin earlier"
    )


def test_states_tell_windows_apart() -> None:
    def state_of(lengths: list[int], **options: Any) -> dict[str, Any]:
        view = window(held({"x": Ragged.from_list([np.zeros(n) for n in lengths])}), length=2, **options)
        return view.get_state()["fingerprint"]

    assert state_of([4, 5, 6]) == state_of([4, 5, 6])
    assert state_of([4, 5, 6])["lengths"] != state_of([6, 5, 4])["lengths"]
    assert state_of([4, 6], cross=True)["lengths"] != state_of([6, 4], cross=True)["lengths"]
    assert state_of([4, 6])["config"] != state_of([4, 6], stride=1)["config"]
