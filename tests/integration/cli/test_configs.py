"""``drx stages``, ``validate``, ``schema`` and ``describe``, as users run them."""

import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from commands import DRX, MODULE, fails, run
from installed_sources import install_stream

from datarax_core._cli.description import as_text, described
from datarax_core.errors import PluginLoadError, PluginNotFoundError
from datarax_core.registry.decoders import default_decoders
from datarax_core.registry.pipeline_config import parse_config
from datarax_core.registry.sources import default_registry
from datarax_core.registry.stages import default_stages

if TYPE_CHECKING:
    from conftest import Site

LOUD = """
print("hello from the plugin")
from typing import Literal
from datarax_core import Stage
class Made(Stage):
    '''What it does.'''
    type: Literal["acme_loud"] = "acme_loud"
    strength: float
    def __call__(self, batch): return batch
"""
GOOD = "batch_size: 4\nsource: {type: memory, path: data.npz}\n"
BAD = "batch_size: 0\nsource: {type: memory, pth: data.npz}\nstages:\n  - type: acme_loud\n"


def _install_loud(site: "Site") -> None:
    site.install("acme-loud", {}, code=LOUD)
    entry = "[datarax.stages]\nacme_loud = acme_loud:Made\n"
    (site.folder / "acme_loud-1.0.dist-info" / "entry_points.txt").write_text(entry)


def test_stages_are_listed_as_sources_are() -> None:
    lines = [line.split() for line in run(DRX, "stages").stdout.splitlines()]
    version = metadata.version("datarax-core")
    assert lines[0] == ["name", "status", "distribution", "version"]
    of_core = [name for name, *line in lines[1:] if line == ["ready", "datarax-core", version]]
    on_host = ["astype", "lookup", "pad", "tokenize_bytes", "truncate"]
    assert of_core == sorted(["cast", "one_hot", "rename", "rescale", "select", *on_host])
    assert lines[1:] == sorted([*lines[1:]])
    assert ["tokenize", "ready", "datarax-text", metadata.version("datarax-text")] in lines


# -- drx validate ---------------------------------------------------------------------------------------------------------


