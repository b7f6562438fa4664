"""Views of type subset: the records that the config names, in every way it can name them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import DataFileError, DataSourceModule, Pipeline, StateError
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode
from datarax_views import SubsetView, SubsetViewConfig

MakeSource = Callable[..., DataSourceModule]


def ids(view: DataSourceModule) -> list[int]:
    """Return the ids of all records, by record index."""
    return [int(view[number]["id"]) for number in range(view.num_records)]


def subset(source: DataSourceModule, **choice: Any) -> SubsetView:
    return SubsetView(SubsetViewConfig(**choice), source)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"indices": [7, 3, 30]}, [7, 3, 30]),
        ({"slice": [5]}, [0, 1, 2, 3, 4]),
        ({"slice": [-3, None]}, [37, 38, 39]),
        ({"slice": [30, None, -10]}, [30, 20, 10, 0]),
    ],
)
def test_records_are_those_that_the_config_names(
    source: DataSourceModule, choice: dict[str, Any], expected: list[int]
) -> None:
    view = subset(source, **choice)
    assert ids(view) == expected
    assert [int(element["id"]) for element in view] == expected
    served = [batch["id"] for batch in Pipeline(source=view, batch_size=3)]
    np.testing.assert_array_equal(np.concatenate(served), expected)
    assert view.access == source.access


def test_all_fields_of_a_record_come_along(source: DataSourceModule) -> None:
    view = subset(source, indices=[9, 4])
    (batch,) = Pipeline(source=view, batch_size=2)
    assert batch["name"].tolist() == ["name 1", "name 0"]
    assert batch["tokens"].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert batch["label"].tolist() == [7, 3]


def test_files_name_records(source: DataSourceModule, tmp_path: Path) -> None:
    mask = np.arange(40) % 8 == 2
    np.save(tmp_path / "mask.npy", mask)
    np.save(tmp_path / "rows.npy", np.array([9, 2], np.uint16))
    (tmp_path / "rows.txt").write_text("# chosen by hand\n9\n\n 2 \n")
    assert ids(subset(source, mask=tmp_path / "mask.npy")) == [2, 10, 18, 26, 34]
    assert ids(subset(source, file=tmp_path / "mask.npy")) == [2, 10, 18, 26, 34]
    assert ids(subset(source, file=tmp_path / "rows.npy")) == ids(subset(source, file=tmp_path / "rows.txt")) == [9, 2]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_part_is_that_of_split(make_source: MakeSource, shuffle: bool) -> None:  # noqa: FBT001 - a parameter
    source = make_source(100, shuffle=shuffle)
    parts = source.split(train=0.7, test=0.2, seed=4)
    for name, part in parts.items():
        view = subset(source, split={"train": 0.7, "test": 0.2}, part=name, seed=4)
        assert ids(view) == ids(part)
        assert [element["id"] for element in view] == [element["id"] for element in part]


def test_a_shuffled_source_gives_a_shuffled_view_unless_the_config_says_otherwise(make_source: MakeSource) -> None:
    source = make_source(100, shuffle=True)
    assert subset(source, slice=[50]).order_title == "shuffled"
    view = subset(source, slice=[50], shuffle=False)
    assert [int(element["id"]) for element in view] == list(range(50))
    own = SubsetView(SubsetViewConfig(slice=[50], shuffle=True), make_source(100), rngs=nnx.Rngs(1))
    assert sorted(order := [int(element["id"]) for element in own]) == list(range(50))
    assert order != list(range(50))


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize(
    "choice",
    [
        {"indices": list(range(10, 90))},
        {"fold": {"of": 5, "held_out": 2}},
        {"fold": {"of": 5, "held_out": 2}, "stratify": "label"},
    ],
)
def test_scan_and_step_serve_what_the_loop_serves(placement: Any, choice: dict[str, Any]) -> None:
    data = {"id": np.arange(100, dtype=np.int32), "label": np.arange(100) % 3}
    config = MemorySourceConfig(shuffle=True, placement=placement)
    view = subset(MemorySource(config, data, rngs=nnx.Rngs(0)), **choice)
    loop = np.stack([batch["id"] for batch in Pipeline(source=view, batch_size=8)])
    assert len(set(loop.ravel())) == 80
    steps = Pipeline(source=view, batch_size=8)
    np.testing.assert_array_equal(np.stack([steps.step()["id"] for _ in range(10)]), loop)
    scanned = Pipeline(source=view, batch_size=8).scan(lambda batch: batch["id"], length=10)
    np.testing.assert_array_equal(scanned, loop)
    explained = Pipeline(source=view, batch_size=8).explain()
    assert ("one compiled step gathers" in explained) == (placement == "device")
    traced = jax.jit(lambda start: view.get_batch_at(start, 8, view.order_key_data()))
    np.testing.assert_array_equal(traced(16)["id"], loop[2])


def test_configs_find_files_beside_them_and_nest(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", id=np.arange(40, dtype=np.int32))
    (tmp_path / "rows.txt").write_text("\n".join(map(str, range(0, 40, 2))))
    (tmp_path / "train.yaml").write_text(
        "batch_size: 4\nsource:\n  type: subset\n  slice: [5]\n  source:\n    type: subset\n    file: rows.txt\n"
        "    source: {type: memory, path: rows.npz}\n"
    )
    pipeline = Pipeline.from_config(tmp_path / "train.yaml")
    assert [batch["id"].tolist() for batch in pipeline] == [[0, 2, 4, 6], [8]]


def test_plans_say_how_many_records_are_kept(source: DataSourceModule) -> None:
    split = {"train": 0.9, "test": 0.1}
    assert subset(source, indices=[1, 2]).describe_view() == "keeps 2 of 40 records, by index"
    assert subset(source, slice=[1, 9, 2]).describe_view() == "keeps 4 of 40 records: slice [1:9:2]"
    assert (
        subset(source, split=split, part="train", stratify="label").describe_view()
        == "keeps 36 of 40 records: part 'train' of a split with seed 0, stratified by 'label'"
    )
    assert (
        subset(source, fold={"of": 4, "held_out": 1}).describe_view()
        == "keeps 30 of 40 records: all but fold 1 of 4, drawn with seed 0"
    )


def test_states_hold_no_table_and_refuse_another_one(make_source: MakeSource) -> None:
    source = make_source(1000)
    pipeline = Pipeline(source=subset(source, indices=list(range(0, 1000, 2))), batch_size=7)
    next(iter(pipeline))
    state = pipeline.get_state()
    assert len(str(state)) < 4000
    again = Pipeline(source=subset(source, slice=[0, None, 2]), batch_size=7)
    with pytest.raises(StateError, match="subset"):
        again.set_state(state)
    with pytest.raises(StateError, match="subset"):
        Pipeline(source=subset(source, indices=list(range(1, 1000, 2))), batch_size=7).set_state(state)
    same = Pipeline(source=subset(source, indices=list(range(0, 1000, 2))), batch_size=7)
    same.set_state(state)
    assert next(iter(same))["id"].tolist() == list(range(14, 28, 2))


def test_a_file_of_indices_may_move_and_not_change(source: DataSourceModule, tmp_path: Path) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("3\n4\n")
    other.write_text("3\n4\n")
    state = subset(source, file=one).get_state()
    subset(source, file=other).set_state(state)
    one.write_text("3\n5\n")
    with pytest.raises(StateError, match="subset"):
        subset(source, file=one).set_state(state)


def test_copies_and_clones_have_the_same_records(source: DataSourceModule) -> None:
    view = subset(source, indices=[7, 3, 30])
    assert ids(view.copy()) == ids(nnx.clone(view)) == ids(view)
    assert ids(view.copy(config=SubsetViewConfig(indices=[1]))) == [1]


# -- mixtures ----------------------------------------------------------------------------------------------------------------


def mixture(make_source: MakeSource) -> MixDataSourcesNode:
    config = MixDataSourcesConfig(num_sources=2, weights=(0.75, 0.25), names=("a", "b"))
    other = make_source(20)
    return MixDataSourcesNode(config, [make_source(40), other], rngs=nnx.Rngs(0))


def test_a_part_of_a_mixture_is_the_mixture_of_the_parts(make_source: MakeSource) -> None:
    mix = mixture(make_source)
    config = SubsetViewConfig(split={"train": 0.8, "test": 0.2}, part="train", seed=1)
    view, part = SubsetView.over(config, mix), mix.split(train=0.8, test=0.2, seed=1)["train"]
    assert isinstance(view, MixDataSourcesNode)
    assert view.weights == mix.weights
    assert [int(element["id"]) for element in view] == [int(element["id"]) for element in part]
    with pytest.raises(ValueError, match=r"indices names records of .*, whose proportions would be lost"):
        SubsetView.over(SubsetViewConfig(indices=[3]), mix)


# -- mistakes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, "a subset needs one of indices, mask, file, slice, split, fold"),
        ({"indices": [1], "slice": [2]}, "indices and slice exclude each other"),
        ({"indices": [1, 2, 1]}, "record 1 is named twice; a subset has each record once"),
        ({"indices": [1.0]}, "indices.0"),
        ({"indices": [-1]}, "indices.0"),
        ({"indices": [True]}, "indices.0"),
        ({"indices": []}, "indices"),
        ({"indices": [1], "seed": 1}, "seed has no use with indices; it is for split and fold"),
        ({"slice": [1], "stratify": "label"}, "stratify has no use with slice"),
        ({"slice": [0, 9, 0]}, "the step of a slice is not 0"),
        ({"split": {"a": 0.5}}, "split needs the part to serve: one of a"),
        ({"split": {"a": 0.5}, "part": "b"}, "part='b' is no part of the split, which has a"),
        ({"part": "b", "slice": [3]}, "part='b' names a part of a split, and no split is given"),
        ({"split": {"a": 0.5, "b": 3}, "part": "a"}, "not both: a: 0.5, b: 3"),
        ({"split": {"a": 1.5}, "part": "a"}, "a: 1.5 is out of range"),
        ({"split": {"a": 0}, "part": "a"}, "a: 0 is out of range"),
        ({"fold": {"of": 5, "held_out": 5}}, "held_out=5 is out of range: of=5 numbers folds from 0"),
        ({"fold": {"of": 1, "held_out": 0}}, "fold.of"),
        ({"file": "s3://bucket/rows.npy"}, "file"),
    ],
)
def test_configs_that_name_no_records_are_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SubsetViewConfig(**choice)


@pytest.mark.parametrize(
    ("choice", "kind", "message"),
    [
        (
            {"indices": [3, 40]},
            ValueError,
            "record 40 is out of range: MemorySource 'rows' has 40 records, counted from 0",
        ),
        ({"slice": [50, 60]}, ValueError, r"slice=\[50, 60\] has none of the 40 records of MemorySource 'rows'"),
        ({"split": {"a": 0.7, "b": 0.7}, "part": "a"}, ValueError, "sum to 1.4, which is more than 1"),
        ({"split": {"a": 50}, "part": "a"}, ValueError, "there are 40; ask for less"),
        ({"fold": {"of": 41, "held_out": 0}}, ValueError, "has 40 records, which cannot be 41 folds"),
        ({"fold": {"of": 4, "held_out": 0}, "stratify": "lable"}, ValueError, "no field 'lable'; did you mean 'label'"),
        ({"fold": {"of": 4, "held_out": 0}, "stratify": "score"}, ValueError, "'score' .* is float32.*, which has no"),
        ({"fold": {"of": 4, "held_out": 0}, "stratify": "tokens"}, ValueError, "'tokens' .* has no classes"),
    ],
)
def test_records_that_the_source_does_not_have_are_named(
    source: DataSourceModule, choice: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        subset(source, **choice)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "3\n\nseven\n", r"x.txt:3: 'seven' is no record index; each line holds one whole number"),
        ("x.txt", "3\n1.5\n", "x.txt:2: '1.5' is no record index"),
        ("x.txt", "3\n-1\n", "x.txt:2: '-1' is no record index"),
        ("x.txt", "3\n40\n", "x.txt:2: record 40 is out of range: MemorySource 'rows' has 40 records"),
        ("x.txt", "3\n# again\n5\n3\n", "x.txt:4: record 3 is named in line 1 already; a subset has each record once"),
        ("x.npy", np.array([1, 40]), "row 1: record 40 is out of range"),
        ("x.npy", np.array([1, -1]), "row 1: record -1 is out of range"),
        ("x.npy", np.array([1, 2, 1]), "names record 1 twice, in rows 0 and 2"),
        ("x.txt", "# none\n", "x.txt' names no record: a subset has one at least"),
        ("x.npy", np.array([], np.int64), "x.npy' names no record"),
        ("x.npy", np.array([1.0]), "holds float64, and records of MemorySource 'rows' are named by integers"),
        ("x.npy", np.array([[1]]), r"has shape \[1, 1\]"),
        ("x.npy", np.ones(39, bool), r"a mask of shape \[39\], and MemorySource 'rows' has 40 records"),
        ("x.npy", "no array", "cannot be read as an .npy file"),
        ("x.txt", b"\xff\xfe", "is no text file of record indices"),
    ],
)
def test_files_that_name_no_records_are_refused_with_row_or_line(
    source: DataSourceModule, tmp_path: Path, name: str, content: Any, message: str
) -> None:
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataFileError, match=message):
        subset(source, file=path)


def test_masks_are_files_of_booleans(source: DataSourceModule, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.arange(3))
    with pytest.raises(DataFileError, match="holds int64, and a mask holds bool; give record indices as `file`"):
        subset(source, mask=tmp_path / "rows.npy")
    np.save(tmp_path / "none.npy", np.zeros(40, bool))
    with pytest.raises(DataFileError, match=r"none.npy' is False everywhere: it chooses none of the 40 records"):
        subset(source, mask=tmp_path / "none.npy")
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*gone.npy'"):
        subset(source, file=tmp_path / "gone.npy")


def test_streams_have_no_records_to_name(stream: DataSourceModule) -> None:
    with pytest.raises(NotImplementedError, match="SubsetView needs records by index, and Counted is a stream"):
        subset(stream, slice=[3])
