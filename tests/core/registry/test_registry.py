"""Registry of sources: listing without imports, look-up, disabled and conflicting names, registering by hand."""

import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Literal

import pytest

from datarax_core.config.models import SourceConfig
from datarax_core.errors import (
    ConfigError,
    PluginConflictError,
    PluginContractError,
    PluginDisabledError,
    PluginError,
    PluginNotFoundError,
)
from datarax_core.extensions.hooks import HookRegistry
from datarax_core.registry.decoders import DecoderRegistry
from datarax_core.registry.sources import SourceInfo, SourceRegistry, default_registry
from datarax_core.registry.stages import StageRegistry
from datarax_core.sources.source import DataSourceModule

if TYPE_CHECKING:
    from conftest import Site


class CountConfig(SourceConfig):
    type: Literal["count"] = "count"


class Count(DataSourceModule):
    config_class = CountConfig


def _status(name: str) -> list[tuple[str, str]]:
    infos = SourceRegistry.from_environment().describe()
    return [(info.origin, info.status) for info in infos if info.name == name]


# -- listing ------------------------------------------------------------------------------------------------------------


def test_an_installed_source_is_listed_and_found(site: "Site") -> None:
    site.install_working("acme-count", "acme_count", version="2.1")
    registry = SourceRegistry.from_environment()
    assert "acme_count" in registry.names()
    assert _status("acme_count") == [("acme-count 2.1", "ready")]
    source = registry.get("acme_count")
    assert issubclass(source, DataSourceModule)
    assert registry.get("acme_count") is source
    assert registry.config_type("acme_count")(type="acme_count") == source.config_class()


def test_listing_imports_no_plugin_and_no_jax(site: "Site") -> None:
    site.install("acme-loud", {"acme_loud": "acme_loud:Source"}, code="raise RuntimeError('imported')")
    site.install("acme-gone", {"acme_gone": "acme_gone:Source"})
    script = """
        import json, sys
        from datarax_core.registry.sources import SourceRegistry
        listed = {info.name: info.status for info in SourceRegistry.from_environment().describe()}
        heavy = [m for m in ("jax", "flax", "numpy", "pluggy", "pydantic", "acme_loud", "datarax_memory") if m in sys.modules]
        print(json.dumps([listed, heavy]))
    """
    command = [sys.executable, "-W", "error", "-c", dedent(script)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own script
    listed, heavy = json.loads(printed)
    assert listed["acme_loud"] == listed["acme_gone"] == "ready"
    assert heavy == []


def test_a_distribution_seen_twice_counts_once(site: "Site", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install_working("acme-twice", "acme_twice", version="1.0")
    other = type(site)(tmp_path / "editable")
    monkeypatch.syspath_prepend(other.folder)
    other.install_working("Acme.Twice", "acme_twice", version="1.1")
    assert _status("acme_twice") == [("acme-twice 1.1", "ready")]


def test_describe_sorts_by_name_and_names_the_target(site: "Site") -> None:
    site.install("acme-pair", {"zeta": "acme_pair:Z", "alpha": "acme_pair:A"}, version="3.0")
    infos = SourceRegistry.from_environment().describe()
    assert [info.name for info in infos] == sorted(info.name for info in infos)
    assert infos[0] == SourceInfo(
        name="alpha", status="ready", distribution="acme-pair", version="3.0", target="acme_pair:A", detail=""
    )


def test_a_registry_without_a_catalog_is_empty() -> None:
    assert SourceRegistry().names() == []
    assert SourceRegistry().describe() == []


def test_the_default_registry_is_made_once() -> None:
    assert default_registry() is default_registry()


# -- not found ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arrayrecord", r"^source 'arrayrecord' is not installed; pip install datarax-arrayrecord$"),
        ("memory", r"pip install datarax-memory$"),
        ("mix", r"pip install datarax-mix$"),
        ("tfds", r"pip install datarax-tfds$"),
        ("tfds_eager", r"pip install datarax-tfds$"),
        ("tfds_streaming", r"pip install datarax-tfds$"),
        ("tfrecord", r"pip install datarax-tfds$"),
        (
            "memry",
            r"^unknown source 'memry'; did you mean 'memory' \(pip install datarax-memory\)\? \(installed: count\)$",
        ),
        ("conut", r"^unknown source 'conut'; did you mean 'count'\? \(installed: count\)$"),
        ("qqq", r"^unknown source 'qqq' \(installed: count\)$"),
    ],
)
def test_an_unknown_name_is_refused_with_what_to_do(name: str, message: str) -> None:
    registry = SourceRegistry()
    registry.register(Count)
    with pytest.raises(PluginNotFoundError, match=message) as caught:
        registry.get(name)
    assert caught.value.name == name


def test_an_unknown_name_when_nothing_is_installed() -> None:
    with pytest.raises(PluginNotFoundError, match=r"^unknown source 'qqq' \(installed: none\)$"):
        SourceRegistry().config_type("qqq")


