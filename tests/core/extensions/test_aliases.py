"""Aliases: an old name of a plugin goes on working and warns with the new name. API versions of plugins are ignored."""

import inspect
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jsonschema
import pytest

import datarax_core
from datarax_core import PipelineConfig, SourceConfig
from datarax_core.errors import PluginContractError, PluginDisabledError, PluginWarning
from datarax_core.pipeline.build import build_source
from datarax_core.registry.decoders import AnyDecoder, Decoder, DecoderRegistry
from datarax_core.registry.pipeline_config import parse_config
from datarax_core.registry.sources import SourceRegistry
from datarax_core.sources.source import DataSourceModule

if TYPE_CHECKING:
    from conftest import Site

RENAMED = """
    from typing import Literal

    from datarax_core import AnySource, DataSourceModule, SourceConfig

    class Config(SourceConfig):
        type: Literal["acme_new"] = "acme_new"
        inner: AnySource | None = None

    class Source(DataSourceModule):
        config_class = Config

        @classmethod
        def from_config(cls, config, build):
            source = cls(config)
            source.inner = config.inner and build(config.inner)
            return source
"""
NAMES = {"acme_new": "acme_named:Source", "acme_old": "acme_named:Source"}
WARNING = r"^source 'acme_old' is now called 'acme_new', says acme-named 2\.0; write 'acme_new'$"


@pytest.fixture
def renamed(site: "Site") -> "Site":
    site.install("acme-named", NAMES, code=RENAMED, version="2.0")
    return site


# -- aliases ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("renamed")
def test_an_alias_is_the_same_class_and_warns() -> None:
    registry = SourceRegistry.from_environment()
    with pytest.warns(PluginWarning, match=WARNING):
        old = registry.get("acme_old")
    with warnings.catch_warnings(action="error"):
        assert registry.get("acme_new") is old
        assert registry.canonical_name("acme_old") == registry.canonical_name("acme_new") == "acme_new"
    with pytest.warns(PluginWarning, match=WARNING):
        assert registry.config_type("acme_old") is old.config_class


@pytest.mark.usefixtures("renamed")
def test_listing_shows_that_two_names_are_one_plugin() -> None:
    infos = SourceRegistry.from_environment().describe()
    details = {info.name: (info.status, info.detail) for info in infos if "acme" in info.name}
    assert details == {
        "acme_new": ("ready", "also named 'acme_old'"),
        "acme_old": ("ready", "also named 'acme_new'"),
    }


@pytest.mark.usefixtures("renamed")
def test_a_config_accepts_an_alias_at_any_depth_and_holds_the_new_name() -> None:
    registry = SourceRegistry.from_environment()
    mapping = {"type": "acme_new", "inner": {"type": "acme_old", "inner": {"type": "acme_old"}}}
    with pytest.warns(PluginWarning, match=WARNING):
        config = parse_config({"source": mapping, "batch_size": 2}, registry=registry)
    new = {"type": "acme_new", "inner": {"type": "acme_new", "inner": {"type": "acme_new"}}}
    with warnings.catch_warnings(action="error"):
        assert config == parse_config({"source": new, "batch_size": 2}, registry=registry)
        source: Any = build_source(config.source, registry)
        assert type(source.inner.inner) is type(source)
        again = PipelineConfig.model_validate_json(config.model_dump_json(), context={"registry": registry})
    assert again.source.type == "acme_new"


@pytest.mark.usefixtures("renamed")
def test_the_schema_accepts_either_name_and_says_which_is_new() -> None:
    registry = SourceRegistry.from_environment()
    with warnings.catch_warnings(action="error"):
        schema = registry.json_schema()
    valid = jsonschema.Draft202012Validator(schema)
    for name in NAMES:
        assert valid.is_valid({"source": {"type": name, "inner": {"type": "acme_old"}}, "batch_size": 2})
    assert not valid.is_valid({"source": {"type": "acme_old", "innner": None}, "batch_size": 2})
    assert schema["$defs"]["source.acme_old"]["properties"]["type"]["description"] == "Now called 'acme_new'."


@pytest.mark.usefixtures("renamed")
def test_an_alias_of_a_disabled_name_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme_new")
    with pytest.raises(PluginDisabledError, match=r"^source 'acme_new' \(acme-named 2\.0\) is disabled"):
        SourceRegistry.from_environment().get("acme_old")


def test_a_second_name_for_another_object_is_no_alias(site: "Site") -> None:
    code = RENAMED + "\n    class Other(Source): pass\n"
    site.install("acme-named", NAMES | {"acme_other": "acme_named:Other"}, code=code)
    with pytest.raises(
        PluginContractError, match=r"Config\.type defaults to 'acme_new', but it is registered by the name 'acme_o"
    ):
        SourceRegistry.from_environment().get("acme_other")


def test_a_decoder_may_be_renamed_as_well(site: "Site") -> None:
    code = """
        from typing import Literal
        from datarax_core import Decoder

        class Made(Decoder):
            type: Literal["acme_new"] = "acme_new"
            def decode_record(self, record): return record
    """
    targets = {"acme_new": "acme_decodes:Made", "acme_old": "acme_decodes:Made"}
    site.install("acme-decodes", targets, code=code, group="datarax.decoders")
    registry = DecoderRegistry.from_environment()

    class Config(SourceConfig):
        type: Literal["reads"] = "reads"
        decoder: AnyDecoder

    with pytest.warns(
        PluginWarning, match=r"^decoder 'acme_old' is now called 'acme_new', says acme-decodes 1\.0; write"
    ):
        config = Config.model_validate({"decoder": "acme_old"}, context={"decoders": registry})
    assert isinstance(config.decoder, Decoder)
    assert config.decoder.type == "acme_new"


# -- the version that plugins of earlier releases declare ------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 9, "1", None])
def test_a_source_that_declares_an_api_version_loads(site: "Site", version: object) -> None:
    code = f"{RENAMED}\n        API_VERSION = {version!r}\n"
    site.install("acme-named", NAMES, code=code)
    source: Any = SourceRegistry.from_environment().get("acme_new")
    assert version == source.API_VERSION


def test_a_class_registered_by_hand_may_declare_an_api_version() -> None:
    class Config(SourceConfig):
        type: Literal["dated"] = "dated"

    class Dated(DataSourceModule):
        API_VERSION: ClassVar[int] = 9
        config_class = Config

    assert SourceRegistry().register(Dated) is Dated


def test_the_name_of_the_api_version_is_still_importable() -> None:
    assert datarax_core.API_VERSION == datarax_core.extensions.API_VERSION == 1


def test_core_s_own_classes_declare_no_api_version_that_plugins_would_inherit() -> None:
    for name in datarax_core.__all__:
        value = getattr(datarax_core, name)
        assert not (inspect.isclass(value) and hasattr(value, "API_VERSION")), name
