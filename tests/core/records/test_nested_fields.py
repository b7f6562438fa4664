"""Records that are dicts of dicts: nested columns, and nested host fields such as text, which keep their place."""

import itertools
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core import Columns, DataSourceModule, Pipeline, SpecError, StructuralConfig, prefetch_to_device
from datarax_core.records.names import DOTTED_PATTERN, dotted_name, plain_name, split_name
from datarax_core.records.spec import nested_fields, split_host_fields, with_host_fields

MakeSource = Callable[..., Any]
TREE = {
    "id": np.arange(10),
    "scene": {"state": np.arange(20, dtype=np.float32).reshape(10, 2), "text": np.array([f"t{i}" for i in range(10)])},
    "about": {"deep": {"text": np.array([f"deep {i}" for i in range(10)])}},
}


class Nested(DataSourceModule):
    """A third party's host source of nested records."""

    def __len__(self) -> int:
        return 10

    def element_spec(self) -> Any:
        return jax.tree.map(lambda column: jax.ShapeDtypeStruct(column.shape[1:], column.dtype), TREE)

    def get_records(self, indices: Any) -> Any:
        return jax.tree.map(lambda column: column[indices], TREE)


@pytest.fixture(params=["device", "host", "third party"])
def source(make_source: MakeSource, request: pytest.FixtureRequest) -> Any:
    if request.param == "third party":
        return Nested(StructuralConfig())
    return make_source(Columns.of_tree(TREE), shuffle=True, placement=request.param)


def add_double(batch: Any) -> Any:
    assert set(batch) == {"id", "scene"}
    assert set(batch["scene"]) == {"state"}
    return {**batch, "scene": {**batch["scene"], "double": batch["scene"]["state"] * 2}}


def test_nested_fields_pass_stages_and_nested_text_keeps_its_place(source: Any) -> None:
    pipeline = Pipeline(source=source, batch_size=4, stages=[add_double])
    batches = [*pipeline, pipeline.step()]
    for batch in batches:
        ids = np.asarray(batch["id"])
        assert batch["about"]["deep"]["text"].tolist() == TREE["about"]["deep"]["text"][ids].tolist()  # type: ignore[index]
        assert batch["scene"]["text"].tolist() == TREE["scene"]["text"][ids].tolist()  # type: ignore[call-overload]
        assert np.array_equal(batch["scene"]["state"], TREE["scene"]["state"][ids])  # type: ignore[call-overload]
        assert np.array_equal(batch["scene"]["double"], batch["scene"]["state"] * 2)
    assert sorted(np.concatenate([batch["id"] for batch in batches[:-1]])) == list(range(10))
    spec = pipeline.element_spec()
    assert jax.tree.structure(spec) == jax.tree.structure(batches[0])
    assert spec["scene"]["text"].dtype == TREE["scene"]["text"].dtype  # type: ignore[call-overload]


def test_compiled_code_refuses_nested_text_by_its_dotted_name(source: Any) -> None:
    with pytest.raises(SpecError, match=r"cannot carry: about\.deep\.text, scene\.text; leave them out"):
        Pipeline(source=source, batch_size=4).scan(lambda batch: batch, length=1)


def test_nested_columns_are_data_and_elements_as_they_were_given(make_source: MakeSource) -> None:
    source = make_source(Columns.of_tree(TREE))
    assert jax.tree.all(jax.tree.map(lambda given, held: given is held, TREE, source.data))
    assert source[3]["about"]["deep"]["text"] == "deep 3"
    held = {"id": TREE["id"], "scene": {"state": TREE["scene"]["state"]}}  # type: ignore[call-overload]
    whole = make_source(Columns.of_tree(held)).collect_to_array()
    assert jax.tree.all(jax.tree.map(np.array_equal, held, whole))


def test_nested_batches_are_prefetched_to_the_device() -> None:
    (batch,) = prefetch_to_device([TREE])
    assert isinstance(batch["scene"]["state"], jax.Array)
    assert batch["about"]["deep"]["text"].tolist() == TREE["about"]["deep"]["text"].tolist()  # type: ignore[index]


def test_a_new_field_may_not_have_the_name_of_a_host_field() -> None:
    device_fields, host_fields = split_host_fields(TREE)
    assert host_fields == {"scene": {"text": TREE["scene"]["text"]}, "about": TREE["about"]}  # type: ignore[call-overload]
    joined = with_host_fields(device_fields, host_fields)
    assert jax.tree.structure(joined) == jax.tree.structure(TREE)
    for taken in ({**device_fields, "about": np.arange(10)}, {**device_fields, "scene": {"text": np.arange(10)}}):
        with pytest.raises(SpecError, match=r"cannot be added: the batch has a field '(about|text)' already; choose"):
            with_host_fields(taken, host_fields)
    with pytest.raises(SpecError, match="needs batches that are dicts of named fields, not ndarray"):
        with_host_fields(np.arange(3), host_fields)


def test_a_dot_in_a_name_is_part_of_the_name(make_source: MakeSource) -> None:
    tree = {
        "observation.state": np.arange(8.0, dtype=np.float32).reshape(4, 2),
        "observation": {"state": np.arange(4), "state.text": np.array(["a", "b", "c", "d"])},
    }
    for placement in ("device", "host"):
        source = make_source(Columns.of_tree(tree), placement=placement)
        pipeline = Pipeline(source=source, batch_size=4)
        for batch in (next(iter(pipeline)), pipeline.step(), source.get_batch(4)):
            assert jax.tree.structure(batch) == jax.tree.structure(tree)
            assert batch["observation.state"].tolist() == tree["observation.state"].tolist()  # type: ignore[attr-defined]
            assert batch["observation"]["state"].tolist() == [0, 1, 2, 3]
        assert source.fingerprint()["element_spec"].keys() == {
            "observation\\.state", "observation.state", "observation.state\\.text"
        }  # fmt: skip
        with pytest.raises(SpecError, match=r"cannot carry: observation\.state\\\.text; leave them out"):
            pipeline.scan(lambda batch: batch, length=1)


def test_dotted_names_lead_back_to_their_names() -> None:
    steps = ["a", "a.b", "\\", "a\\", "a\\.b", "a\\b", ".", "a..b"]
    for path in itertools.product(steps, repeat=2):
        assert split_name(dotted_name(path)) == path
        assert re.match(DOTTED_PATTERN, dotted_name(path))
        assert nested_fields({dotted_name(path): 1}) == {path[0]: {path[1]: 1}}
    assert dotted_name(["a", "b.c", "d\\e"]) == "a.b\\.c.d\\e"
    assert plain_name("a.b\\.c") == "a.b.c"
    assert len({dotted_name(path) for path in itertools.product(steps, repeat=2)}) == len(steps) ** 2
