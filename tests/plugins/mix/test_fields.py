"""Fields that children lack are filled in, and the number of the child is added, on every route."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import Columns, EagerSourceBase, Pipeline, Select, SpecError, StructuralConfig, from_sequence
from datarax_core.stages import Cast
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode


def memory(placement: str = "device", **columns: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(placement=placement), columns)


def served(made: Any) -> list[dict[str, Any]]:
    return [element for batch in Pipeline(source=made, batch_size=5) for element in rows_of(batch)]


def rows_of(batch: dict[str, Any]) -> list[dict[str, Any]]:
    size = len(next(iter(batch.values())))
    return [{name: np.asarray(column).tolist()[row] for name, column in batch.items()} for row in range(size)]


@pytest.mark.parametrize("placement", ["device", "host"])
def test_a_missing_field_is_filled_and_the_child_is_named(mix: Any, placement: str) -> None:
    made = mix(
        [memory(placement, a=np.arange(6), b=np.ones((6, 2), np.float32)), memory(placement, a=np.arange(10, 16))],
        fill={"b": -1},
        source_field="source",
    )
    assert made.access == placement
    rows = served(made)
    for row in rows:
        assert (row["b"], row["source"]) == (([1, 1], 0) if row["a"] < 10 else ([-1, -1], 1))
    assert [int(element["source"]) for element in made] == [row["source"] for row in rows]
    assert made.element_spec() == {
        "a": jax.ShapeDtypeStruct((), np.int64),
        "b": jax.ShapeDtypeStruct((2,), np.float32),
        "source": jax.ShapeDtypeStruct((), np.int32),
    }
    scanned = Pipeline(source=made, batch_size=6).scan(lambda batch: batch["source"], length=2)
    assert scanned.ravel().tolist() == [row["source"] for row in rows]


@pytest.mark.parametrize("placement", ["device", "host"])
def test_names_with_dots_are_filled(mix: Any, placement: str) -> None:
    made = mix(
        [memory(placement, **{"a": np.arange(2), "b.c": np.arange(2)}), memory(placement, a=np.arange(10, 12))],
        fill={"b.c": 7},
        source_field="d.e",
    )
    rows = served(made)
    assert sorted((row["a"], row["b.c"], row["d.e"]) for row in rows) == [(0, 0, 0), (1, 1, 0), (10, 7, 1), (11, 7, 1)]
    assert Pipeline(source=made, batch_size=4).scan(lambda batch: batch["b.c"], length=1).tolist() == [
        [row["b.c"] for row in rows]
    ]


@pytest.mark.parametrize("placement", ["device", "host"])
def test_text_is_a_host_field_and_is_filled_too(mix: Any, placement: str) -> None:
    words = np.asarray(["a", "b", "c"], object)
    made = mix([memory(placement, i=np.arange(3), t=words), memory(placement, i=np.arange(3, 6))], fill={"t": "none"})
    rows = served(made)
    assert sorted((row["i"], row["t"]) for row in rows) == [
        (0, "a"), (1, "b"), (2, "c"), (3, "none"), (4, "none"), (5, "none"),
    ]  # fmt: skip
    with pytest.raises(SpecError, match="fields that compiled code cannot carry: t"):
        Pipeline(source=made, batch_size=2).scan(lambda batch: batch["i"], length=1)


def test_a_nested_mixture_may_name_its_children_as_well(mix: Any) -> None:
    inner = mix([memory(a=np.arange(3)), memory(a=np.arange(3, 6))], source_field="inner")
    made = mix([inner, mix([memory(a=np.arange(6, 9))], source_field="inner")], source_field="outer")
    for row in served(made):
        assert (row["outer"], row["inner"]) == (row["a"] // 6, row["a"] // 3 % 2)


def test_records_that_are_no_dicts_are_mixed_as_they_are(mix: Any) -> None:
    pairs = [(np.int32(i), np.float32(i)) for i in range(8)]
    made = mix([from_sequence(pairs), from_sequence(pairs[:3])])
    assert made.access == "host"
    (first, _), *_ = made.get_batch(4), None
    assert first.tolist() == [0, 0, 1, 1]
    arrays = mix([MemorySource(MemorySourceConfig(), np.arange(5, dtype=np.int32))] * 2)
    assert arrays.get_batch(4).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("columns", "options", "match"),
    [
        (
            [{"a": np.arange(3)}, {"a": np.arange(3.0)}],
            {},
            r"children of MixDataSourcesNode differ: field 'a' is float64\[\] where int64\[\] is expected in child '1'",
        ),
        (
            [{"a": np.arange(3), "b": np.arange(3)}, {"a": np.arange(3)}],
            {},
            r"field 'b' \(int64\[\]\) is missing in child '1', compared with child '0'; give all children the same",
        ),
        (
            [{"a": np.arange(3)}, {"a": np.arange(3), "b": np.arange(3)}],
            {"names": ("web", "books")},
            r"field 'b' \(int64\[\]\) is not expected in child 'books', compared with child 'web'",
        ),
        (
            [{"a": np.arange(3)}, {"a": np.zeros((3, 2), int)}],
            {},
            r"field 'a' is int64\[2\] where int64\[\] is expected",
        ),
        (
            [{"a": np.arange(3)}] * 2,
            {"fill": {"b": 0}},
            "fill names the field 'b', which no child of MixDataSourcesNode has",
        ),
        (
            [{"a": np.arange(3)}] * 2,
            {"fill": {"a": 0}},
            "fill names the field 'a', which every child of MixDataSourcesNode has",
        ),
        (
            [{"a": np.arange(3)}] * 2,
            {"source_field": "a"},
            "source_field='a' is a field of the children of MixDataSourcesNode",
        ),
        *[
            (
                [{"a": np.arange(3), "b": np.zeros((3, 2), np.int8)}, {"a": np.arange(3)}],
                {"fill": {"b": value}},
                r"fill gives the field 'b' of MixDataSourcesNode the value .*, which is no int8\[2\]",
            )
            for value in (300, 0.5, "x", [1, 2, 3], None)
        ],
        (
            [{"a": np.arange(3), "b": np.zeros(3, np.float32)}, {"a": np.arange(3)}],
            {"fill": {"b": 1e300}},
            r"the value 1e\+300, which is no float32\[\]",
        ),
    ],
)
def test_fields_that_do_not_fit_are_refused_with_child_and_field(
    mix: Any, columns: list[dict[str, Any]], options: dict[str, Any], match: str
) -> None:
    with pytest.raises(SpecError, match=match):
        mix([memory(**fields) for fields in columns], **options)


def test_fields_are_added_to_dicts_only(mix: Any) -> None:
    with pytest.raises(SpecError, match="adds the field 'source' to records, which have to be dicts of named fields"):
        mix([from_sequence([1, 2, 3])] * 2, source_field="source")


def test_records_of_like_fields_in_another_form_are_refused(mix: Any) -> None:
    named, placed = from_sequence([{"0": 1, "1": 2}]), from_sequence([(1, 2)])
    with pytest.raises(SpecError, match=r"records are .* where .* is expected in child '1', compared with child '0'"):
        mix([named, placed])


@pytest.mark.parametrize("value", [np.nan, np.inf, 7, -0.5])
def test_floats_are_filled_with_what_floats_can_be(mix: Any, value: float) -> None:
    made = mix([memory(a=np.arange(2), b=np.zeros(2, np.float32)), memory(a=np.arange(2, 4))], fill={"b": value})
    filled = {row["a"]: row["b"] for row in served(made)}
    assert np.array_equal([filled[2], filled[3]], [value, value], equal_nan=True)


@pytest.mark.parametrize("placement", ["device", "host"])
def test_nested_records_with_text_are_mixed(mix: Any, placement: Any) -> None:
    def child(first: int, size: int) -> EagerSourceBase:
        ids = np.arange(first, first + size, dtype=np.int32)
        tree = {"at": {"id": ids, "text": np.asarray([f"t{i}" for i in ids], object)}, "double": ids * 2}
        return EagerSourceBase(StructuralConfig(), Columns.of_tree(tree), placement=placement)

    made = mix([child(0, 6), child(6, 6)])
    assert made.access == placement
    batches = list(Pipeline(source=made, batch_size=5))
    ids = np.concatenate([batch["at"]["id"] for batch in batches])
    assert sorted(ids.tolist()) == list(range(12))
    assert [text for batch in batches for text in batch["at"]["text"]] == [f"t{i}" for i in ids]
    assert np.concatenate([batch["double"] for batch in batches]).tolist() == (ids * 2).tolist()


@pytest.mark.parametrize("placement", ["device", "host"])
def test_fields_that_a_pipeline_leaves_out_or_converts_are_not_narrowed(placement: Any) -> None:
    def child(start: int) -> MemorySource:
        data = {"a.b": np.arange(start, start + 4), "id": 2**40 + np.arange(4), "t": 1.7e9 + np.arange(4.0)}
        return MemorySource(MemorySourceConfig(placement=placement), data)

    stages = [Cast(field="t", dtype="float32", lossy=True), Select(fields=("a.b", "t"))]
    for parts in ([child(0)], [child(0), child(4)]):
        mixed = MixDataSourcesNode(
            MixDataSourcesConfig(num_sources=len(parts), weights=(1,) * len(parts)), parts, rngs=nnx.Rngs(0)
        )
        for route in ("iteration", "step", "scan", "traced step"):
            batch = first_batch(Pipeline(source=mixed, stages=stages, batch_size=4, rngs=nnx.Rngs(0)), route)
            assert batch.keys() == {"a.b", "t"}
            assert set(batch["a.b"].tolist()) <= set(range(8))
            assert batch["t"].tolist() == np.full(4, 1.7e9, np.float32).tolist()


def first_batch(pipeline: Pipeline, route: str) -> Any:
    if route == "iteration":
        return next(iter(pipeline))
    if route == "scan":
        return jax.tree.map(lambda leaf: leaf[0], pipeline.scan(lambda batch: batch, length=1))
    return nnx.jit(Pipeline.step)(pipeline) if route == "traced step" else pipeline.step()
