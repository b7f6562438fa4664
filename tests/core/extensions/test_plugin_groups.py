"""Catalogs of all entry-point groups: faulty, clashing, disabled and disallowed plugins, and strict processes."""

import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from datarax_core.errors import (
    ConfigError,
    PluginConflictError,
    PluginContractError,
    PluginDisabledError,
    PluginError,
    PluginIncompatibleError,
    PluginLoadError,
    PluginNotFoundError,
    PluginWarning,
)
from datarax_core.extensions.catalog import Catalog, EntryPointGroup
from datarax_core.extensions.discovery import GROUPS
from datarax_core.extensions.hooks import HookRegistry
from datarax_core.extensions.plugin_registry import PluginRegistry
from datarax_core.registry.decoders import DecoderRegistry
from datarax_core.registry.sources import SourceRegistry
from datarax_core.registry.stages import StageRegistry

if TYPE_CHECKING:
    from conftest import Site

FAULTS: dict[str, tuple[dict[str, Any], str, type[PluginError] | None, str]] = {
    "raises": ({"code": "1 / 0"}, "ready", PluginLoadError, r"division by zero, in .*, line 1; this is a fault"),
    "exits": ({"code": "raise SystemExit(3)"}, "ready", PluginLoadError, r"exited with 3; this is a fault of acme-bad"),
    "panics": ({"code": "class Panic(BaseException): pass\nraise Panic('in Rust')"}, "ready", PluginLoadError,
               "Panic: in Rust"),
    "prints": ({"code": "print('hello')\nclass Thing: pass"}, "ready", None, ""),
    "hangs": ({"code": "import threading; threading.Event().wait(0.1)\nclass Thing: pass"}, "ready", None, ""),
    "lacks": ({"code": "x = 1"}, "ready", PluginLoadError, "AttributeError: module 'acme_bad' has no attribute 'Thing'"),
    "gone": ({"code": None}, "ready", PluginLoadError, "ModuleNotFoundError: No module named 'acme_bad'"),
    "garbled": ({"target": "no target at all:"}, "ready", PluginLoadError, "failed to import no target at all:"),
    "newer": ({"requires": ("datarax-core>=99",)}, "unmet", PluginIncompatibleError, "needs datarax-core>=99, and"),
    "needy": ({"code": "import acme_absent", "requires": ("acme-absent>=2",)}, "unmet", PluginLoadError,
              "acme-bad needs acme-absent>=2, which this environment does not satisfy"),
}  # fmt: skip


@pytest.fixture(params=GROUPS)
def group(request: pytest.FixtureRequest) -> EntryPointGroup:
    return _group(request.param, first_party={"home_name": "datarax-home"})


def _group(name: str, first_party: Mapping[str, str] | None = None) -> EntryPointGroup:
    noun = name.removeprefix("datarax.").removesuffix("s")
    return EntryPointGroup(name=name, noun=noun, example="memory", first_party=first_party or {})


def _install(site: "Site", group: EntryPointGroup, dist: str, **options: Any) -> None:
    package = dist.replace("-", "_")
    options = {"code": "class Thing: pass", "target": f"{package}:Thing", "name": package, **options}
    site.install(dist, {options.pop("name"): options.pop("target")}, group=group.name, **options)


