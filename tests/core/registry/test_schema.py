"""JSON Schema of pipeline configs: nested plugins, descriptions, choice by type, and agreement with validation."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import jsonschema
import pytest
from pydantic import ConfigDict, Field, PlainValidator

from datarax_core.config.base import NOT_NULL, Count, Integer, LocalPath, Real, never, only_if
from datarax_core.config.models import SourceConfig, SourceConfigBase
from datarax_core.errors import ConfigError
from datarax_core.registry.decoders import AnyDecoder, Decoder, DecoderRegistry
from datarax_core.registry.pipeline_config import AnySource, parse_config
from datarax_core.registry.schema import model_schema
from datarax_core.registry.sources import SourceRegistry
from datarax_core.registry.stages import AnyStage, Stage, StageRegistry
from datarax_core.sources.source import DataSourceModule

if TYPE_CHECKING:
    from conftest import Site


class Plain(Decoder):
    """Decoder without fields."""

    type: Literal["plain"] = "plain"

    def decode_record(self, record: bytes) -> Any:
        return record


class Sized(Plain):
    type: Literal["sized"] = "sized"  # type: ignore[assignment]
    size: Count


class Chain(Stage):
    """Stages, one after another.

    As one.
    """

    type: Literal["chain"] = "chain"
    stages: tuple[AnyStage, ...] = Field(min_length=1, description="What is chained.")
    decoder: AnyDecoder | None = None

    def __call__(self, batch: Any) -> Any:
        return batch


class Still(Stage):
    """The batch as it is."""

    type: Literal["still"] = "still"

    def __call__(self, batch: Any) -> Any:
        return batch


class PilesConfig(SourceConfig):
    """Settings of a `Piles`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: Literal["piles"] = "piles"
    sources: tuple[AnySource, ...] = ()
    """The sources that are piled up."""
    path: LocalPath | None = None
    level: Annotated[Integer, Field(ge=-1, lt=3)] = 0
    share: Annotated[Real, Field(gt=0)] | Literal["all"] = "all"
    tags: frozenset[str] = frozenset()
    decoder: AnyDecoder | None = None
    hook: Callable[[], Any] | None = None
    thing: SourceRegistry | None = None
    odd: Annotated[Any, PlainValidator(lambda value: value)] = None

    schema_rules: ClassVar = (
        *SourceConfig.schema_rules,
        never(path=NOT_NULL, sources={"minItems": 1}),
        only_if({"required": ["path"]}, level={"exclusiveMinimum": 0}),
    )

    def __post_init__(self) -> None:
        if self.path is not None and self.sources:
            raise ValueError("path and sources exclude each other")
        if self.level > 0 and self.path is None:
            raise ValueError("a level needs a path")


class Piles(DataSourceModule):
    config_class = PilesConfig


class NamedConfig(SourceConfigBase):
    type: Literal["named"] = "named"


class Named(DataSourceModule):
    config_class = NamedConfig


@pytest.fixture(scope="module")
def registries() -> dict[str, Any]:
    sources, stages, decoders = SourceRegistry(), StageRegistry(), DecoderRegistry()
    for registry, plugins in ((sources, (Piles, Named)), (stages, (Chain, Still)), (decoders, (Plain, Sized))):
        for plugin in plugins:
            registry.register(plugin)  # type: ignore[attr-defined]
    return {"registry": sources, "stage_registry": stages, "decoder_registry": decoders}


@pytest.fixture(scope="module")
def schema(registries: dict[str, Any]) -> dict[str, Any]:
    given = dict(registries)
    made: dict[str, Any] = given.pop("registry").json_schema(**given)
    return made


