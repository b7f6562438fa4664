"""Mixtures of children whose records vary in length: joined in the mixture's order, and refused where they differ."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from datarax_arrayrecord import ArrayRecordSourceModule
from datarax_arrayrecord import write as write_array_records
from datarax_core import DataSourceModule, Pipeline, SpecError, StreamingSourceBase, StructuralConfig, from_sequence
from datarax_core.records import Ragged
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode


def documents(child: int, count: int) -> dict[str, Any]:
    """Return records whose tokens are their number, as often as it says modulo 5."""
    ids = 1000 * child + np.arange(count, dtype=np.int32)
    return {
        "id": ids,
        "tokens": Ragged.from_list([np.full(n % 5, n, np.int32) for n in ids.tolist()], np.int32, (None,)),
    }


def memory(placement: str = "device", **columns: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(placement=placement), columns)


def served(made: Any, batch_size: int = 7, **options: Any) -> list[int]:
    """Return the ids of all records in order, after checking the tokens of each."""
    found: list[int] = []
    for batch in Pipeline(source=made, batch_size=batch_size, **options):
        assert isinstance(batch["tokens"], Ragged)
        ids = np.asarray(batch["id"]).tolist()
        assert [row.tolist() for row in batch["tokens"]] == [[number] * (number % 5) for number in ids]
        found += ids
    return found


def mix(children: list[Any], **config: Any) -> MixDataSourcesNode:
    return MixDataSourcesNode(
        MixDataSourcesConfig(num_sources=len(children), **{"weights": (1.0,) * len(children), **config}),
        children,
        rngs=nnx.Rngs(0),
    )


class Stream(StreamingSourceBase):
    """The records of `documents`, one after another, forward only."""

    def element_spec(self) -> Any:
        return {"id": jax.ShapeDtypeStruct((), np.int32), "tokens": jax.ShapeDtypeStruct((None,), np.int32)}

    def __len__(self) -> int:
        return 40

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:  # noqa: ARG002 - the signature of streams
        whole = documents(7, 40)
        return iter([{name: column[row] for name, column in whole.items()} for row in range(start, 40)])


@pytest.fixture(params=["memory", "arrayrecord", "sequence"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> DataSourceModule:
    if request.param == "memory":
        return memory(**documents(1, 20))
    if request.param == "arrayrecord":
        return ArrayRecordSourceModule(write_array_records(tmp_path / "x.array_record", documents(1, 20)).config)
    whole = documents(1, 20)
    return from_sequence([{name: column[row] for name, column in whole.items()} for row in range(20)])


@pytest.mark.parametrize("sampling", ["proportional", "categorical"])
def test_ragged_columns_of_children_are_joined(other: DataSourceModule, sampling: str) -> None:
    made = mix([memory(**documents(0, 30)), other], sampling=sampling)
    assert made.element_spec()["tokens"] == jax.ShapeDtypeStruct((None,), np.int32)
    found = served(made)
    assert found == served(made.copy(), batch_size=50)
    assert {number // 1000 for number in found} == {0, 1}
    assert [int(element["id"]) for element in made.copy()] == found[: len(found)]


def test_workers_and_states_join_them_alike() -> None:
    def made() -> MixDataSourcesNode:
        return mix([memory("host", **documents(0, 30)), memory("host", **documents(1, 20))])

    found = served(mix([memory(**documents(0, 30)), memory(**documents(1, 20))]))
    assert served(made()) == served(made(), workers=1) == served(made(), threads=3) == found
    pipeline, resumed = Pipeline(source=made(), batch_size=10), Pipeline(source=made(), batch_size=10)
    next(iter(pipeline))
    resumed.set_state(pipeline.get_state())
    assert [row.tolist() for row in next(iter(resumed))["tokens"]] == [[n] * (n % 5) for n in found[10:20]]


def test_a_stream_is_mixed_with_records_by_index() -> None:
    assert len(served(mix([Stream(StructuralConfig()), memory(**documents(1, 40))]))) == 80


@pytest.mark.parametrize("filled", [[], [5, 6]])
def test_a_field_that_some_children_lack_is_filled(filled: list[int]) -> None:
    bare = memory(id=np.arange(2000, 2020, dtype=np.int32))
    made = mix([memory(**documents(0, 20)), bare], fill={"tokens": filled}, source_field="child")
    batches = list(Pipeline(source=made, batch_size=8))
    rows = [
        (int(number), int(child), tokens.tolist())
        for batch in batches
        for number, child, tokens in zip(batch["id"], batch["child"], batch["tokens"], strict=True)
    ]
    assert len(rows) == 40
    for number, child, tokens in rows:
        assert tokens == (filled if child else [number] * (number % 5))
    assert [element["tokens"].tolist() for element in made] == [tokens for _, _, tokens in rows]
    with pytest.raises(
        SpecError, match=r"fill gives the field 'tokens' of .* the value \[1.5\], which is no int32\[None\]"
    ):
        mix([memory(**documents(0, 20)), memory(id=np.arange(3, dtype=np.int32))], fill={"tokens": [1.5]})


def test_lists_of_text_of_any_length_are_joined() -> None:
    words = Ragged.from_list([["a"], [], ["b", "c"]], object, (None,))
    made = mix([memory(words=words), memory(words=words)])
    found = [row.tolist() for batch in Pipeline(source=made, batch_size=4) for row in batch["words"]]
    assert sorted(found) == sorted([["a"], [], ["b", "c"]] * 2)


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (np.zeros((4, 3), np.int32), r"int32\[3\] where int32\[None\]"),
        (Ragged.from_list([[1], [2, 3], [], []], np.int64), r"int64\[None\] where int32\[None\]"),
        (Ragged.from_list([[[1, 2]], [], [], []], np.int32, (None, 2)), r"int32\[None, 2\] where int32\[None\]"),
    ],
)
def test_children_that_differ_in_which_axes_vary_are_refused(column: Any, found: str) -> None:
    columns = {"id": np.arange(4, dtype=np.int32), "tokens": column}
    with pytest.raises(
        SpecError, match=rf"field 'tokens' is {found} is expected in child '1', compared with"
    ) as caught:
        mix([memory(**documents(0, 4)), memory(**columns)])
    advice = "'tokens' varies in length in one child and has to in all: Ragged.from_list(records) in Python, shape: [null] in a"
    assert (advice in str(caught.value)) == isinstance(column, np.ndarray)


def test_text_of_any_width_and_as_objects_mixes() -> None:
    texts = [["abc", "d"], ["a text that is longer", "e"], np.array(["x", "y" * 40], object)]
    made = mix([memory(text=np.array(one)) if isinstance(one, list) else memory(text=one) for one in texts])
    found = [text for batch in Pipeline(source=made, batch_size=4) for text in batch["text"].tolist()]
    assert sorted(found) == sorted(text for one in texts for text in one)
    assert made.fingerprint()["element_spec"] in ({"text": "text[]"}, {"text": "object[]"})