def test_all_problems_of_all_files_are_reported(site: "Site", tmp_path: Path) -> None:
    _install_loud(site)
    for name, text in {"good.yaml": GOOD, "bad.yaml": BAD, "cut.json": '{"a": 1,\n'}.items():
        (tmp_path / name).write_text(text)
    done = run(MODULE, "validate", "bad.yaml", "good.yaml", "cut.json", "none.toml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == "good.yaml: valid\n"
    assert done.stderr.splitlines() == [
        "hello from the plugin",
        "bad.yaml:1: batch_size: should be greater than or equal to 1, not 0",
        "bad.yaml:2: source.pth: unknown field 'pth'; did you mean 'path'?",
        "bad.yaml:4: stages[0].strength: this field is required",
        "cut.json:2:1: not valid JSON: Expecting property name enclosed in double quotes",
        f"none.toml: no such file; check the path and the working folder {tmp_path}",
    ]


def test_problems_as_json(site: "Site", tmp_path: Path) -> None:
    _install_loud(site)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    done = run(DRX, "validate", "--json", "good.yaml", "bad.yaml", cwd=tmp_path)
    good, bad = json.loads(done.stdout)
    assert done.returncode == 1
    assert good == {"file": "good.yaml", "valid": True, "problems": []}
    assert (bad["file"], bad["valid"], len(bad["problems"])) == ("bad.yaml", False, 3)
    message = "unknown field 'pth'; did you mean 'path'?"
    assert bad["problems"][1] == {"message": message, "line": 2, "column": None, "place": "source.pth"}


def test_valid_configs_are_a_success(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    done = run(DRX, "validate", "good.yaml", "good.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "good.yaml: valid\n", "")
    assert run(DRX, "validate").returncode == 2


# -- drx schema -----------------------------------------------------------------------------------------------------------


def test_the_schema_is_printed_whatever_plugins_print(site: "Site") -> None:
    _install_loud(site)
    site.install("acme-bad", {"acme_bad": "acme_bad:Source"}, code="1 / 0")
    done = run(DRX, "schema")
    assert done.returncode == 0
    schema = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "stage.acme_loud" in schema["$defs"]
    first, second = done.stderr.splitlines()
    assert first == "hello from the plugin"
    assert second.startswith(
        "left out: source 'acme_bad' (acme-bad 1.0) failed to import acme_bad:Source: ZeroDivisionError"
    )


def test_the_schema_is_written_for_editors(tmp_path: Path) -> None:
    done = run(DRX, "schema", "--out", "drx.schema.json", cwd=tmp_path)
    assert done.returncode == 0
    assert "\n# yaml-language-server: $schema=drx.schema.json\n" in done.stdout
    schema = json.loads((tmp_path / "drx.schema.json").read_text())
    assert {"source.memory", "source.mix", "source.arrayrecord", "decoder.array"} <= set(schema["$defs"])
    assert "nowhere/a.json: No such file or directory" in fails(DRX, "schema", "--out", "nowhere/a.json", cwd=tmp_path)


# -- drx describe ---------------------------------------------------------------------------------------------------------


def test_a_stage_is_described_with_fields_and_an_example() -> None:
    done = run(DRX, "describe", "one_hot")
    assert done.returncode == 0
    version = metadata.version("datarax-core")
    first, _, doc, *_ = done.stdout.splitlines()
    assert first == f"stage one_hot  (datarax-core {version}, datarax_core.stages.numeric:OneHot)"
    assert doc.startswith("Stage that makes one-hot rows, on a new last axis, of a field of class numbers")
    assert (
        "  classes  integer from 1 to 2147483647; required\n           Number of classes, the length of a row.\n"
        in done.stdout
    )
    assert '  dtype    one of float32, float16, bfloat16, float64; default "float32"\n' in done.stdout
    example = done.stdout.split("\nexample\n")[1]
    assert yaml.safe_load(example) == {"stages": [{"type": "one_hot", "field": "label", "classes": 10}]}


def _described(name: str) -> list[dict[str, Any]]:
    return [asdict(description) for description in described(name)]


NAMES = [name for registry in (default_registry(), default_stages(), default_decoders()) for name in registry.names()]


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_a_valid_config(name: str) -> None:
    (found,) = _described(name)
    source = {"type": "memory"} if found["kind"] == "stage" else {"type": "arrayrecord"}
    whole = {"batch_size": 1, "source": source}
    example = found["example"]
    if found["kind"] == "decoder":
        whole["source"] |= example
    config = parse_config(whole if found["kind"] == "decoder" else whole | example)
    assert config.batch_size
    for field in found["fields"]:
        assert field["description"], field
        assert "anything" not in field["type"], field


WITHOUT_EXAMPLE = """
from typing import Any, Literal
from pydantic import Field
from datarax_core import AnySource, DataSourceModule, SourceConfig
from datarax_core.config import Count, FrozenConfig, Real
class Part(FrozenConfig):
    size: Count = Field(description="How large it is.")
class Config(SourceConfig):
    type: Literal["acme"] = "acme"
    inner: AnySource = Field(description="What is wrapped.")
    parts: tuple[Part, ...] = Field(min_length=2, description="Its parts.")
    level: Real = Field(gt=2)
class Source(DataSourceModule):
    config_class = Config
"""


@pytest.mark.parametrize(
    ("name", "kind", "finer"),
    [
        ("memory", "source", "source"),
        ("tfds_streaming", "source", "source"),
        ("window", "source", "view"),
        ("acme_stream", "source", "stream"),
        ("rescale", "stage", "stage"),
        ("pad", "stage", "host stage"),
        ("rename", "stage", "stage on either side"),
        ("npz", "decoder", "decoder"),
    ],
)
def test_the_finer_kind_of_a_plugin_is_named(site: "Site", name: str, kind: str, finer: str) -> None:
    install_stream(site, end="3")
    (found,) = described(name)
    assert (found.kind, found.finer_kind) == (kind, finer)
    assert as_text(found).startswith(f"{finer} {name}  (")


def test_a_plugin_whose_author_gives_no_example_is_described_without_one(site: "Site") -> None:
    site.install("acme", {"acme": "acme:Source", "acme_bad": "acme:Nothing"}, code=WITHOUT_EXAMPLE)
    text = "\n".join(map(as_text, described("acme")))
    assert "  parts              list of Part; required\n                     Its parts.\n" in text
    assert "Part\n  size  integer from 1; required\n        How large it is.\n" in text
    assert text.endswith("no example: its author gives none")
    (found,) = _described("acme")
    assert found["example"] is None
    with pytest.raises(PluginLoadError, match=r"source 'acme_bad' .* failed to import acme:Nothing"):
        list(described("acme_bad"))


HOOK = """
from typing import Literal
from datarax_core import DataSourceModule, SourceConfig, hookimpl
class Config(SourceConfig):
    type: Literal["acme_entry"] = "acme_entry"
class Entry(DataSourceModule):
    '''An entry of a catalogue.'''
    config_class = Config
class Catalogue:
    @hookimpl
    def datarax_register_sources(self, registry):
        registry.register(Entry)
catalogue = Catalogue()
"""


def test_a_source_that_a_hook_plugin_registers_is_described(site: "Site") -> None:
    site.install("acme", {"acme": "acme:catalogue"}, code=HOOK, group="datarax.hooks")
    done = run(DRX, "describe", "acme_entry")
    assert done.stdout.startswith("source acme_entry  (registered by hand, acme:Entry)\n\nAn entry of a catalogue.")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([{"level": 0}, {"level": 3.0}], {"type": "acme", "level": 3.0}),
        ([{"level": 0}], None),
        ([{"type": "acme", "level": 4.0, "word": "x"}], {"type": "acme", "level": 4.0, "word": "x"}),
    ],
)
def test_the_first_valid_example_of_the_author_is_shown(
    site: "Site", given: list[dict[str, Any]], expected: dict[str, Any] | None
) -> None:
    code = f"""
        from typing import Literal
        from pydantic import ConfigDict, Field
        from datarax_core import DataSourceModule, SourceConfig
        class Config(SourceConfig):
            model_config = ConfigDict(json_schema_extra={{"examples": {given!r}}})
            type: Literal["acme"] = "acme"
            level: float = Field(gt=2)
            word: str = "y"
        class Source(DataSourceModule):
            config_class = Config
    """
    site.install("acme", {"acme": "acme:Source"}, code=code)
    (found,) = _described("acme")
    assert found["example"] == (expected and {"batch_size": 128, "source": expected})


def test_an_unknown_name_is_reported_with_a_close_one(site: "Site") -> None:  # noqa: ARG001 - and nothing more
    with pytest.raises(
        PluginNotFoundError, match=r"^no source, stage or decoder is called 'memry'; did you mean 'memory'\?"
    ):
        list(described("memry"))
    with pytest.raises(
        PluginNotFoundError, match=r"^no source, stage or decoder is called 'qqq'; drx sources, drx stages"
    ):
        list(described("qqq"))
    assert fails(DRX, "describe", "tfdss").startswith("no source, stage or decoder is called 'tfdss'")