def _statuses(group: EntryPointGroup) -> dict[str, str]:
    catalog = Catalog.from_environment(group)
    return {entry.origin: catalog.status(entry)[0] for entry in catalog.entries() if "acme" in entry.dist}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_plugin_affects_no_other(
    site: "Site", group: EntryPointGroup, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options, status, error, message = FAULTS[fault]
    _install(site, group, "acme-bad", **options)
    _install(site, group, "acme-fine")
    assert _statuses(group) == {"acme-bad 1.0": status, "acme-fine 1.0": "ready"}
    assert not {"acme_bad", "acme_fine"} & sys.modules.keys()
    catalog = Catalog.from_environment(group)
    if error is None:
        assert isinstance(catalog.load("acme_bad"), type)
    else:
        with pytest.raises(error, match=rf"^{group.noun} 'acme_bad' \(acme-bad 1\.0\) .*{message}"):
            catalog.load("acme_bad")
    assert isinstance(catalog.load("acme_fine"), type)
    assert capsys.readouterr().out == ""


def test_a_name_clash_is_an_error_that_affects_no_other(
    site: "Site", group: EntryPointGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(site, group, "acme-one", name="shared")
    _install(site, group, "acme-two", name="shared")
    _install(site, group, "acme-fine")
    _install(site, group, "acme-squatter", name="home_name")
    expected = {"acme-one 1.0": "conflict", "acme-two 1.0": "conflict", "acme-fine 1.0": "ready"}
    assert _statuses(group) == expected | {"acme-squatter 1.0": "conflict"}
    catalog = Catalog.from_environment(group)
    for name, why in {"shared": "uninstall one, or set", "home_name": "but that name belongs to datarax-home"}.items():
        with pytest.raises(PluginConflictError, match=why):
            catalog.load(name)
    assert catalog.load("acme_fine")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme-one,acme-squatter")
    assert Catalog.from_environment(group).load("shared")


def test_each_group_has_a_registry() -> None:
    registries: list[type[PluginRegistry[Any]]] = [SourceRegistry, StageRegistry, DecoderRegistry, HookRegistry]
    assert tuple(registry.group.name for registry in registries) == GROUPS
    for registry in registries:
        described = registry.from_environment(allow=[]).describe()
        assert {info.status for info in described} <= {"disabled"}


def test_a_hook_plugin_cannot_be_registered_in_a_registry() -> None:
    message = r"^hook plugin <.*> is not registered here; write `default_hooks\(\)\.register\(plugin\)`, which calls its hooks"
    with pytest.raises(PluginContractError, match=message):
        HookRegistry().register(object())


# -- the allowlist ------------------------------------------------------------------------------------------------------


def test_a_plugin_that_is_not_allowed_is_disabled_with_what_to_add(site: "Site", group: EntryPointGroup) -> None:
    _install(site, group, "acme-one")
    _install(site, group, "acme-two")
    _install(site, group, "acme-three")
    catalog = Catalog.from_environment(group, allow=["acme_one", "Acme_Two"])
    statuses = {entry.name: catalog.status(entry) for entry in catalog.entries() if "acme" in entry.dist}
    reason = "by the allowlist of this process; add 'acme_three' or 'acme-three' to `allow` to use it"
    assert statuses == {"acme_one": ("ready", ""), "acme_two": ("ready", ""), "acme_three": ("disabled", reason)}
    assert catalog.load("acme_one")
    assert catalog.load("acme_two")
    message = rf"^{group.noun} 'acme_three' \(acme-three 1\.0\) is disabled {reason}$"
    with pytest.raises(PluginDisabledError, match=message):
        catalog.load("acme_three")


def test_allowing_one_distribution_of_a_conflict_resolves_it(site: "Site", group: EntryPointGroup) -> None:
    _install(site, group, "acme-one", name="shared")
    _install(site, group, "acme-two", name="shared")
    assert Catalog.from_environment(group, allow=["acme-two"]).select("shared").dist == "acme-two"


def test_a_plugin_that_is_allowed_and_disabled_is_disabled(
    site: "Site", group: EntryPointGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(site, group, "acme-one")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme_one")
    with pytest.raises(
        PluginDisabledError, match=r"by DATARAX_DISABLE_PLUGINS=acme_one; take that out of the variable"
    ):
        Catalog.from_environment(group, allow=["acme_one"]).load("acme_one")


def test_an_allowlist_entry_that_matches_nothing_is_warned_of(
    site: "Site", group: EntryPointGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(site, group, "acme-one")
    other = _group(next(name for name in GROUPS if name != group.name))
    _install(site, other, "acme-elsewhere", name="elsewhere")
    with warnings.catch_warnings(action="error"):
        Catalog.from_environment(group, allow=["acme_one", "elsewhere", "acme.elsewhere"])
    message = (
        r"^`allow` names 'acme_onne', which is no installed plugin, and no distribution of any; did you mean 'acme_one'"
    )
    with pytest.warns(PluginWarning, match=message):
        Catalog.from_environment(group, allow=["acme_onne", "acme-elsewhere"])
    monkeypatch.setenv("DATARAX_STRICT_PLUGINS", "1")
    with pytest.raises(PluginNotFoundError, match=message):
        Catalog.from_environment(group, allow=["acme_onne"])


@pytest.mark.parametrize("allow", ["memory", 3, [b"memory"], ["memory", None]])
def test_an_allowlist_is_a_list_of_names(allow: Any) -> None:
    message = r"^`allow` lists names of plugins or of their distributions, such as \['memory', 'datarax-mix'\], not "
    with pytest.raises(TypeError, match=message):
        Catalog.from_environment(_group(GROUPS[0]), allow=allow)


# -- strict -------------------------------------------------------------------------------------------------------------


UNUSABLE: list[tuple[dict[str, Any], type[PluginError], str]] = [
    ({"name": "home_name"}, PluginConflictError, r"'home_name' is provided by acme-one 1\.0 .* belongs to datarax-home"),
    ({"requires": ("datarax-core<0.0.1",)}, PluginIncompatibleError, r"'acme_one' .* needs datarax-core<0\.0\.1, and"),
    ({"requires": ("acme-absent", "acme-gone")}, PluginLoadError,
     r"'acme_one' \(acme-one 1\.0\) needs acme-absent, acme-gone, which this environment does not satisfy"),
]  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE, ids=["conflict", "core", "unmet"])
def test_a_strict_process_refuses_unusable_plugins(
    site: "Site",
    group: EntryPointGroup,
    case: tuple[dict[str, Any], type[PluginError], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options, error, message = case
    _install(site, group, "acme-one", **options)
    Catalog.from_environment(group)
    monkeypatch.setenv("DATARAX_STRICT_PLUGINS", "1")
    with pytest.raises(error, match=message):
        Catalog.from_environment(group)
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme-one")
    Catalog.from_environment(group)


def test_a_strict_process_refuses_damaged_metadata(
    site: "Site", group: EntryPointGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(site, group, "acme-half")
    (site.folder / "acme_half-1.0.dist-info" / "METADATA").unlink()
    monkeypatch.setenv("DATARAX_STRICT_PLUGINS", "1")
    with pytest.raises(
        PluginLoadError, match=rf"^{site.folder}.*: a distribution with {group.name} has damaged metadata$"
    ):
        Catalog.from_environment(group)


@pytest.mark.parametrize("word", ["", "0", " 1 "])
def test_strictness_is_off_unless_1(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("DATARAX_STRICT_PLUGINS", word)
    Catalog.from_environment(_group("datarax.none"))


def test_any_other_strictness_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARAX_STRICT_PLUGINS", "yes")
    with pytest.raises(ConfigError, match=r"^DATARAX_STRICT_PLUGINS is 1, or else 0, empty or not set; not 'yes'$"):
        Catalog.from_environment(_group("datarax.none"))


def test_all_does_not_disable_core_s_own_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "all")
    assert {info.status for info in SourceRegistry.from_environment().describe()} == {"disabled"}
    infos = StageRegistry.from_environment().describe()
    assert {info.status for info in infos if info.distribution == "datarax-core"} == {"ready"}
    assert {info.status for info in infos if info.distribution != "datarax-core"} == {"disabled"}
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "cast")
    stages = {info.name: info.status for info in StageRegistry.from_environment().describe()}
    assert (stages["cast"], stages["rename"]) == ("disabled", "ready")
