"""Parts of a source by tables: the same records on every route, with the table placed once and its checksum in states."""

import json
import pickle
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_core import Pipeline, StateError, Subset

Make = Callable[..., Any]
ROWS = np.random.default_rng(0).permutation(5000)[:4000]


def ids(pipeline: Pipeline) -> list[int]:
    return [int(i) for batch in pipeline for i in np.asarray(batch["id"])]


@pytest.mark.parametrize("placement", ["device", "host"])
def test_a_table_selects_records_in_its_sequence(placement: Any, make_source: Make) -> None:
    part = make_source(5000, placement=placement)[ROWS]
    assert part.access == placement
    assert ids(Pipeline(source=part, stages=[], batch_size=256, rngs=nnx.Rngs(0))) == ROWS.tolist()
    assert [int(part[i]["id"]) for i in (0, 7, -1)] == ROWS[[0, 7, -1]].tolist()
    assert part.describe_view() == "keeps 4,000 of 5,000 records"
    assert part.whole_column("id").tolist() == ROWS.tolist()


@pytest.mark.parametrize("placement", ["device", "host"])
def test_compiled_code_reads_by_the_table(placement: Any, make_source: Make) -> None:
    part = make_source(5000, placement=placement)[ROWS]
    pipeline = Pipeline(source=part, stages=[], batch_size=100, rngs=nnx.Rngs(0), num_epochs=None)
    assert pipeline.scan(lambda batch: batch["id"].sum(), length=3).tolist() == [
        int(ROWS[i : i + 100].sum()) for i in (0, 100, 200)
    ]
    steps = Pipeline(source=part, stages=[], batch_size=100, rngs=nnx.Rngs(0))
    assert steps.step()["id"].tolist() == ROWS[:100].tolist()
    read = jax.jit(lambda start: part.get_batch_at(start, 4)["id"])
    assert [read(start).tolist() for start in (0, 3999)] == [ROWS[:4].tolist(), [ROWS[-1], *ROWS[:3]]]
    assert nnx.jit(lambda source: source.get_batch(3)["id"])(part).tolist() == ROWS[:3].tolist()


def test_a_table_is_placed_once_and_is_no_constant_of_a_program(make_source: Make) -> None:
    part = make_source(5000)[ROWS]
    first, second = part.compiled_records(), part.copy().compiled_records()
    assert first[0] == second[0]
    assert part.compiled_records()[1][1] is first[1][1]
    assert first[1][1].dtype == np.int32
    text = jax.jit(lambda start: part.get_batch_at(start, 4)["id"]).lower(0).as_text()
    assert len(text) < 40_000


def test_a_mesh_gathers_by_the_table(make_source: Make) -> None:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    part = make_source(5000)[ROWS]
    pipeline = Pipeline(source=part, stages=[], batch_size=256, rngs=nnx.Rngs(0), sharding=sharding)
    assert ids(pipeline) == ROWS.tolist()


def test_a_part_is_shuffled_as_its_source(make_source: Make) -> None:
    source = make_source(5000, shuffle=True)
    part = source[ROWS]
    order = part.record_indices_at(0, 4000, source.order_key_data())
    assert sorted(order.tolist()) == list(range(4000))
    assert ids(Pipeline(source=part, stages=[], batch_size=256, rngs=nnx.Rngs(0))) == ROWS[order].tolist()


def test_masks_lists_and_functions_make_parts(make_source: Make) -> None:
    source = make_source(100)
    assert [int(e["id"]) for e in source[[5, 3, -1]]] == [5, 3, 99]
    assert [int(e["id"]) for e in source[np.arange(100) % 33 == 0]] == [0, 33, 66, 99]
    kept = source.filter(lambda batch: batch["x"][:, 0] > 48, fields=["x"], name="high")
    assert [int(e["id"]) for e in kept] == [97, 98, 99]
    assert kept.title == "Subset 'high' of EagerSourceBase"
    nested = source.where(id=(10, 20))[[0, 5]].where(id=lambda column: column > 10)
    assert isinstance(nested, Subset)
    assert [int(e["id"]) for e in nested] == [15]


def test_parts_are_pickled_copied_and_resumed(make_source: Make) -> None:
    part = make_source(5000, shuffle=True)[ROWS]
    pipeline = Pipeline(source=part, stages=[], batch_size=256, rngs=nnx.Rngs(0))
    whole = ids(pipeline)
    batches = iter(Pipeline(source=part, stages=[], batch_size=256, rngs=nnx.Rngs(0)))
    next(batches)
    for twin in (pickle.loads(pickle.dumps(part)), part.copy(), part.clone()):  # noqa: S301 - just written
        other = Pipeline(source=twin, stages=[], batch_size=128, rngs=nnx.Rngs(0))
        assert ids(other) == whole
    state = json.loads(json.dumps(part.get_state()))
    assert len(json.dumps(state)) < 1500
    with pytest.raises(StateError, match="subset"):
        make_source(5000, shuffle=True)[ROWS[::-1]].set_state(state)


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([0.5], TypeError, "selected by integers, or by one boolean a record"),
        ([3, 100], IndexError, "^record 100 is out of range: HostRecords has 100 records$"),
        ([3, 4, 3], ValueError, "record 3 of HostRecords is selected twice, at places 0 and 2; .* type sample"),
        ([], ValueError, "no record of HostRecords is selected"),
        ([True, False], IndexError, r"has one boolean a record, 100 in all, and this one has shape \[2\]"),
        (np.zeros(100, bool), ValueError, "is False everywhere"),
    ],
)
def test_mistakes_in_tables_are_named(rows: Any, kind: type[Exception], message: str, make_host_source: Make) -> None:
    with pytest.raises(kind, match=message):
        make_host_source(100)[rows]


def test_mistakes_of_predicates_name_the_record(make_host_source: Make) -> None:
    source = make_host_source(100)

    def fails(batch: Any) -> Any:
        if 77 in batch["id"]:
            raise KeyError("no such thing")
        return batch["id"] > 3

    with pytest.raises(KeyError, match="record 77 fails by itself: KeyError"):
        source.filter(fails)
    with pytest.raises(TypeError, match=r"the filter gave int32 of shape \[32\] for records 0 .. 31 of HostRecords"):
        source.filter(lambda batch: batch["id"])
    with pytest.raises(TypeError, match=r"the filter gave bool of shape \[\] .* return one boolean a record"):
        source.filter(lambda _: True)
    with pytest.raises(ValueError, match=r"^the function of filter\(\) keeps none of the 100 records of HostRecords"):
        source.filter(lambda batch: batch["id"] < 0)
    not_a_function: Any = 3
    with pytest.raises(TypeError, match=r"^filter\(\) of HostRecords takes a function of a batch .* go to where\(\)$"):
        source.filter(not_a_function)


def test_reports_say_what_the_records_of_a_part_have_in_common(make_source: Make) -> None:
    source = make_source(100)
    assert source.where(id=[3, 5]).describe_view() == "keeps 2 of 100 records where id is 3 or 5"
    low = source.filter(lambda batch: batch["id"] < 10)
    assert low.describe_view() == "keeps 10 of 100 records that <lambda> keeps"
    assert (
        "Subset: keeps 2 of 100 records where id is 3 or 5"
        in Pipeline(source=source.where(id=[3, 5]), batch_size=2).plan()
    )
    assert pickle.loads(pickle.dumps(low)).describe_view() == low.describe_view()  # noqa: S301 - our own pickle