# -- disabled -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["all", "acme_off", "acme-off", "Acme_Off", " tfds , acme-off,"])
def test_a_disabled_source_is_never_imported(site: "Site", monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    site.install("acme-off", {"acme_off": "acme_off:Source"}, code="raise RuntimeError('imported')")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", words)
    registry = SourceRegistry.from_environment()
    assert ("acme-off 1.0", "disabled") in _status("acme_off")
    message = (
        r"^source 'acme_off' \(acme-off 1\.0\) is disabled by DATARAX_DISABLE_PLUGINS=[\w-]+; take that out of the"
    )
    with pytest.raises(PluginDisabledError, match=message):
        registry.get("acme_off")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("memry", "'memry', which no installed plugin and no distribution of any is called; did you mean 'memory'?"),
        ("memory,MEMORY", "'MEMORY', which .* is called; did you mean 'memory'?"),
        ("ALL", "'ALL', which .* is called; did you mean 'all'?"),
        ("*", "'*', which .* is called; did you mean 'all'?"),
        ("zzz", "'zzz', which .* is called; take it out of the variable, or write all to disable every plugin"),
    ],
)
def test_a_word_that_disables_nothing_is_an_error(words: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", words)
    message = re.escape(f"DATARAX_DISABLE_PLUGINS names {reason}").replace(re.escape(".*"), ".*")
    for registry in SourceRegistry, StageRegistry, DecoderRegistry, HookRegistry:
        with pytest.raises(ConfigError, match=f"^{message}$"):
            registry.from_environment()


def test_the_variable_is_read_when_the_registry_is_made(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    site.install_working("acme-on", "acme_on")
    registry = SourceRegistry.from_environment()
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "all")
    assert registry.get("acme_on")


# -- conflicts ----------------------------------------------------------------------------------------------------------


def test_a_name_that_two_distributions_provide_is_a_conflict(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    site.install_working("acme-one", "shared")
    site.install_working("bolt-two", "shared", version="2.0")
    assert _status("shared") == [("acme-one 1.0", "conflict"), ("bolt-two 2.0", "conflict")]
    message = (
        r"^source 'shared' is provided by acme-one 1\.0 \(acme_one:Source\) and bolt-two 2\.0 \(bolt_two:Source\); "
        r"uninstall one, or set DATARAX_DISABLE_PLUGINS to the distribution that you do not want$"
    )
    with pytest.raises(PluginConflictError, match=message):
        SourceRegistry.from_environment().get("shared")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme-one")
    assert _status("shared") == [("acme-one 1.0", "disabled"), ("bolt-two 2.0", "ready")]
    assert SourceRegistry.from_environment().get("shared").__module__ == "bolt_two"


def test_a_first_party_name_belongs_to_its_distribution(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    site.install_working("acme-records", "arrayrecord")
    assert ("acme-records 1.0", "conflict") in _status("arrayrecord")
    message = (
        r"acme-records 1\.0 \(acme_records:Source\).*, but that name belongs to datarax-arrayrecord; "
        r"uninstall acme-records, or set DATARAX_DISABLE_PLUGINS=acme-records$"
    )
    with pytest.raises(PluginConflictError, match=message):
        SourceRegistry.from_environment().get("arrayrecord")
    monkeypatch.delitem(sys.modules, "datarax_arrayrecord", raising=False)  # other tests use the real one
    site.install_working("datarax-arrayrecord", "arrayrecord", version="9.0")
    with pytest.raises(
        PluginConflictError, match=r"acme-records 1\.0 .* and datarax-arrayrecord 9\.0 .*" + message[-60:]
    ):
        SourceRegistry.from_environment().get("arrayrecord")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme-records")
    assert SourceRegistry.from_environment().get("arrayrecord").__module__ == "datarax_arrayrecord"


# -- registering by hand ------------------------------------------------------------------------------------------------


def test_a_class_registered_by_hand_is_found_and_listed() -> None:
    registry = SourceRegistry()
    assert registry.register(Count) is Count
    assert registry.get("count") is Count
    assert registry.config_type("count") is CountConfig
    (info,) = registry.describe()
    assert (info.name, info.status, info.origin) == ("count", "ready", "registered by hand")
    assert info.target.endswith(":Count")


def test_registering_under_a_taken_name_is_a_conflict(site: "Site") -> None:
    site.install_working("acme-count", "count", version="4.0")
    registry = SourceRegistry.from_environment()
    message = (
        r"^source 'count' cannot be .*: the name is taken by acme_count:Source \(acme-count 4\.0\); give its config"
    )
    with pytest.raises(PluginConflictError, match=message):
        registry.register(Count)
    empty = SourceRegistry()
    empty.register(Count)
    with pytest.raises(PluginConflictError, match=r"is taken by .*:Count \(registered by hand\)"):
        empty.register(Count)


def test_a_first_party_name_cannot_be_registered_by_a_third_party() -> None:
    class MixConfig(SourceConfig):
        type: str = "mix"

    class Mix(DataSourceModule):
        config_class = MixConfig

    with pytest.raises(
        PluginConflictError, match=r"^source 'mix' cannot be registered .*: the name belongs to datarax-mix"
    ):
        SourceRegistry().register(Mix)


def test_registering_a_class_that_is_no_source_is_refused() -> None:
    class Nameless(DataSourceModule):
        config_class = SourceConfig

    message = r"Nameless \(registered by hand\) is no source: SourceConfig\.type has no default; write `type: Literal"
    with pytest.raises(PluginContractError, match=message):
        SourceRegistry().register(Nameless)


def test_no_error_of_the_registry_is_a_key_error() -> None:
    with pytest.raises(PluginError) as caught:
        SourceRegistry().get("qqq")
    assert not isinstance(caught.value, KeyError)
