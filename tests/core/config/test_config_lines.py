"""Every problem of a config file is reported with its line, in each of the three formats, and with its place."""

import pickle
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from datarax_core.config.base import Count, LocalPath, Real
from datarax_core.config.lines import in_toml
from datarax_core.config.models import SourceConfig
from datarax_core.errors import ConfigError
from datarax_core.registry.decoders import AnyDecoder, Decoder, DecoderRegistry
from datarax_core.registry.pipeline_config import AnySource, load_config, parse_config
from datarax_core.registry.sources import SourceRegistry
from datarax_core.registry.stages import Stage, StageRegistry
from datarax_core.sources.source import DataSourceModule


class Packed(Decoder):
    type: Literal["packed"] = "packed"
    fields: dict[str, Count]

    def decode_record(self, record: bytes) -> Any:
        return record


class PilesConfig(SourceConfig):
    type: Literal["piles"] = "piles"
    sources: tuple[AnySource, ...] = ()
    weights: tuple[Real, ...] | Literal["even"] = "even"
    paths: tuple[LocalPath, ...] = ()
    decoder: AnyDecoder | None = None


class Piles(DataSourceModule):
    config_class = PilesConfig


class Shift(Stage):
    type: Literal["shift"] = "shift"
    by: Annotated[Real, Field(gt=0)]

    def __call__(self, batch: Any) -> Any:
        return batch


@pytest.fixture
def registries() -> dict[str, Any]:
    sources, stages, decoders = SourceRegistry(), StageRegistry(), DecoderRegistry()
    sources.register(Piles)
    stages.register(Shift)
    decoders.register(Packed)
    return {"registry": sources, "stage_registry": stages, "decoder_registry": decoders}


YAML = """\
# a comment
batch_size: many
source:
  type: piles
  sources:
    - &first
      type: piles
      pahts: [a]
    - {type: piles, weights: odd}

    - type: piles
      decoder:
        type: packed
        fields:
          pose.left: 0
          "x": 1
    - <<: *first
  weights: [1,
    .5,
    true]
stages:
  - type: shift
  - {type: shift, by: 0}
  - type: shfit
seeds: 1
"""
JSON = """\
{
  "batch_size": "many",
  "source": {"type": "piles",
    "sources": [
      {"type": "piles",
       "pahts": ["a"]},
      {"type": "piles", "weights": "odd"}, {
        "type": "piles",
        "decoder": {"type": "packed", "fields": {"\\u0070ose.left":
          0, "x": 1}}}],
    "weights": [1, 0.5,

      true]
  },
  "stages": [{"type": "shift"}, {"type": "shift", "by": 0},
    {"type": "shfit"}
  ],
  "seeds": 1
}
"""
TOML = """\
# a comment
batch_size = "many"
seeds = 1
stages = [
  {type = "shift"}, # the first
  {type = "shift", by = 0.0},
  {type = "shfit"},
]

[source]
type = "piles"
weights = [
  1, 0.5,

  true]

[[source.sources]]
type = "piles"
pahts = ["a"]
[[source.sources]]
type = "piles"
weights = 'odd'
[[source.sources]]
type = "piles"
[source.sources.decoder]
type = "packed"
fields."pose.left" = 0
fields.x = 1
"""

NESTED = """\
batch_size = 1
[source]
type = "piles"
sources = [ # ]
  {type = "piles"}, # [
  {type = "piles", weights = [
1,
""]}
]
"""
TABLES = """\
batch_size = 1
[source]
type = "piles"
[[source.sources]]
type = "piles"
[[source.sources.sources]]
type = "piles"
[[source.sources]]
type = "piles"
[[source.sources.sources]]
type = "x"
"""

NOT_ODD = "should be a list, or 'even', not 'odd'"
UNKNOWN = "unknown field 'pahts'; did you mean 'paths'?"
EXPECTED = {  # place: message, and the line in YAML, JSON and TOML, where an item of a list has the line of its statement
    "batch_size": ("should be a valid integer, not 'many'", 2, 2, 2),
    "source.sources[0].pahts": (UNKNOWN, 8, 6, 19),
    "source.sources[1].weights": (NOT_ODD, 9, 7, 22),
    "source.sources[2].decoder.fields['pose.left']": ("should be greater than or equal to 1, not 0", 15, 9, 27),
    "source.weights[2]": ("should be a valid number, not True", 20, 13, 12),
    "stages[0].by": ("this field is required", 22, 15, 4),
    "stages[1].by": ("should be greater than 0, not 0", 23, 15, 4),
    "stages[2].type": ("unknown stage 'shfit'; did you mean 'shift'? (installed: shift)", 24, 16, 4),
    "seeds": ("unknown field 'seeds'; did you mean 'seed'?", 25, 18, 3),
}


