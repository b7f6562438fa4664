"""The registry: what is listed without importing, and the text of every way in which a name can fail."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from datarax_core.config import SourceConfig
from datarax_core.errors import (
    SourceConflictError,
    SourceContractError,
    SourceDisabledError,
    SourceError,
    SourceIncompatibleError,
    SourceLoadError,
    SourceNotFoundError,
)
from datarax_core.registry import SourceInfo, SourceRegistry, default_registry
from datarax_core.source import DataSourceModule

if TYPE_CHECKING:
    from conftest import Site


class CountConfig(SourceConfig):
    type: Literal["count"] = "count"


class Count(DataSourceModule):
    config_class = CountConfig


def _status(name: str) -> list[tuple[str, str]]:
    infos = SourceRegistry.from_environment().describe()
    return [(info.origin, info.status) for info in infos if info.name == name]


def _detail(name: str) -> str:
    return next(info.detail for info in SourceRegistry.from_environment().describe() if info.name == name)


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
        from datarax_core.registry import SourceRegistry
        listed = {info.name: info.status for info in SourceRegistry.from_environment().describe()}
        heavy = [m for m in ("jax", "flax", "numpy", "pydantic", "acme_loud", "datarax_memory") if m in sys.modules]
        print(json.dumps([listed, heavy]))
    """
    command = [sys.executable, "-W", "error", "-c", re.sub(r"(?m)^ {8}", "", script)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    listed, heavy = json.loads(printed)
    assert listed["acme_loud"] == listed["acme_gone"] == "ready"
    assert heavy == []


def test_a_distribution_seen_twice_counts_once(site: "Site", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install_working("acme-twice", "acme_twice", version="1.0")
    other = type(site)(tmp_path / "editable")
    monkeypatch.syspath_prepend(other.folder)
    other.install_working("Acme.Twice", "acme_twice", version="1.1")
    assert _status("acme_twice") == [("acme-twice 1.1", "ready")]


def test_describe_sorts_by_name_and_tells_the_target(site: "Site") -> None:
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


# -- half-installed and damaged distributions ---------------------------------------------------------------------------


def test_one_without_metadata_is_warned_of_and_hides_nothing(site: "Site") -> None:
    site.install_working("acme-count", "acme_count")
    site.install("acme-half", {"acme_half": "acme_half:Source"})
    (site.folder / "acme_half-1.0.dist-info" / "METADATA").unlink()
    with pytest.warns(UserWarning, match=rf"{site.folder}.*: a distribution with datarax.sources has damaged metadata"):
        assert _status("acme_count") == [("acme-count 1.0", "ready")]


def test_one_whose_entry_points_are_garbled_is_warned_of_and_hides_nothing(site: "Site") -> None:
    site.install_working("acme-count", "acme_count")
    site.install("acme-garbled", {"acme_garbled": "acme_garbled:Source"})
    (site.folder / "acme_garbled-1.0.dist-info" / "entry_points.txt").write_text("[datarax.sources]\nno equals sign\n")
    with pytest.warns(UserWarning, match="acme-garbled: its entry points cannot be read .*until it is installed again"):
        assert _status("acme_count") == [("acme-count 1.0", "ready")]


def test_what_an_interrupted_pip_left_behind_does_not_count(site: "Site") -> None:
    site.install("acme-left", {"acme_left": "acme_left:Source"})
    (site.folder / "acme_left-1.0.dist-info").rename(site.folder / "~cme_left-1.0.dist-info")
    assert _status("acme_left") == []


@pytest.mark.parametrize("line", ["not a requirement !!", "acme-absent>=2", "packaging<1"])
def test_a_requirement_that_is_not_met_shows_in_the_listing(site: "Site", line: str) -> None:
    site.install("acme-needy", {"acme_needy": "acme_needy:Source"}, requires=(line, "packaging>=20"))
    assert _status("acme_needy") == [("acme-needy 1.0", "unmet")]
    assert _detail("acme_needy") == f"needs {line}"


def test_requirements_of_extras_and_other_platforms_are_not_missed(site: "Site") -> None:
    requires = ("acme-absent; extra == 'test'", "acme-absent; sys_platform == 'plan9'")
    site.install("acme-extras", {"acme_extras": "acme_extras:Source"}, requires=requires)
    assert _status("acme_extras") == [("acme-extras 1.0", "ready")]


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
        (
            "memry",
            r"^unknown source 'memry'; did you mean 'memory' \(pip install datarax-memory\)\? \(installed: count\)$",
        ),
        ("conut", r"^unknown source 'conut'; did you mean 'count'\? \(installed: count\)$"),
        ("qqq", r"^unknown source 'qqq' \(installed: count\)$"),
    ],
)
def test_an_unknown_name_is_told_what_to_do(name: str, message: str) -> None:
    registry = SourceRegistry()
    registry.register(Count)
    with pytest.raises(SourceNotFoundError, match=message) as caught:
        registry.get(name)
    assert caught.value.source == name