def test_it_is_one_schema_of_the_draft_that_it_names(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    names = {
        "source",
        "stage",
        "decoder",
        "source.piles",
        "source.named",
        "stage.chain",
        "stage.still",
        "decoder.plain",
        "decoder.sized",
    }
    assert set(schema["$defs"]) == names


def test_descriptions_and_defaults_are_those_of_the_fields(schema: dict[str, Any]) -> None:
    piles = schema["$defs"]["source.piles"]["properties"]
    assert piles["sources"]["description"] == "The sources that are piled up."
    assert piles["sources"]["items"] == {"$ref": "#/$defs/source"}
    assert schema["properties"]["seed"]["description"] == "Selects every order and every random number."
    assert schema["properties"]["num_epochs"]["default"] == 1
    assert (piles["level"]["minimum"], piles["level"]["exclusiveMaximum"]) == (-1, 3)
    assert not any("title" in value for value in piles.values())
    chosen = schema["$defs"]["stage"]["properties"]["type"]["anyOf"]
    assert chosen[0] == {"const": "chain", "description": "Stages, one after another."}


PLAIN = {"type": "piles"}
CONFIGS: dict[str, list[Any]] = {
    "good": [
        {},
        {"sources": [PLAIN, {"type": "piles", "sources": [PLAIN]}]},
        {"path": "a", "level": 2},
        {"level": -1, "share": 0.5},
        {"share": "all", "tags": ["a", "a"]},
        {"decoder": "plain"},
        {"decoder": {"type": "sized", "size": 1}},
        {"hook": None, "thing": None, "odd": {"any": [1]}},
        {"stochastic": True, "stream_name": "x"},
        {"precomputed_stats": {"a": 1}, "batch_stats_fn": None},
    ],
    "bad": [
        {"type": "pile"},
        {"type": 3},
        {"type": None},
        {"sources": PLAIN},
        {"sources": [{}]},
        {"sources": [PLAIN, {"type": "piles", "sources": [{"type": "piles", "pth": "a"}]}]},
        {"path": ""},
        {"path": 3},
        {"path": "a", "sources": [PLAIN]},
        {"level": 1},
        {"level": 3, "path": "a"},
        {"level": -2},
        {"level": "1"},
        {"level": True},
        {"level": 0.5},
        {"share": 0},
        {"share": "some"},
        {"share": True},
        {"tags": [3]},
        {"tags": "a"},
        {"decoder": "sized"},
        {"decoder": "plane"},
        {"decoder": {"type": "sized"}},
        {"decoder": {"type": "sized", "size": 0}},
        {"decoder": ["plain"]},
        {"hook": "os:system"},
        {"thing": {}},
        {"stochastic": True},
        {"stream_name": "x"},
        {"stochastic": False, "stream_name": "x"},
        {"precomputed_stats": []},
        {"nix": 1},
    ],
}
CHAIN = {"type": "chain", "stages": [{"type": "still"}]}
STAGES = {
    "good": [[], [CHAIN], [{"type": "chain", "stages": [CHAIN, CHAIN], "decoder": "plain"}]],
    "bad": [{}, ["chain"], [{"type": "chain", "stages": []}], [{"type": "chain", "stages": [{"type": "nix"}]}], [None]],
}


def _both(config: Any, schema: dict[str, Any], registries: dict[str, Any]) -> set[bool]:
    """Return whether validation, and the schema, accept a config."""
    try:
        parse_config(config, **registries)
    except ConfigError:
        valid = False
    else:
        valid = True
    return {valid, jsonschema.Draft202012Validator(schema).is_valid(config)}


@pytest.mark.parametrize("kind", ["good", "bad"])
def test_schema_and_validation_agree(schema: dict[str, Any], registries: dict[str, Any], kind: str) -> None:
    for fields in CONFIGS[kind]:
        config = {"batch_size": 1, "source": {**PLAIN, **fields}}
        assert _both(config, schema, registries) == {kind == "good"}, fields
        nested = {"batch_size": 1, "source": {"type": "piles", "sources": [PLAIN, {**PLAIN, **fields}]}}
        assert _both(nested, schema, registries) == {kind == "good"}, nested
    for stages in STAGES[kind]:
        assert _both({"batch_size": 1, "source": PLAIN, "stages": stages}, schema, registries) == {kind == "good"}, (
            stages
        )


@pytest.mark.parametrize(
    ("fields", "is_good"),
    [
        ({}, True),
        ({"include_keys": ["a", "a"]}, True),
        ({"include_keys": []}, False),
        ({"include_keys": ["a"], "exclude_keys": None}, True),
        ({"include_keys": ["a"], "exclude_keys": ["b"]}, False),
        ({"split": ""}, False),
    ],
)
def test_fields_that_exclude_each_other_are_in_the_schema(
    schema: dict[str, Any], registries: dict[str, Any], fields: dict[str, Any], *, is_good: bool
) -> None:  # fmt: skip
    config = {"batch_size": 1, "source": {"type": "named", "name": "a", "split": "b"} | fields}
    assert _both(config, schema, registries) == {is_good}


@pytest.mark.parametrize(
    ("fields", "is_good"),
    [
        ({"drop_last": True, "pad_last": None}, True),
        ({"drop_last": False, "pad_last": "valid"}, True),
        ({"drop_last": True, "pad_last": "valid"}, False),
        ({"seed": 2**32 - 1}, True),
        ({"seed": 2**32}, False),
        ({"num_epochs": None}, True),
        ({"num_epochs": 0}, False),
        ({"batch_size": None}, False),
        ({"batch_size": [[0, 4], [100, 8]]}, True),
        ({"batch_size": []}, False),
        ({"batch_size": [[1, 4]]}, False),
        ({"batch_size": [[0, 0]]}, False),
        ({"batch_size": [[False, 4]]}, False),
        ({"batch_size": [[0, 4, 5]]}, False),
        ({"batch_size": [[0, 4], [9]]}, False),
        ({"batch_size": [[0, 4], [9, 2**31]]}, False),
        ({"source": "piles"}, False),
        ({"sourc": PLAIN}, False),
    ],
)
def test_the_pipeline_s_own_fields_agree(
    schema: dict[str, Any], registries: dict[str, Any], fields: dict[str, Any], *, is_good: bool
) -> None:  # fmt: skip
    assert _both({"batch_size": 1, "source": PLAIN} | fields, schema, registries) == {is_good}


def test_without_decoders_no_decoder_is_valid(registries: dict[str, Any]) -> None:
    schema = registries["registry"].json_schema(stage_registry=StageRegistry(), decoder_registry=DecoderRegistry())
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"batch_size": 1, "source": PLAIN})
    assert not validator.is_valid({"batch_size": 1, "source": {**PLAIN, "decoder": "plain"}})
    assert not validator.is_valid({"batch_size": 1, "source": PLAIN, "stages": [{"type": "chain"}]})


