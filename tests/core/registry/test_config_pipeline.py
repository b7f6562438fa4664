"""Configs of pipelines: sources by name at any depth, every mistake with its place, and files."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from datarax_core.config.base import LocalPath
from datarax_core.config.models import SourceConfig
from datarax_core.errors import ConfigError, PluginLoadError, PluginNotFoundError
from datarax_core.registry.pipeline_config import AnySource, PipelineConfig, load_config, parse_config
from datarax_core.registry.sources import SourceRegistry
from datarax_core.sources.source import DataSourceModule

if TYPE_CHECKING:
    from conftest import Site


class FilesConfig(SourceConfig):
    type: Literal["files"] = "files"
    paths: tuple[LocalPath, ...]


class Files(DataSourceModule):
    config_class = FilesConfig


class BlendConfig(SourceConfig):
    type: Literal["blend"] = "blend"
    weights: tuple[float, ...] = ()
    sources: tuple[AnySource, ...]


class Blend(DataSourceModule):
    config_class = BlendConfig


@pytest.fixture
def registry() -> SourceRegistry:
    made = SourceRegistry()
    made.register(Files)
    made.register(Blend)
    return made


def _blend(*sources: Any) -> dict[str, Any]:
    return {"type": "blend", "sources": list(sources)}


FILES: dict[str, Any] = {"type": "files", "paths": ["a.bin"]}


# -- sources by name ----------------------------------------------------------------------------------------------------


def test_a_source_is_validated_by_the_class_behind_its_type(registry: SourceRegistry) -> None:
    config = parse_config({"source": FILES, "batch_size": 4}, registry=registry)
    assert config.source == FilesConfig(paths=("a.bin",))
    assert config == PipelineConfig(source=FilesConfig(paths=("a.bin",)), batch_size=4)


def test_a_config_object_is_accepted_in_place_of_a_mapping(registry: SourceRegistry) -> None:
    files = FilesConfig(paths=("a.bin",))
    config = parse_config({"source": _blend(files, FILES), "batch_size": 4}, registry=registry)
    assert isinstance(config.source, BlendConfig)
    assert config.source.sources[0] is files
    assert config.source.sources[1] == files


def test_a_dumped_config_is_json_and_parses_to_the_same(registry: SourceRegistry) -> None:
    config = parse_config({"source": _blend(_blend(FILES), FILES), "batch_size": 4, "seed": 3}, registry=registry)
    dumped = config.model_dump(mode="json")
    assert parse_config(json.loads(json.dumps(dumped)), registry=registry) == config
    assert parse_config(json.loads(config.model_dump_json(exclude_defaults=True)) | {"source": dumped["source"]},
                        registry=registry) == config  # fmt: skip
    assert parse_config(config.model_dump(), registry=registry) == config


def test_a_source_field_outside_of_a_pipeline_works_too(registry: SourceRegistry) -> None:
    adapter: TypeAdapter[SourceConfig] = TypeAdapter(AnySource)
    assert adapter.validate_python(FILES, context={"registry": registry}) == FilesConfig(paths=("a.bin",))


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ({"type": "fils"}, r"source\.type: unknown source 'fils'; did you mean 'files'\? \(installed: blend, files\)"),
        ({"type": "tfds"}, r"source\.type: source 'tfds' is not installed; pip install datarax-tfds"),
        ({"paths": ["a"]}, r"source\.type: the source's `type` is missing; name an installed source, such as memory"),
        ({"type": 3}, r"source\.type: the source's `type` is 3; name an installed source, such as memory"),
        (
            {"type": "os:system"},
            r"source\.type: unknown source 'os:system' \(installed: blend, files\); a config names no code: name a .*",
        ),
        ("files", r"source: a source is a mapping with a `type`, such as \{type: memory\}, not 'files'"),
        ({"type": "files"}, r"source\.paths: this field is required"),
        ({"type": "files", "paths": "a"}, r"source\.paths: should be a list, not 'a'"),
        ({"type": "files", "paths": [3]}, r"source\.paths\[0\]: should be a valid string, not 3"),
        ({"type": "files", "paths": [""]}, r"source\.paths\[0\]: should have at least 1 character, not ''"),
        (FILES | {"path": "x"}, r"source\.path: unknown field 'path'; did you mean 'paths'\?"),
        (_blend(FILES, {"type": "files"}), r"source\.sources\[1\]\.paths: this field is required"),
        (
            _blend(FILES, _blend(FILES, {"type": "fils"})),
            r"source\.sources\[1\]\.sources\[1\]\.type: unknown source 'fils'.*",
        ),
        (
            _blend(FILES | {"cacheable": "yes"}),
            r"source\.sources\[0\]\.cacheable: should be a valid boolean, not 'yes'",
        ),
    ],
)
def test_every_mistake_in_a_source_is_reported_with_its_place(registry: SourceRegistry, source: Any, line: str) -> None:
    with pytest.raises(ConfigError, match=rf"^train\.yaml: {line}$") as caught:
        parse_config({"source": source, "batch_size": 4}, registry=registry, origin="train.yaml")
    assert isinstance(caught.value.__cause__, ValidationError)


def test_the_error_of_the_registry_is_the_cause_of_the_cause(site: "Site") -> None:
    site.install("acme-bad", {"acme_bad": "acme_bad:Source"}, code="1 / 0")
    with pytest.raises(ConfigError, match="ZeroDivisionError") as caught:
        parse_config({"source": {"type": "acme_bad"}, "batch_size": 1}, registry=SourceRegistry.from_environment())
    invalid = caught.value.__cause__
    assert invalid is not None
    assert isinstance(invalid.__cause__, PluginLoadError)
    assert isinstance(invalid.__cause__.__cause__, ZeroDivisionError)


def test_the_cause_survives_at_any_depth(registry: SourceRegistry) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"source": _blend(_blend({"type": "nix"})), "batch_size": 1}, registry=registry)
    invalid = caught.value.__cause__
    assert invalid is not None
    assert isinstance(invalid.__cause__, PluginNotFoundError)


# -- the pipeline's own fields ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"batch_size": 0}, r"batch_size: should be greater than or equal to 1, not 0"),
        ({"batch_size": -3}, r"batch_size: should be greater than or equal to 1, not -3"),
        ({"batch_size": 4.0}, r"batch_size: should be a valid integer, not 4\.0"),
        ({"batch_size": "1_000"}, "batch_size: should be a valid integer, not '1_000'; a number has no underscores: 1000$"),
        ({"batch_size": [[0, 4], ["1_000", 8]]}, r"batch_size\[1\]\[0\]: .*; a number has no underscores: 1000$"),
        ({"batch_size": [4, 8]}, r"batch_size: a schedule is pairs of \[position, batch size\], .*, not \[4, 8\]"),
        ({"batch_size": "4"}, r"batch_size: should be a valid integer, not '4'"),
        ({"batch_size": True}, r"batch_size: should be a valid integer, not True"),
        ({"batch_size": None}, r"batch_size: should be a valid integer, not None"),
        ({"seed": -1}, r"seed: should be greater than or equal to 0, not -1"),
        ({"seed": 1.5}, r"seed: should be a valid integer, not 1\.5"),
        ({"num_epochs": 0}, r"num_epochs: should be greater than or equal to 1, not 0"),
        ({"num_epochs": "all"}, r"num_epochs: should be a valid integer, not 'all'"),
        ({"drop_last": "yes"}, r"drop_last: should be a valid boolean, not 'yes'"),
        ({"drop_last": True, "pad_last": "valid"},
         r"pad_last: drop_last and pad_last exclude each other; the last batch is left out or completed"),
        ({"pad_last": ""}, r"pad_last: should have at least 1 character, not ''"),
        ({"pad_last": True}, r"pad_last: should be a valid string, not True"),
        ({"stages": {"type": "cast"}}, r"stages: should be a list, not \{'type': 'cast'\}"),
        ({"stages": [None]}, r"stages\[0\]: a stage is a mapping with a `type`, such as \{type: rescale\}, not None"),
        ({"stages": [{"type": "select", "fields": []}]}, r"stages\[0\]\.fields: should have at least 1 item, not \[\]"),
        ({3: 4}, r"\[3\]: Keys should be strings, not 3"),
        ({"num_epochs": [[[[[[0]]]]]]}, r"num_epochs: should be a valid integer, not \[\[\[\[\.\.\.\]\]\]\]"),
        ({"batch_size": []}, r"batch_size: should have at least 1 item, not \[\]"),
        ({"batch_size": [4, [9, 5]]}, r"batch_size\[0\]: should be a list, not 4"),
        ({"batch_size": [[0, 4, 5]]}, r"batch_size\[0\]: should have at most 2 items, not \[0, 4, 5\]"),
        ({"batch_size": [[0, 4], [9, 0]]}, r"batch_size\[1\]\[1\]: should be greater than or equal to 1, not 0"),
        ({"batch_size": [[5, 4]]}, r"batch_size\[0\]\[0\]: the schedule begins at position 5, so that .*; begin it at 0"),
        ({"batch_size": [[0, 4], [9, 5], [3, 2]]}, r"batch_size\[2\]\[0\]: position 3 is not after .* at 9, .* goes back; .*"),
        ({"batch_size": [[0, 4], [0, 5]]}, r"batch_size\[1\]\[0\]: position 0 is not after .*, which begins there too; .*"),
        ({"batch_size": "x" * 10**6}, r"batch_size: should be a valid integer, not 'x{30,}\.\.\.x{30,}'"),
        ({"batchsize": 3}, r"batchsize: unknown field 'batchsize'; did you mean 'batch_size'\?"),
    ],
)  # fmt: skip
def test_a_bad_pipeline_field_is_reported_with_its_value(
    registry: SourceRegistry, fields: dict[str, Any], line: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^config: {line}$"):
        parse_config({"source": FILES, "batch_size": 4} | fields, registry=registry)


def test_all_problems_are_reported_at_once_one_per_line(registry: SourceRegistry) -> None:
    mapping = {"source": _blend(FILES, {"type": "fils"}, {"type": "files"}), "seed": -1, "nix": 0}
    with pytest.raises(ConfigError) as caught:
        parse_config(mapping, registry=registry, origin="a.toml")
    places = re.findall(r"(?m)^a\.toml: ([^:]+): ", str(caught.value))
    assert places == ["source.sources[1].type", "source.sources[2].paths", "batch_size", "seed", "nix"]
    assert len(str(caught.value).splitlines()) == 5


def test_numpy_integers_are_integers(registry: SourceRegistry) -> None:
    config = parse_config({"source": FILES, "batch_size": np.int64(4), "num_epochs": None}, registry=registry)
    assert type(config.batch_size) is int
    assert config.num_epochs is None


@pytest.mark.parametrize("mapping", [[1], "train.yaml", None])
def test_a_config_that_is_no_mapping_is_refused(mapping: Any) -> None:
    with pytest.raises(ConfigError, match=r"^config: a pipeline config is a mapping of its fields, not \w+$"):
        parse_config(mapping)


# -- files --------------------------------------------------------------------------------------------------------------


def test_relative_paths_are_relative_to_the_config_file(
    registry: SourceRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf").mkdir()
    path = tmp_path / "conf" / "train.yaml"
    path.write_text(
        "batch_size: 2\nsource: {type: blend, sources: [{type: files, "
        "paths: [a.bin, ../b/*.bin, /abs/c.bin, 'gs://d/e', '$HOME/f', '~/g']}]}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/nowhere")
    config = load_config("conf/train.yaml", registry)
    assert isinstance(config.source, BlendConfig)
    (files,) = config.source.sources
    assert isinstance(files, FilesConfig)
    base = f"{tmp_path}/conf"
    assert files.paths == (
        f"{base}/a.bin", f"{base}/../b/*.bin", "/abs/c.bin", "gs://d/e", f"{base}/$HOME/f", f"{base}/~/g"
    )  # fmt: skip


def test_paths_of_configs_made_in_python_stay_as_they_are(registry: SourceRegistry) -> None:
    assert FilesConfig.model_validate({"paths": [Path("a"), "b"]}).paths == ("a", "b")
    config = parse_config({"source": FILES, "batch_size": 4}, registry=registry)
    assert config.source == FilesConfig(paths=("a.bin",))


@pytest.mark.parametrize("suffix", ["yaml", "toml", "json"])
def test_every_format_gives_the_same_config(registry: SourceRegistry, tmp_path: Path, suffix: str) -> None:
    texts = {
        "yaml": "batch_size: 4\nsource:\n  type: files\n  paths: [/a]\n",
        "toml": 'batch_size = 4\n[source]\ntype = "files"\npaths = ["/a"]\n',
        "json": '{"batch_size": 4, "source": {"type": "files", "paths": ["/a"]}}',
    }
    path = tmp_path / f"train.{suffix}"
    path.write_text(texts[suffix])
    assert load_config(path, registry) == PipelineConfig(source=FilesConfig(paths=("/a",)), batch_size=4)


def test_a_bad_file_is_named_in_every_line(registry: SourceRegistry, tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("batch_size: 0\nsource: {type: files}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, registry)
    assert str(caught.value).splitlines() == [
        f"{path}:1: batch_size: should be greater than or equal to 1, not 0",
        f"{path}:2: source.paths: this field is required",
    ]