def test_an_unknown_name_where_nothing_is_installed() -> None:
    with pytest.raises(SourceNotFoundError, match=r"^unknown source 'qqq' \(installed: none\)$"):
        SourceRegistry().config_type("qqq")


# -- disabled -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["all", "acme_off", "acme-off", "Acme_Off", " other , acme-off,"])
def test_a_disabled_source_is_never_imported(site: "Site", monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    site.install("acme-off", {"acme_off": "acme_off:Source"}, code="raise RuntimeError('imported')")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", words)
    registry = SourceRegistry.from_environment()
    assert ("acme-off 1.0", "disabled") in _status("acme_off")
    message = (
        r"^source 'acme_off' \(acme-off 1\.0\) is disabled by DATARAX_DISABLE_PLUGINS=[\w-]+; take that out of the"
    )
    with pytest.raises(SourceDisabledError, match=message):
        registry.get("acme_off")


def test_what_is_disabled_is_read_when_the_registry_is_made(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    site.install_working("acme-on", "acme_on")
    registry = SourceRegistry.from_environment()
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "all")
    assert registry.get("acme_on")


# -- conflicts ----------------------------------------------------------------------------------------------------------


def test_a_name_that_two_provide_is_neither_s(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    site.install_working("acme-one", "shared")
    site.install_working("bolt-two", "shared", version="2.0")
    assert _status("shared") == [("acme-one 1.0", "conflict"), ("bolt-two 2.0", "conflict")]
    message = (
        r"^source 'shared' is provided by acme-one 1\.0 \(acme_one:Source\) and bolt-two 2\.0 \(bolt_two:Source\); "
        r"uninstall one, or set DATARAX_DISABLE_PLUGINS to the distribution that you do not want$"
    )
    with pytest.raises(SourceConflictError, match=message):
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
    with pytest.raises(SourceConflictError, match=message):
        SourceRegistry.from_environment().get("arrayrecord")
    site.install_working("datarax-arrayrecord", "arrayrecord", version="9.0")
    with pytest.raises(
        SourceConflictError, match=r"acme-records 1\.0 .* and datarax-arrayrecord 9\.0 .*" + message[-60:]
    ):
        SourceRegistry.from_environment().get("arrayrecord")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme-records")
    assert SourceRegistry.from_environment().get("arrayrecord").__module__ == "datarax_arrayrecord"


# -- incompatible and broken --------------------------------------------------------------------------------------------


def test_a_plugin_for_another_core_is_never_imported(site: "Site") -> None:
    requires = ("datarax-core>=99,<100",)
    site.install("acme-new", {"acme_new": "acme_new:Source"}, code="raise RuntimeError('imported')", requires=requires)
    message = (
        r"^source 'acme_new' \(acme-new 1\.0\) needs datarax-core>=99,<100, and datarax-core [\d.]+ is installed; "
        r"upgrade acme-new, or install a datarax-core that it accepts$"
    )
    with pytest.raises(SourceIncompatibleError, match=message):
        SourceRegistry.from_environment().get("acme_new")


@pytest.mark.parametrize(
    ("code", "message", "cause"),
    [
        ("1 / 0", r"failed to import acme_bad:Source: ZeroDivisionError: division by zero; this is a fault of acme-bad",
         ZeroDivisionError),
        ("import sys; sys.exit('no GPU')", r"failed to import acme_bad:Source: exited with 'no GPU'", SystemExit),
        ("raise SystemExit(3)", r"exited with 3", SystemExit),
        ("x = 1", r"AttributeError: module 'acme_bad' has no attribute 'Source'", AttributeError),
        ("def", r"SyntaxError", SyntaxError),
        (None, r"ModuleNotFoundError: No module named 'acme_bad'", ModuleNotFoundError),
    ],
)  # fmt: skip
def test_a_broken_plugin_says_why_and_breaks_no_other(
    site: "Site", code: str | None, message: str, cause: type[BaseException]
) -> None:
    site.install("acme-bad", {"acme_bad": "acme_bad:Source"}, code=code)
    site.install_working("acme-fine", "acme_fine")
    registry = SourceRegistry.from_environment()
    with pytest.raises(SourceLoadError, match=rf"^source 'acme_bad' \(acme-bad 1\.0\) .*{message}") as caught:
        registry.get("acme_bad")
    assert isinstance(caught.value.__cause__, cause)
    assert registry.get("acme_fine")


def test_a_missing_dependency_is_named(site: "Site") -> None:
    requires = ("acme-absent>=2",)
    site.install("acme-dep", {"acme_dep": "acme_dep:Source"}, code="import acme_absent", requires=requires)
    message = (
        r"ModuleNotFoundError: No module named 'acme_absent'; "
        r"acme-dep needs acme-absent>=2, which this environment does not satisfy$"
    )
    with pytest.raises(SourceLoadError, match=message):
        SourceRegistry.from_environment().get("acme_dep")


def test_an_interrupt_during_an_import_is_no_fault_of_the_plugin(site: "Site") -> None:
    site.install("acme-slow", {"acme_slow": "acme_slow:Source"}, code="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        SourceRegistry.from_environment().get("acme_slow")


# -- the contract -------------------------------------------------------------------------------------------------------

PREFIX = "from datarax_core.source import DataSourceModule\nfrom datarax_core.config import SourceConfig\n"
CONFIG = "class C(SourceConfig):\n    type: str = 'acme_odd'\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("Source = 3", r"it is int 3, not a class; name the source class instead$"),
        ("def Source(): pass", r"it is function <function Source.*, not a class; name the source class instead$"),
        ("class Source(DataSourceModule): pass",
         r"it has no config_class; write `config_class = YourConfig`, derived from datarax_core\.config\.SourceConfig$"),
        ("class Source(DataSourceModule): config_class = dict",
         r"its config_class <class 'dict'> does not derive from datarax_core\.config\.SourceConfig; let it$"),
        ("class C(SourceConfig): pass\nclass Source(DataSourceModule): config_class = C",
         r"""C\.type has no default; write `type: Literal\["acme_odd"\] = "acme_odd"` in it$"""),
        (CONFIG.replace("acme_odd", "other") + "class Source(DataSourceModule): config_class = C",
         r"C\.type defaults to 'other', but the entry point is named 'acme_odd'; write `type: Literal"),
        (CONFIG + "class Source:\n    config_class = C\n    @classmethod\n    def from_config(cls, config, build): pass",
         r"it does not derive from DataSourceModule; write `class Source\(DataSourceModule\):`$"),
        (CONFIG + "class Source:\n    config_class = C",
         r"it does not derive from DataSourceModule; .*; "
         r"it has no from_config; write `@classmethod def from_config\(cls, config, build\)`$"),
        (CONFIG + "class Source(DataSourceModule):\n    config_class = C\n    def from_config(self, config, build): pass",
         r"its from_config is no classmethod; write `@classmethod def"),
        (CONFIG + "class Source(DataSourceModule):\n    config_class = C\n"
         "    @classmethod\n    def from_config(cls, config): pass",
         r"its from_config cannot be called with \(config, build\): too many positional arguments; write"),
        ("class Source: pass", r"it does not derive from .*; it has no config_class; .*; it has no from_config; "),
    ],
)  # fmt: skip
def test_a_class_that_is_no_source_is_told_what_to_write(site: "Site", code: str, message: str) -> None:
    site.install("acme-odd", {"acme_odd": "acme_odd:Source"}, code=PREFIX + code)
    with pytest.raises(SourceContractError, match=rf"^source 'acme_odd' \(acme-odd 1\.0\) is no source: {message}"):
        SourceRegistry.from_environment().get("acme_odd")


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
    with pytest.raises(SourceConflictError, match=message):
        registry.register(Count)
    empty = SourceRegistry()
    empty.register(Count)
    with pytest.raises(SourceConflictError, match=r"is taken by .*:Count \(registered by hand\)"):
        empty.register(Count)


def test_a_first_party_name_cannot_be_registered_by_a_stranger() -> None:
    class MixConfig(SourceConfig):
        type: str = "mix"

    class Mix(DataSourceModule):
        config_class = MixConfig

    with pytest.raises(
        SourceConflictError, match=r"^source 'mix' cannot be registered .*: the name belongs to datarax-mix"
    ):
        SourceRegistry().register(Mix)


def test_registering_what_is_no_source_says_so() -> None:
    class Nameless(DataSourceModule):
        config_class = SourceConfig

    message = r"Nameless \(registered by hand\) is no source: SourceConfig\.type has no default; write `type: Literal"
    with pytest.raises(SourceContractError, match=message):
        SourceRegistry().register(Nameless)


def test_no_error_of_the_registry_is_a_key_error() -> None:
    with pytest.raises(SourceError) as caught:
        SourceRegistry().get("qqq")
    assert not isinstance(caught.value, KeyError)