UNSCHEMABLE = """
from typing import Any, Literal
from datarax_core import Stage
class Odd:
    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        return handler(int)
    @classmethod
    def __get_pydantic_json_schema__(cls, core, handler):
        raise ZeroDivisionError("no schema")
class Made(Stage):
    type: Literal["acme"] = "acme"
    odd: Odd = 3
    def __call__(self, batch): return batch
"""


def test_a_plugin_that_cannot_be_used_is_left_out_with_a_note(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("acme-bad", {"acme_bad": "acme_bad:Source"}, code="raise SystemExit('no')")
    site.install("acme-odd", {}, code=UNSCHEMABLE)
    (site.folder / "acme_odd-1.0.dist-info" / "entry_points.txt").write_text("[datarax.stages]\nacme = acme_odd:Made\n")
    site.install_working("acme-off", "acme_off")
    site.install_working("acme-good", "acme_good")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme-off")
    registry = SourceRegistry.from_environment()
    with pytest.warns(UserWarning, match="left out: ") as warned:
        schema = registry.json_schema(stage_registry=StageRegistry.from_environment())
    notes = sorted(str(note.message) for note in warned)
    assert len(notes) == 2
    assert notes[0].startswith(
        "left out: source 'acme_bad' (acme-bad 1.0) failed to import acme_bad:Source: exited with 'no'"
    )
    assert notes[1] == "left out: stage 'acme', whose fields make no JSON Schema: no schema"
    names = {name for name in schema["$defs"] if "acme" in name}
    assert names == {"source.acme_good"}


class Made(Stage):
    """Stage with defaults that factories make."""

    type: Literal["made"] = "made"
    sizes: dict[str, int] = Field(default_factory=lambda: {"a": 1})
    broken: int = Field(default_factory=lambda: 1 // 0)
    count: int = Field(default_factory=lambda data: len(data["sizes"]))


def test_defaults_that_factories_make_are_in_the_schema_unless_they_depend_on_others() -> None:
    fields = model_schema(Made, "made")["properties"]
    assert fields["sizes"]["default"] == {"a": 1}
    assert "default" not in fields["broken"]
    assert "default" not in fields["count"]
