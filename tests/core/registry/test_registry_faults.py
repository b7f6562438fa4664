"""Faulty plugins: damaged metadata, unmet requirements, failing imports, invalid classes. None of them hides another."""

from typing import TYPE_CHECKING

import pytest

from datarax_core.errors import PluginContractError, PluginIncompatibleError, PluginLoadError
from datarax_core.registry.sources import SourceRegistry

if TYPE_CHECKING:
    from conftest import Site


def _status(name: str) -> list[tuple[str, str]]:
    infos = SourceRegistry.from_environment().describe()
    return [(info.origin, info.status) for info in infos if info.name == name]


def _detail(name: str) -> str:
    return next(info.detail for info in SourceRegistry.from_environment().describe() if info.name == name)


# -- half-installed and damaged distributions ---------------------------------------------------------------------------


def test_a_distribution_without_metadata_is_warned_of_and_hides_no_other(site: "Site") -> None:
    site.install_working("acme-count", "acme_count")
    site.install("acme-half", {"acme_half": "acme_half:Source"})
    (site.folder / "acme_half-1.0.dist-info" / "METADATA").unlink()
    with pytest.warns(UserWarning, match=rf"{site.folder}.*: a distribution with datarax.sources has damaged metadata"):
        assert _status("acme_count") == [("acme-count 1.0", "ready")]


def test_a_distribution_without_a_version_is_listed(site: "Site") -> None:
    site.install_working("acme-count", "acme_count")
    (site.folder / "acme_count-1.0.dist-info" / "METADATA").write_text("Name: acme-count\n\n")
    assert _status("acme_count") == [("acme-count of unknown version", "ready")]


def test_a_distribution_with_garbled_entry_points_is_warned_of_and_hides_no_other(site: "Site") -> None:
    site.install_working("acme-count", "acme_count")
    site.install("acme-garbled", {"acme_garbled": "acme_garbled:Source"})
    (site.folder / "acme_garbled-1.0.dist-info" / "entry_points.txt").write_text("[datarax.sources]\nno equals sign\n")
    message = (
        "acme-garbled: its entry points cannot be read: 'no equals sign' is no line of datarax.sources; .*until it is"
    )
    with pytest.warns(UserWarning, match=message):
        assert _status("acme_count") == [("acme-count 1.0", "ready")]


def test_leftovers_of_an_interrupted_pip_are_ignored(site: "Site") -> None:
    site.install("acme-left", {"acme_left": "acme_left:Source"})
    (site.folder / "acme_left-1.0.dist-info").rename(site.folder / "~cme_left-1.0.dist-info")
    assert _status("acme_left") == []


@pytest.mark.parametrize(
    "line",
    [
        "not a requirement !!",
        "acme-absent>=2",
        "packaging<1",
        "packaging (<1)",
        "packaging[x]<1",
        "packaging<1; python_version>'3'",
    ],
)
def test_a_requirement_that_is_not_met_shows_in_the_listing(site: "Site", line: str) -> None:
    site.install("acme-needy", {"acme_needy": "acme_needy:Source"}, requires=(line, "packaging>=20"))
    assert _status("acme_needy") == [("acme-needy 1.0", "unmet")]
    assert _detail("acme_needy") == f"needs {line}"


def test_requirements_of_extras_and_other_platforms_are_ignored(site: "Site") -> None:
    requires = (
        "acme-absent; extra == 'test'",
        "acme-absent; sys_platform == 'plan9'",
        "packaging (>=1)",
        "Packaging>=1.0",
    )
    site.install("acme-extras", {"acme_extras": "acme_extras:Source"}, requires=requires)
    assert _status("acme_extras") == [("acme-extras 1.0", "ready")]


# -- incompatible and broken --------------------------------------------------------------------------------------------


def test_a_plugin_for_another_core_is_never_imported(site: "Site") -> None:
    requires = ("datarax-core>=99,<100",)
    site.install("acme-new", {"acme_new": "acme_new:Source"}, code="raise RuntimeError('imported')", requires=requires)
    message = (
        r"^source 'acme_new' \(acme-new 1\.0\) needs datarax-core>=99,<100, and datarax-core [\d.]+ is installed; "
        r"upgrade acme-new, or install a datarax-core that it accepts$"
    )
    with pytest.raises(PluginIncompatibleError, match=message):
        SourceRegistry.from_environment().get("acme_new")


@pytest.mark.parametrize(
    ("code", "message", "cause"),
    [
        ("1 / 0", r"failed to import acme_bad:Source: ZeroDivisionError: division by zero, in .*, line 1; this is",
         ZeroDivisionError),
        ("import sys; sys.exit('no GPU')", r"failed to import acme_bad:Source: exited with 'no GPU'", SystemExit),
        ("raise SystemExit(3)", r"exited with 3", SystemExit),
        ("import json\njson.loads('x')", r"\(char 0\), in .*acme_bad.*\.py, line 2;", ValueError),
        ("x = 1", r"AttributeError: module 'acme_bad' has no attribute 'Source'; this", AttributeError),
        ("def", r"SyntaxError", SyntaxError),
        (None, r"ModuleNotFoundError: No module named 'acme_bad'", ModuleNotFoundError),
    ],
)  # fmt: skip
def test_a_broken_plugin_is_refused_with_the_reason_and_breaks_no_other(
    site: "Site", code: str | None, message: str, cause: type[BaseException]
) -> None:
    site.install("acme-bad", {"acme_bad": "acme_bad:Source"}, code=code)
    site.install_working("acme-fine", "acme_fine")
    registry = SourceRegistry.from_environment()
    with pytest.raises(PluginLoadError, match=rf"^source 'acme_bad' \(acme-bad 1\.0\) .*{message}") as caught:
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
    with pytest.raises(PluginLoadError, match=message):
        SourceRegistry.from_environment().get("acme_dep")


def test_an_interrupt_during_an_import_is_not_caught(site: "Site") -> None:
    site.install("acme-slow", {"acme_slow": "acme_slow:Source"}, code="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        SourceRegistry.from_environment().get("acme_slow")


# -- the contract -------------------------------------------------------------------------------------------------------

PREFIX = (
    "from datarax_core.sources.source import DataSourceModule\nfrom datarax_core.config.models import SourceConfig\n"
)
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
         r"C\.type defaults to 'other', but it is registered by the name 'acme_odd'; write `type: Literal"),
        (CONFIG + "class Source:\n    config_class = C\n    @classmethod\n    def from_config(cls, config, build): pass",
         r"it does not derive from DataSourceModule; write `class Source\(DataSourceModule\):`$"),
        (CONFIG + "class Source:\n    config_class = C",
         r"it does not derive from DataSourceModule; .*; it has no from_config; write `@classmethod def from_config"),
        (CONFIG + "class Source(DataSourceModule):\n    config_class = C\n    def from_config(self, config, build): pass",
         r"its from_config is no classmethod; write `@classmethod def"),
        (CONFIG + "class Source(DataSourceModule):\n config_class = C\n @classmethod\n def from_config(cls, config): 0",
         r"its from_config cannot be called with \(config, build\): too many positional arguments; write"),
        ("class Source: pass", r"it does not derive from .*; it has no config_class; .*; it has no from_config; "),
    ],
)  # fmt: skip
def test_an_object_that_is_no_source_is_refused_with_what_to_write(site: "Site", code: str, message: str) -> None:
    site.install("acme-odd", {"acme_odd": "acme_odd:Source"}, code=PREFIX + code)
    with pytest.raises(PluginContractError, match=rf"^source 'acme_odd' \(acme-odd 1\.0\) is no source: {message}"):
        SourceRegistry.from_environment().get("acme_odd")
