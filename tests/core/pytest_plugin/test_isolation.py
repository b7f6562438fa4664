"""Temporary plugins: what a test sees and what it does not, their statuses, and how all is as before after it."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import jax
import numpy as np
import pytest

from datarax_core import (
    ConfigError,
    DataSourceModule,
    Decoder,
    DecoderRegistry,
    HookRegistry,
    Pipeline,
    PluginConflictError,
    PluginContractError,
    PluginDisabledError,
    PluginIncompatibleError,
    PluginNotFoundError,
    SourceConfig,
    SourceRegistry,
    Stage,
    StageRegistry,
    build_source,
    default_hooks,
    hookimpl,
)
from datarax_core.extensions.discovery import ISOLATED, STAND_INS
from datarax_core.pytest_plugin import Plugins, TinyConfig, TinySource
from datarax_core.registry.sources import default_registry
from datarax_core.registry.stages import default_stages


class CountConfig(SourceConfig):
    type: Literal["count"] = "count"


class Count(DataSourceModule):
    config_class = CountConfig

    def __len__(self) -> int:
        return 4

    def element_spec(self) -> Any:
        return {"x": jax.ShapeDtypeStruct((), np.int32)}

    def get_records(self, indices: Any) -> Any:
        return {"x": np.asarray(indices, np.int32)}


class Double(Stage):
    type: Literal["double"] = "double"

    def __call__(self, batch: Any) -> Any:
        return {**batch, "x": batch["x"] * 2}


class Plain(Decoder):
    type: Literal["plain"] = "plain"

    def decode_record(self, record: bytes) -> Any:
        return {"x": record}


class Watch:
    def __init__(self) -> None:
        self.opened: list[str] = []

    @hookimpl
    def datarax_pipeline_opened(self, pipeline: Any) -> None:
        self.opened.append(pipeline.source.title)


CONFIG = {"source": {"type": "count"}, "batch_size": 2, "stages": [{"type": "double"}]}


def served() -> list[int]:
    return [int(x) for batch in Pipeline.from_config(CONFIG) for x in batch["x"]]


# -- what a test sees -----------------------------------------------------------------------------------------------------


def test_nothing_installed_is_seen_but_core(plugins: Plugins) -> None:
    assert SourceRegistry.from_environment().names() == []
    assert DecoderRegistry.from_environment().names() == []
    assert HookRegistry.from_environment().names() == []
    assert {info.distribution for info in StageRegistry.from_environment().describe()} == {"datarax-core"}
    with pytest.raises(ConfigError, match=r"source 'memory' is not installed; pip install datarax-memory"):
        build_source({"type": "memory", "path": "x.npz"})
    plugins.allow("Datarax_Memory")
    assert SourceRegistry.from_environment().names() == ["memory"]
    assert default_registry().get("memory").__module__ == "datarax_memory.source"


def test_what_is_added_is_seen_by_configs_and_pipelines(plugins: Plugins) -> None:
    watch = Watch()
    for plugin in (Count, Double, Plain, watch):
        plugins.add(plugin)
    assert served() == [0, 2, 4, 6]
    assert watch.opened == ["Count"]
    assert DecoderRegistry.from_environment().get("plain") is Plain
    (info,) = SourceRegistry.from_environment().describe()
    assert (info.origin, info.status, info.place) == ("acme-count 1.0", "ready", "")
    assert info.target.endswith("test_isolation:Count")
    assert default_hooks().implementers("datarax_pipeline_opened") == [
        "hook plugin 'Watch' (acme-Watch 1.0)".lower()
    ] or (default_hooks().implementers("datarax_pipeline_opened") == ["hook plugin 'Watch' (acme-watch 1.0)"])


def test_what_is_added_later_is_seen_by_registries_and_hooks_that_exist(plugins: Plugins) -> None:
    registry, stages, hooks = default_registry(), default_stages(), default_hooks()
    hooks.load_installed()
    mine, watch = Watch(), Watch()
    hooks.register(mine, "mine")
    registry.register(TinySource)
    plugins.add(Count)
    plugins.add(Double)
    plugins.add(watch, distribution="Acme_Watch", version="2.5")
    assert registry.names() == ["count", "tiny"]
    assert (default_registry() is registry, default_stages() is stages, default_hooks() is hooks) == (True, True, True)
    assert served() == [0, 2, 4, 6]
    assert mine.opened == watch.opened == ["Count"]
    assert "hook plugin 'Watch' (acme-watch 2.5)" in hooks.implementers("datarax_pipeline_opened")


def test_a_module_is_added_with_all_that_it_defines(plugins: Plugins, tmp_path: Path) -> None:
    code = "from datarax_core import Stage, hookimpl\n\n{}\n\n@hookimpl\ndef datarax_pipeline_opened():\n    pass\n"
    stage = "class Same(Stage):\n    type: str = 'same'\n    def __call__(self, batch):\n        return batch\n"
    module = ModuleType("acme_made")
    exec(code.format(stage), vars(module))  # noqa: S102 - the test's own module
    plugins.add(module, distribution="acme-made")
    (tmp_path / "acme_filed.py").write_text(code.format(stage.replace("same", "filed")))
    plugins.add(str(tmp_path / "acme_filed.py"), distribution="acme-filed", version="3.0")
    origins = {info.name: info.origin for info in StageRegistry.from_environment().describe()}
    assert (origins["same"], origins["filed"]) == ("acme-made 1.0", "acme-filed 3.0")
    assert HookRegistry.from_environment().names() == ["acme_filed", "acme_made"]
    assert "acme_filed" in sys.modules


# -- statuses, and mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"status": "disabled"},
            PluginDisabledError,
            r"\(acme-count 1\.0\) is disabled by DATARAX_DISABLE_PLUGINS=count;",
        ),
        (
            {"status": "conflict"},
            PluginConflictError,
            r"provided by acme-count 1\.0 \(.*\) and acme-count-too 1\.0",
        ),
        (
            {"requires": ["datarax-core>=99"]},
            PluginIncompatibleError,
            r"\(acme-count 1\.0\) needs datarax-core>=99, and",
        ),
    ],
)
def test_a_plugin_may_have_any_status(
    plugins: Plugins, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    plugins.add(Count, **options)
    plugins.add(TinySource)
    status = {info.name: info.status for info in SourceRegistry.from_environment().describe()}
    assert status == {"count": options.get("status", "unmet"), "tiny": "ready"}
    with pytest.raises(error, match=message):
        default_registry().get("count")


def test_an_unmet_plugin_says_what_it_needs(plugins: Plugins) -> None:
    plugins.add(Count, status="unmet")
    (info,) = SourceRegistry.from_environment().describe()
    assert (info.status, info.detail) == ("unmet", "needs acme-absent>=1")
    plugins.add(Double, distribution="acme-absent", version="1.5")
    (info,) = SourceRegistry.from_environment().describe()
    assert info.status == "ready"


def test_a_first_party_name_is_a_conflict_and_a_class_that_is_no_source_is_refused(plugins: Plugins) -> None:
    class MixConfig(SourceConfig):
        type: Literal["mix"] = "mix"

    class Mix(Count):
        config_class = MixConfig

    class Nothing(DataSourceModule):
        pass

    plugins.add(Mix)
    plugins.add(Nothing)
    with pytest.raises(PluginConflictError, match=r"but that name belongs to datarax-mix; uninstall acme-mix"):
        default_registry().get("mix")
    with pytest.raises(
        PluginContractError, match=r"source 'Nothing' \(acme-nothing 1\.0\) is no source: it has no conf"
    ):
        default_registry().get("Nothing")


@pytest.mark.parametrize("plugin", [3, Watch, CountConfig, json])
def test_what_is_no_plugin_is_refused(plugins: Plugins, plugin: Any) -> None:
    message = (
        r"^plugins\.add takes the class of a source, stage or decoder, a module or object with functions marked @hook"
    )
    with pytest.raises(TypeError, match=message):
        plugins.add(plugin)


def test_words_and_distributions_that_are_not_there_are_refused(plugins: Plugins) -> None:
    with pytest.raises(
        PluginNotFoundError, match=r"^plugins\.add acme_absent: there is no module 'acme_absent' on the path"
    ):
        plugins.add("acme_absent")
    with pytest.raises(
        PluginNotFoundError, match=r"no distribution with plugins is called 'datarax-memry'; did you mean"
    ):
        plugins.allow("datarax-memry")
    with pytest.raises(PluginNotFoundError, match=r"is called 'qqq' \(installed: .*datarax-core, .*\)$"):
        plugins.allow("qqq")


# -- how it ends ----------------------------------------------------------------------------------------------------------


def test_all_is_as_before_after_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "datarax-mix")
    monkeypatch.setenv("DATARAX_STRICT_PLUGINS", "0")
    registry, hooks, path, names = default_registry(), default_hooks(), list(sys.path), set(sys.modules)
    open_before = set(hooks.open_pipelines)  # of other tests
    (tmp_path / "acme_gone.py").write_text(
        "from datarax_core import Stage\n\nclass Gone(Stage):\n    type: str = 'gone'\n"
    )
    with Plugins() as plugins:
        assert "DATARAX_STRICT_PLUGINS" not in os.environ
        plugins.add(Count, status="disabled")
        plugins.add(Double)
        plugins.add(TinySource)
        plugins.add(str(tmp_path / "acme_gone.py"))
        assert default_registry() is not registry
        assert os.environ["DATARAX_DISABLE_PLUGINS"] == "count"
        pipeline = Pipeline.from_config({"source": {"type": "tiny"}, "batch_size": 2})
        iterator = iter(pipeline)
        next(iterator)
    assert set(default_hooks().open_pipelines) <= open_before
    assert (default_registry(), default_hooks(), sys.path) == (registry, hooks, path)
    assert "acme_gone" not in sys.modules
    assert names <= set(sys.modules)
    assert (os.environ["DATARAX_DISABLE_PLUGINS"], os.environ["DATARAX_STRICT_PLUGINS"]) == ("datarax-mix", "0")
    assert ISOLATED not in os.environ
    assert "memory" in SourceRegistry.from_environment().names()


def test_all_is_as_before_after_a_failure() -> None:
    def fail() -> None:
        with Plugins() as plugins:
            plugins.add(Count)
            raise ZeroDivisionError

    registry = default_registry()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert (default_registry(), STAND_INS) == (registry, [])


def test_only_modules_of_the_folder_of_a_file_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "venv")])
    for place, text in {
        "venv/acme_installed/__init__.py": "",
        "acme_helper/__init__.py": "",
        "acme_helper/more.py": "",
        "acme_file.py": "import acme_installed, acme_helper.more\nfrom datarax_core import Stage\n"
        "class Filed(Stage):\n    type: str = 'filed'\n",
    }.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    with Plugins() as plugins:
        plugins.add(str(tmp_path / "acme_file.py"))
        assert "acme_helper.more" in sys.modules
    assert {name for name in sys.modules if name.startswith("acme_")} & {
        "acme_file",
        "acme_helper",
        "acme_helper.more",
        "acme_installed",
    } == {"acme_installed"}  # of an environment in the project's folder: other modules have it
    monkeypatch.delitem(sys.modules, "acme_installed")


def test_hooks_that_were_added_beside_installed_ones_are_gone_after_it() -> None:
    hooks = default_hooks()
    hooks.load_installed()
    mine, before = Watch(), hooks.implementers("datarax_pipeline_opened")
    with hooks.registered(mine, "mine"):
        with Plugins(beside_installed=True) as plugins:
            plugins.add(Watch(), distribution="acme-watch")
            assert "(acme-watch 1.0)" in " ".join(hooks.implementers("datarax_pipeline_opened"))
        assert len(hooks.implementers("datarax_pipeline_opened")) == len(before) + 1
    assert hooks.implementers("datarax_pipeline_opened") == before


def test_an_allowlist_goes_on_to_hold_when_plugins_are_read_again() -> None:
    with Plugins() as plugins:
        default_hooks().load_installed(allow=[])
        plugins.add(Watch(), distribution="acme-watch")
        assert default_hooks().implementers("datarax_pipeline_opened") == []
        registry = SourceRegistry.from_environment(allow=["rescale"])
        plugins.add(Count)
        registry.read_again()
        with pytest.raises(PluginDisabledError, match="by the allowlist of this process"):
            registry.get("count")


def test_blocks_nest(plugins: Plugins) -> None:
    plugins.add(Count)
    outer = default_registry()
    with Plugins() as inner:
        inner.add(TinySource)
        assert default_registry().names() == SourceRegistry.from_environment().names() == ["tiny"]
    with Plugins(beside_installed=True) as beside:
        beside.add(TinySource)
        assert outer.names() == SourceRegistry.from_environment().names() == ["count", "tiny"]
    assert default_registry() is outer
    assert outer.names() == SourceRegistry.from_environment().names() == ["count"]


def test_a_tiny_source_is_shuffled_and_has_a_name_in_configs(tiny_source: TinySource) -> None:
    ids = [int(element["id"]) for element in tiny_source]
    assert sorted(ids) == list(range(8))
    assert ids != sorted(ids)
    assert tiny_source.get_records(np.array([3]))["x"].tolist() == [[3.0, 3.5, -3.0]]
    built = build_source({"type": "tiny", "length": 3})
    assert (len(built), type(built), built.config) == (3, TinySource, TinyConfig(length=3))
    assert {"tiny", "memory"} <= set(SourceRegistry.from_environment().names())
    assert len(STAND_INS) == 1


class TestWithAFixtureOfTheSameName:
    @pytest.fixture
    def plugins(self) -> list[str]:
        return ["mine"]

    def test_a_tiny_source_leaves_it_alone(self, plugins: list[str], tiny_source: TinySource) -> None:
        assert plugins == ["mine"]
        assert len(build_source({"type": "tiny"})) == len(tiny_source)


def test_a_tiny_source_beside_temporary_plugins_is_one_of_them(plugins: Plugins, tiny_source: TinySource) -> None:
    plugins.add(Double)
    assert SourceRegistry.from_environment().names() == ["tiny"]
    pipeline = Pipeline(source=tiny_source, batch_size=8, stages=[default_stages().get("double")()])
    assert next(iter(pipeline))["x"].shape == (8, 3)
