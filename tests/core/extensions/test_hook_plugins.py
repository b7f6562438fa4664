"""Hook plugins: loading, refusals, and that a broken plugin does nothing to the others."""

import subprocess
import sys
import threading
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from datarax_core import hookimpl
from datarax_core.errors import (
    PluginConflictError,
    PluginContractError,
    PluginIncompatibleError,
    PluginLoadError,
    PluginNotFoundError,
    PluginWarning,
)
from datarax_core.extensions.hooks import HookRegistry, Hooks
from datarax_core.registry.sources import SourceRegistry

if TYPE_CHECKING:
    from conftest import Site

GROUP = "datarax.hooks"
FINE = """
    from datarax_core import hookimpl

    HEARD = []

    @hookimpl
    def datarax_batch_ready(step):
        HEARD.append(step)
"""


def _install(site: "Site", dist: str, code: str | None = FINE, **options: Any) -> None:
    name = dist.replace("-", "_")
    site.install(dist, {options.pop("name", name): options.pop("target", name)}, code=code, group=GROUP, **options)


def _heard(dist: str) -> list[int]:
    heard: list[int] = sys.modules[dist.replace("-", "_")].HEARD
    return heard


def _tell(hooks: Hooks) -> None:
    hooks.call.datarax_batch_ready(pipeline=None, step=7, batch=None)  # type: ignore[arg-type]  # no hook uses it


# -- loading ------------------------------------------------------------------------------------------------------------


def test_installed_hook_plugins_are_listed_without_importing_and_loaded_once(site: "Site") -> None:
    _install(site, "acme-fine", version="2.0")
    (info,) = HookRegistry.from_environment().describe()
    assert (info.name, info.status, info.origin) == ("acme_fine", "ready", "acme-fine 2.0")
    hooks = Hooks(SourceRegistry())
    assert "acme_fine" not in sys.modules
    hooks.load_installed()
    hooks.load_installed()
    _tell(hooks)
    assert _heard("acme-fine") == [7]
    assert hooks.hears_batches


def test_an_object_may_be_named_and_two_names_are_one_plugin(site: "Site") -> None:
    code = """
        from datarax_core import hookimpl
        HEARD = []

        class Listens:
            @hookimpl
            def datarax_batch_ready(self, step):
                HEARD.append(step)

        hooks = Listens()
    """
    targets = {"one": "acme_object:hooks", "two": "acme_object:hooks"}
    site.install("acme-object", targets, code=code, group=GROUP)
    hooks = Hooks(SourceRegistry())
    hooks.load_installed()
    _tell(hooks)
    assert _heard("acme-object") == [7]


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("raises", {"code": "1 / 0"},
     r"'acme_raises' \(acme-raises 1\.0\) failed to import acme_raises: ZeroDivisionError: division by zero, in .*, line 1; "),
    ("exits", {"code": "raise SystemExit('no GPU')"}, r"failed to import acme_exits: exited with 'no GPU'"),
    ("skips", {"code": "import pytest; pytest.skip('as a test would', allow_module_level=True)"},
     r"failed to import acme_skips: Skipped: as a test would"),
    ("lacks", {"target": "acme_lacks:hooks"}, r"AttributeError: module 'acme_lacks' has no attribute 'hooks'"),
    ("gone", {"code": None}, r"ModuleNotFoundError: No module named 'acme_gone'"),
    ("newer", {"requires": ("datarax-core>=99",)}, r"needs datarax-core>=99, and datarax-core .* upgrade acme-newer"),
    ("empty", {"code": ""}, r"cannot be used: it implements none; mark a function with @hookimpl, named datarax_"),
    ("misspelt", {"code": FINE.replace("batch_ready", "batch_reday")},
     r"there is no hook 'datarax_batch_reday'; did you mean 'datarax_batch_ready'\?"),
    ("registers", {"code": """
        from datarax_core import hookimpl

        @hookimpl
        def datarax_register_sources(registry):
            registry.register(dict)
    """}, r"failed to register its sources: PluginContractError: source dict \(registered by hand\) is no source"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "options", "message"), BROKEN, ids=[what for what, _, _ in BROKEN])
