"""A child's own ``select`` and ``rename``: children with other field names mix, on every route and before narrowing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core import (
    ConfigError,
    DataSourceModule,
    Pipeline,
    SpecError,
    StreamingSourceBase,
    StructuralConfig,
    build_source,
)
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_mix import MixDataSourcesConfig, MixDataSourcesNode

TOO_WIDE = 2**40 + np.arange(3)  # a device would refuse these


def memory(placement: str = "device", **columns: Any) -> MemorySource:
    return MemorySource(MemorySourceConfig(placement=placement), columns)


def children(placement: str) -> list[MemorySource]:
    return [
        memory(placement, image=np.arange(3), label=np.array(["a", "b", "c"])),
        memory(placement, hash=TOO_WIDE, img=np.arange(10, 13), lbl=np.array(["four", "five", "six"])),
    ]


CHOICE: dict[str, Any] = {"select": {"1": ["lbl", "img"]}, "rename": {"1": {"img": "image", "lbl": "label"}}}
ROWS = [(0, "a"), (1, "b"), (2, "c"), (10, "four"), (11, "five"), (12, "six")]


def pairs(batch: dict[str, Any]) -> list[tuple[int, str]]:
    return list(zip(np.asarray(batch["image"]).tolist(), batch["label"].tolist(), strict=True))


@pytest.mark.parametrize("placement", ["device", "host"])
def test_children_with_other_field_names_mix(mix: Any, placement: str) -> None:
    made = mix(children(placement), **CHOICE)
    assert made.access == placement
    assert set(made.element_spec()) == {"image", "label"}
    served = [pair for batch in Pipeline(source=made, batch_size=4) for pair in pairs(batch)]
    assert sorted(served) == ROWS
    assert sorted((int(element["image"]), str(element["label"])) for element in made) == ROWS
    assert pairs(made.get_records(np.arange(6))) == ROWS
    assert sorted((int(e["image"]), str(e["label"])) for e in made.to_grain_iter_dataset()) == ROWS


@pytest.mark.parametrize("placement", ["device", "host"])
def test_a_compiled_loop_reads_the_chosen_fields(mix: Any, placement: str) -> None:
    one = memory(placement, x=np.arange(4), nested=np.arange(4))
    other = memory(placement, y=np.arange(10, 14), hash=np.full(4, 2**40))
    made = mix([one, other], select={"0": ["x"], "1": ["y"]}, rename={"1": {"y": "x"}})
    found = Pipeline(source=made, batch_size=4).scan(lambda batch: batch["x"], length=2)
    assert sorted(found.ravel().tolist()) == [0, 1, 2, 3, 10, 11, 12, 13]


def test_two_fields_change_places_and_a_state_of_the_other_naming_is_refused(mix: Any) -> None:
    def made(**options: Any) -> MixDataSourcesNode:
        return mix([memory(a=np.zeros(3, int), b=np.ones(3, int))], **options)  # type: ignore[no-any-return]

    swapped = made(rename={"0": {"a": "b", "b": "a"}})
    assert {name: column.tolist() for name, column in swapped.get_batch(2).items()} == {"b": [0, 0], "a": [1, 1]}
    swapped.set_state(swapped.get_state())
    with pytest.raises(ValueError, match=r"fields was .* and is None"):
        made().set_state(swapped.get_state())


def test_fields_are_filled_in_by_the_names_of_the_mixture(mix: Any) -> None:
    made = mix(
        [memory(a=np.arange(2), b=np.arange(2)), memory(c=np.arange(2))], rename={"1": {"c": "a"}}, fill={"b": 7}
    )
    assert sorted(made.get_batch(4)["b"].tolist()) == [0, 1, 7, 7]


class Words(StreamingSourceBase):
    """A stream whose texts grow longer."""

    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"word": jax.ShapeDtypeStruct((), np.dtype("<U3"))}

    def records_from(self, epoch: int, start: int) -> Iterator[dict[str, str]]:  # noqa: ARG002 - the same in each epoch
        for place in range(start, 4):
            yield {"word": "long" * place}


def test_a_stream_takes_them_too_and_no_text_is_cut_off(mix: Any) -> None:
    stream: DataSourceModule = Words(StructuralConfig())
    made = mix([memory(text=np.array(["ab", "c"])), stream], weights=(0.5, 0.5), rename={"1": {"word": "text"}})
    assert sorted(made.get_batch(4)["text"].tolist()) == ["", "ab", "c", "long"]
    assert sorted(made.get_batch(4)["text"].tolist()) == ["ab", "c", "longlong", "longlonglong"]


def test_a_config_names_children_and_fields(tmp_path: Path) -> None:
    for name, columns in {"web": {"img": np.arange(3), "url": TOO_WIDE}, "books": {"image": np.arange(4, 6)}}.items():
        np.savez(tmp_path / f"{name}.npz", **columns)
    config = {
        "type": "mix",
        "weights": {"web": 0.5, "books": 0.5},
        "sources": {name: {"type": "memory", "path": str(tmp_path / f"{name}.npz")} for name in ("web", "books")},
        "select": {"web": ["img"]},
        "rename": {"web": {"img": "image"}},
    }
    assert sorted(batch for batch in build_source(config).get_batch(4)["image"].tolist()) == [0, 1, 4, 5]
    with pytest.raises(ConfigError, match="select names the child 'wbe', and the children are 'web', 'books'"):
        build_source(config | {"select": {"wbe": ["img"]}})


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"select": {"2": ["image"]}}, ValueError, "select names the child '2', and the children of .* are '0', '1'"),
        (
            {"select": {"1": ["imag"]}},
            SpecError,
            "'imag' of child '1' of MixDataSourcesNode, which has .*; did you mean 'im",
        ),
        (
            {**CHOICE, "select": {"1": ["image"]}},
            SpecError,
            "select comes before rename: name the field as the child does",
        ),
        (
            {"rename": {"1": {"xyz": "y"}}},
            SpecError,
            "rename names the field 'xyz' of child '1' .* has 'hash', .*; name one",
        ),
        (
            {"select": {"1": ["img"]}, "rename": {"1": {"lbl": "label"}}},
            SpecError,
            "gives 'lbl' .* and select drops it",
        ),
        ({"rename": {"1": {"img": "lbl"}}}, SpecError, "'img' and 'lbl' of child '1' of .* would both be called 'lbl'"),
        ({"rename": {"1": {"img": "x", "lbl": "x"}}}, ValueError, "two fields are renamed to 'x'"),
        ({"select": {"1": ["img", "img"]}}, ValueError, "the field 'img' is named twice; name it once"),
        ({"select": {"1": []}}, ValueError, "at least 1 item"),
        ({}, SpecError, "choose and name them with `select` and `rename`, and add missing ones with `fill`"),
    ],
)
def test_a_choice_that_cannot_be_made_names_the_child(
    mix: Any, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        mix(children("device"), **options)


def test_fields_are_chosen_of_named_fields_only(mix: Any) -> None:
    numbers = MemorySource(MemorySourceConfig(), np.arange(3))
    with pytest.raises(SpecError, match="child '0' of MixDataSourcesNode has records without named fields"):
        mix([numbers], select={"0": ["x"]})


@pytest.mark.parametrize("weights", [(1e308, 1e308), (1.7e308, 1e307, 1e307)])
def test_weights_too_large_to_be_added_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"weights add up to more than a number of 64 bits holds, .* divide them by the"
    ):
        MixDataSourcesConfig(num_sources=len(weights), weights=weights)