def problems_of(path: Path, registries: dict[str, Any]) -> dict[str, tuple[str, int | None]]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, **registries)
    problems = caught.value.problems
    assert str(caught.value).splitlines() == [str(problem) for problem in problems]
    assert [problem.line for problem in problems] == sorted(problem.line or 0 for problem in problems)
    assert {problem.file for problem in problems} == {str(path)}
    return {problem.place: (problem.message, problem.line) for problem in problems}


@pytest.mark.parametrize(("name", "text", "column"), [("a.yaml", YAML, 1), ("a.json", JSON, 2), ("a.toml", TOML, 3)])
def test_all_problems_are_reported_at_once_with_their_lines(
    registries: dict[str, Any], tmp_path: Path, name: str, text: str, column: int
) -> None:
    (tmp_path / name).write_text(text)
    expected = {place: (message[0], message[column]) for place, message in EXPECTED.items()}
    if name == "a.yaml":  # a merged key stands where it was written
        expected["source.sources[3].pahts"] = (UNKNOWN, 8)
    found = problems_of(tmp_path / name, registries)
    assert {place: (message.replace("0.0", "0"), line) for place, (message, line) in found.items()} == expected


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('batch_size = 1\n\nsource.type = "pile"\n', {"source.type": 3}),
        ('batch_size = 1\n[source]\n\n# x\ntype = "piles"\n["source".decoder]\ntype = "x"\n', {"source.decoder.type": 7}),
        ('batch_size = 0\r\nsource = {type = "piles", weights = [[]]}\r\n',
         {"batch_size": 1, "source.weights[0]": 2}),
        ('batch_size = 1\n[source]\ntype = """\npiles\n"""\n', {"source.type": 3}),
        (NESTED, {"source.sources[1].weights[1]": 4}),
        ("batch_size = 1\n[source]\ntype = 'piles'\npaths = [\n'''\n[source]\n''', 3]\n", {"source.paths[1]": 4}),
        ('batch_size = 1\nsource.type = "piles"\n[[stages]]\ntype = "shift"\nby = 1.0\n[[stages]]\ntype = "shift"\n',
         {"stages[1].by": 6}),
        (TABLES, {"source.sources[1].sources[0].type": 11}),
    ],
)  # fmt: skip
def test_a_value_in_toml_has_the_line_on_which_its_statement_begins(
    registries: dict[str, Any], tmp_path: Path, text: str, lines: dict[str, int]
) -> None:
    (tmp_path / "a.toml").write_text(text, newline="")
    found = problems_of(tmp_path / "a.toml", registries)
    assert {place: line for place, (_, line) in found.items()} == lines


def test_a_missing_field_is_reported_at_the_mapping_that_lacks_it(registries: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("\nsource:\n  weights: [1]\n")
    found = problems_of(tmp_path / "a.yaml", registries)
    assert {place: line for place, (_, line) in found.items()} == {"source.type": 2, "batch_size": 1}


def test_a_python_mapping_has_places_but_no_lines(registries: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^config: source\.weights: should be a list, or 'even', not 3$") as caught:
        parse_config({"batch_size": 1, "source": {"type": "piles", "weights": 3}}, **registries)
    (problem,) = caught.value.problems
    assert (problem.line, problem.place) == (None, "source.weights")
    assert pickle.loads(pickle.dumps(caught.value)).problems == (problem,)  # noqa: S301 - our own bytes


def test_a_config_keeps_the_lines_of_its_file_but_not_in_pickles(registries: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        dedent("""\
        batch_size: 2
        source: {type: piles}
        stages:
          - type: shift
            by: 2
    """)
    )
    config = load_config(path, **registries)
    assert str(config.problem(("stages", 0, "by"), "is odd")) == f"{path}:5: stages[0].by: is odd"
    assert str(config.problem((), "is odd")) == f"{path}:1: is odd"
    twin = pickle.loads(pickle.dumps(config))  # noqa: S301 - our own bytes
    assert twin == config
    assert str(twin.problem(("stages", 0, "by"), "is odd")) == f"{path}: stages[0].by: is odd"


@pytest.mark.parametrize("depth", [30, 2_000])
def test_deeply_nested_configs_are_read_or_refused(registries: dict[str, Any], depth: int) -> None:
    source: dict[str, Any] = {"type": "piles", "weights": "odd"}
    for _ in range(depth):
        source = {"type": "piles", "sources": [source]}
    with pytest.raises(ConfigError, match=r"sources\[0\]\.weights: should be|nested too deeply to be a config"):
        parse_config({"batch_size": 1, "source": source}, **registries)


def test_a_toml_key_of_thousands_of_dots_has_its_line() -> None:
    deep = in_toml("batch_size = 3\n" + ".".join(["a"] * 5000) + " = 1\n")
    assert deep.at(("a",) * 5000).line == 2