def test_a_broken_hook_plugin_is_warned_of_and_left_out_alone(
    site: "Site", what: str, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(site, f"acme-{what}", **options)
    _install(site, "acme-zfine")
    hooks = Hooks(SourceRegistry())
    with pytest.warns(PluginWarning, match=rf"^hook plugin .*{message}.*; none of its hooks is called$"):
        hooks.load_installed()
    _tell(hooks)
    assert _heard("acme-zfine") == [7]
    monkeypatch.setenv("DATARAX_STRICT_PLUGINS", "1")
    sys.modules.pop(f"acme_{what}", None)
    with pytest.raises((PluginLoadError, PluginIncompatibleError, PluginContractError), match=message):
        Hooks(SourceRegistry()).load_installed()


def test_hook_plugins_of_one_name_are_a_conflict_and_neither_is_called(site: "Site") -> None:
    _install(site, "acme-one", name="progress")
    _install(site, "acme-two", name="progress")
    _install(site, "acme-zfine")
    hooks = Hooks(SourceRegistry())
    message = r"^hook plugin 'progress' is provided by acme-one 1\.0 \(acme_one\) and acme-two 1\.0 \(acme_two\); uninstall one"
    with pytest.warns(PluginWarning, match=message):
        hooks.load_installed()
    assert not {"acme_one", "acme_two"} & sys.modules.keys()
    _tell(hooks)
    assert _heard("acme-zfine") == [7]


def test_a_hook_plugin_that_prints_prints_to_stderr_and_is_called(
    site: "Site", capsys: pytest.CaptureFixture[str]
) -> None:
    _install(site, "acme-prints", "    print('hello')\n" + FINE)
    hooks = Hooks(SourceRegistry())
    hooks.load_installed()
    assert capsys.readouterr() == ("", "hello\n")
    assert hooks.hears_batches


def test_a_slow_hook_plugin_delays_its_users_and_is_loaded_once(site: "Site") -> None:
    code = "    import threading\n    threading.Event().wait(0.05)\n" + FINE
    _install(site, "acme-slow", code)
    hooks = Hooks(SourceRegistry())

    heard: list[bool] = []
    threads = [
        threading.Thread(target=lambda: (hooks.load_installed(), heard.append(hooks.hears_batches))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [True, True, True]
    _tell(hooks)
    assert _heard("acme-slow") == [7]


def test_a_disabled_hook_plugin_is_never_imported_and_not_warned_of(
    site: "Site", monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(site, "acme-off", "raise RuntimeError('imported')")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme-off")
    Hooks(SourceRegistry()).load_installed()
    monkeypatch.delenv("DATARAX_DISABLE_PLUGINS")
    Hooks(SourceRegistry()).load_installed(allow=["memory"])


def test_hooks_are_allowed_before_they_are_loaded(site: "Site") -> None:
    _install(site, "acme-fine")
    hooks = Hooks(SourceRegistry())
    hooks.load_installed(allow=["acme-fine"])
    assert hooks.hears_batches
    with pytest.raises(RuntimeError, match=r"^hook plugins are loaded; allow some of them before the first"):
        hooks.load_installed(allow=[])


def test_the_first_pipeline_loads_hooks_and_so_does_a_name_that_only_a_hook_registers(site: "Site") -> None:
    """In a process of its own: a config finds a source that a hook registers; open pipelines are closed at the end."""
    code = """
        import jax, numpy as np
        from typing import Literal
        from datarax_core import DataSourceModule, SourceConfig, hookimpl

        print("loaded")

        class Config(SourceConfig):
            type: Literal["acme_extra"] = "acme_extra"

        class Source(DataSourceModule):
            config_class = Config
            __len__ = lambda self: 4
            element_spec = lambda self: {"x": jax.ShapeDtypeStruct((), np.int32)}
            get_records = lambda self, indices: {"x": np.asarray(indices, np.int32)}

        @hookimpl
        def datarax_register_sources(registry):
            registry.register(Source)

        @hookimpl
        def datarax_pipeline_closed(pipeline):
            print("closed at", pipeline.cursor.position)
    """
    _install(site, "acme-extra", code)
    script = """
        import sys
        import datarax_core
        from datarax_core import SourceRegistry, load_config
        from datarax_core.registry.pipeline_config import parse_config
        SourceRegistry.from_environment().describe()
        assert "pluggy" not in sys.modules
        config = parse_config({"source": {"type": "acme_extra"}, "batch_size": 2})
        assert "acme_extra" in sys.modules
        pipeline = datarax_core.Pipeline.from_config(config)
        print(pipeline.step()["x"].tolist())
    """
    command = [sys.executable, "-W", "error", "-c", dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert (done.returncode, done.stdout) == (0, "[0, 1]\nclosed at 2\n"), done.stderr
    assert done.stderr == "loaded\n"


# -- refusals -----------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, str]] = [
    ("@hookimpl\ndef datarax_batch_ready(stpe): pass", r"datarax_batch_ready has no argument 'stpe'; did you mean 'step'\?$"),
    ("@hookimpl\ndef datarax_batch_ready(x): pass",
     r"datarax_batch_ready has no argument 'x' \(it has pipeline, step, batch\)$"),
    ("@hookimpl\ndef datarax_batch_ready(step=0): pass",
     r"datarax_batch_ready has the argument `step=0`; name those you need, of pipeline, step, batch, without defaults$"),
    ("@hookimpl\ndef datarax_batch_ready(**all): pass", r"has the argument `\*\*all`; name those you need"),
    ("@hookimpl\ndef datarax_batch_ready(*, step): pass", r"has the argument `step`; name those you need"),
    ("@hookimpl\ndef datarax_xyzzy(): pass", r"there is no hook 'datarax_xyzzy' \(hooks: datarax_register_sources, "),
    ("@hookimpl\ndef epoch_finished(): pass", r"there is no hook 'epoch_finished'; did you mean 'datarax_epoch_finished'\?$"),
    ("def datarax_batch_ready(): pass",
     r"datarax_batch_ready is not marked, and would never be called; write @hookimpl above it, or name it otherwise$"),
    ("@hookimpl(hookwrapper=True)\ndef datarax_create_source(): yield",
     r"datarax_create_source is an old-style hookwrapper; write @hookimpl\(wrapper=True\), and `return \(yield\)` in it$"),
    ("@hookimpl\ndef datarax_create_source(): return (yield)",
     r"datarax_create_source is a wrapper if it yields, and only then: write wrapper=True$"),
    ("@hookimpl(wrapper=True)\ndef datarax_create_source(): pass",
     r"is a wrapper if it yields, and only then: its code has no `yield`; take wrapper=True out$"),
    ("@hookimpl(wrapper=True)\ndef datarax_register_sources(registry): yield",
     r"datarax_register_sources is called for each plugin by itself, and has nothing to wrap; take wrapper=True out$"),
    ("@hookimpl\nasync def datarax_batch_ready(): pass", r"is a coroutine, which nobody would await; write `def`$"),
    ("@hookimpl\ndef datarax_batch_ready(x): pass\n@hookimpl\ndef datarax_pipeline_open(): pass",
     r"has no argument 'x' .*; there is no hook 'datarax_pipeline_open'; did you mean 'datarax_pipeline_opened'\?$"),
]  # fmt: skip


class _Namespace:
    """An object with the functions of some code, as a module has them."""

    def __init__(self, code: str) -> None:
        exec(code, {"hookimpl": hookimpl}, vars(self))  # noqa: S102 - our own text


@pytest.mark.parametrize(("code", "message"), REFUSED)
def test_an_implementation_that_would_not_be_called_as_written_is_refused(code: str, message: str) -> None:
    hooks = Hooks(SourceRegistry())
    with pytest.raises(
        PluginContractError, match=rf"^hook plugin 'mine' \(registered by hand\) cannot be used: .*{message}"
    ):
        hooks.register(_Namespace(code), "mine")
    hooks.register(_Namespace("@hookimpl\ndef datarax_batch_ready(): pass"), "mine")


def test_a_class_is_refused_as_a_plugin() -> None:
    with pytest.raises(PluginContractError, match=r"it is the class _Namespace; name a module, or an object such as"):
        Hooks(SourceRegistry()).register(_Namespace)


def test_an_optional_hook_of_another_core_is_accepted() -> None:
    code = "@hookimpl(optionalhook=True)\ndef datarax_of_later(): pass\n@hookimpl\ndef datarax_batch_ready(): pass"
    hooks = Hooks(SourceRegistry())
    hooks.register(_Namespace(code))
    assert hooks.hears_batches


def test_methods_static_methods_and_other_names_are_called_and_properties_are_not_asked() -> None:
    heard: list[str] = []

    class Listens:
        @property
        def trap(self) -> None:
            raise RuntimeError("asked")

        @staticmethod
        @hookimpl(specname="datarax_batch_ready", tryfirst=True)
        def on_batch(step: int) -> None:
            heard.append(f"static {step}")

        @hookimpl
        @classmethod
        def datarax_batch_ready(cls, step: int) -> None:
            heard.append(f"{cls.__name__} {step}")

    hooks = Hooks(SourceRegistry())
    hooks.register(Listens())
    _tell(hooks)
    assert heard == ["static 7", "Listens 7"]


def test_a_plugin_is_registered_once_and_unregistered_once() -> None:
    hooks = Hooks(SourceRegistry())
    plugin = _Namespace("@hookimpl\ndef datarax_batch_ready(): pass")
    hooks.register(plugin)
    message = (
        r"^hook plugin '{}' \(registered by hand\) or one of its name is registered already; unregister that first$"
    )
    with pytest.raises(PluginConflictError, match=message.format("_Namespace 1")):
        hooks.register(plugin)
    with pytest.raises(PluginConflictError, match=message.format("_Namespace")):
        hooks.register(_Namespace("@hookimpl\ndef datarax_batch_ready(): pass"), "_Namespace")
    hooks.unregister(plugin)
    assert not hooks.hears_batches
    with pytest.raises(ValueError, match=r"is not registered, and so cannot be unregistered$"):
        hooks.unregister(plugin)


def test_an_installed_hook_plugin_whose_name_is_registered_by_hand_is_left_out(site: "Site") -> None:
    _install(site, "acme-fine")
    hooks = Hooks(SourceRegistry())
    hooks.register(_Namespace("@hookimpl\ndef datarax_batch_ready(): pass"), "acme_fine")
    with pytest.warns(
        PluginWarning, match=r"^hook plugin 'acme_fine' \(acme-fine 1\.0\) or one of its name is registered"
    ):
        hooks.load_installed()
    _tell(hooks)
    assert _heard("acme-fine") == []


def test_a_hook_plugin_that_declares_an_api_version_of_an_earlier_release_is_called() -> None:
    hooks = Hooks(SourceRegistry())
    hooks.register(_Namespace("API_VERSION = 9\n@hookimpl\ndef datarax_batch_ready(): pass"), "mine")
    assert hooks.hears_batches


# -- strict -------------------------------------------------------------------------------------------------------------


def test_a_strict_process_refuses_a_conflict_before_anything_is_imported(
    site: "Site", monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(site, "acme-one", name="progress")
    _install(site, "acme-two", name="progress")
    monkeypatch.setenv("DATARAX_STRICT_PLUGINS", "1")
    with pytest.raises(PluginConflictError, match=r"^hook plugin 'progress' is provided by acme-one 1\.0"):
        Hooks(SourceRegistry()).load_installed()
    with pytest.raises(PluginNotFoundError, match=r"^unknown hook plugin 'nix' \(installed: none\)$"):
        HookRegistry().get("nix")
