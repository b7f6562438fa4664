"""Plugins of files and modules that ``DATARAX_PLUGINS`` names: found, refused, switched off, in conflict, and faulty."""

import atexit
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from datarax_core.errors import (
    PluginConflictError,
    PluginContractError,
    PluginDisabledError,
    PluginLoadError,
    PluginNotFoundError,
    PluginWarning,
)
from datarax_core.extensions.contract import origin_of
from datarax_core.extensions.defaults import set_aside
from datarax_core.extensions.discovery import NAMED
from datarax_core.extensions.hooks import HookRegistry, Hooks
from datarax_core.extensions.places import Place, given_places
from datarax_core.registry.decoders import DecoderRegistry
from datarax_core.registry.sources import SourceRegistry, default_hooks, default_registry
from datarax_core.registry.stages import StageRegistry

if TYPE_CHECKING:
    from conftest import Site

CODE = """
    from typing import Literal

    import jax
    import numpy as np

    from datarax_core import DataSourceModule, Decoder, Rename, SourceConfig, Stage, hookimpl

    print("imported")


    class {name}Config(SourceConfig):
        type: Literal["{type}"] = "{type}"


    class {name}(DataSourceModule):
        config_class = {name}Config

        def __len__(self):
            return 4

        def element_spec(self):
            return {{"x": jax.ShapeDtypeStruct((), np.int32)}}

        def get_records(self, indices):
            return {{"x": np.asarray(indices, np.int32)}}
"""

MORE = """
    class _Private(Stage):
        type: Literal["private"] = "private"

        def __call__(self, batch):
            return batch


    class Base(Stage):
        def __call__(self, batch):
            return batch


    class Halve(Base):
        type: Literal["halve"] = "halve"


    Alias = Halve


    class Plain(Decoder):
        type: Literal["plain"] = "plain"

        def decode_record(self, record):
            return {"x": record}


    @hookimpl
    def datarax_pipeline_opened(pipeline):
        print("opened")
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a file with code to the working folder, and name it, or another word, by ``DATARAX_PLUGINS``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for variable in ("DATARAX_DISABLE_PLUGINS", "DATARAX_STRICT_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    before, named = set(sys.modules), dict(NAMED)

    def file(code: str, path: str = "acme_named.py", *, word: str = "") -> Path:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(dedent(code))
        given = filter(None, [os.environ.get("DATARAX_PLUGINS"), word or path])
        monkeypatch.setenv("DATARAX_PLUGINS", ",".join(given))
        return tmp_path / path

    yield file
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    NAMED.clear()
    NAMED.update(named)


def counting(cls: str = "Count", type_: str = "count") -> str:
    return CODE.format(name=cls, type=type_)


def found(registry: type[Any]) -> dict[str, tuple[str, str]]:
    infos = registry.from_environment().describe()
    return {info.name: (info.status, info.place) for info in infos if info.place}


# -- what is found --------------------------------------------------------------------------------------------------------


def test_all_plugins_that_a_file_defines_are_found(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(counting() + MORE)
    place = "DATARAX_PLUGINS=acme_named.py"
    assert found(SourceRegistry) == {"count": ("ready", place)}
    assert found(StageRegistry) == {"halve": ("ready", place)}
    assert found(DecoderRegistry) == {"plain": ("ready", place)}
    assert found(HookRegistry) == {"acme_named": ("ready", place)}
    assert capsys.readouterr() == ("", "imported\n")
    registry = SourceRegistry.from_environment()
    (info,) = (info for info in registry.describe() if info.name == "count")
    assert (info.distribution, info.version, info.target) == ("acme_named.py", "", "acme_named:Count")
    assert info.origin == registry.origin("count") == origin_of(registry.get("count")) == place
    assert registry.get("count") is sys.modules["acme_named"].Count


def test_hooks_of_a_file_are_called(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(MORE.replace("_Private", "_P"), "acme_watch.py", word="acme_watch.py")
    (Path("acme_watch.py")).write_text(
        "from datarax_core import hookimpl\n\n@hookimpl\ndef datarax_pipeline_opened(pipeline):\n    1 / pipeline\n"
    )
    hooks = Hooks(SourceRegistry())
    hooks.load_installed()
    assert hooks.implementers("datarax_pipeline_opened") == ["hook plugin 'acme_watch' (DATARAX_PLUGINS=acme_watch.py)"]
    with pytest.raises(ZeroDivisionError) as caught:
        hooks.call.datarax_pipeline_opened(pipeline=0)  # type: ignore[arg-type]
    note = "while datarax_pipeline_opened of hook plugin 'acme_watch' (DATARAX_PLUGINS=acme_watch.py) ran"
    assert caught.value.__notes__ == [note]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("acme_named.py:Count", {"count"}),
        ("acme_named:Count", {"count"}),
        ("acme_named", {"count", "other"}),
        ("./acme_named.py", {"count", "other"}),
        ("acme_named.py:Count, acme_named.py:Count,", {"count"}),
        ("acme_named.py:Count,acme_named.py", {"count", "other"}),
    ],
)
def test_a_word_names_a_file_a_module_or_a_class(write: Write, word: str, expected: set[str]) -> None:
    write(counting() + counting("Other", "other"), word=word)
    assert set(found(SourceRegistry)) == expected
    assert SourceRegistry.from_environment().get("count").__module__ == "acme_named"


def test_a_file_of_a_package_is_imported_as_its_module(write: Write) -> None:
    write("", "src/acme_package/__init__.py", word="src/acme_package/data/acme_named.py")
    write("", "src/acme_package/data/__init__.py", word=" ")
    write("NAME = 'count'", "src/acme_package/data/names.py", word=" ")
    write("from .names import NAME\n" + dedent(counting()), "src/acme_package/data/acme_named.py", word=" ")
    cls = SourceRegistry.from_environment().get("count")
    assert cls.__module__ == "acme_package.data.acme_named"
    assert sys.path[-1] == str(Path("src").absolute())


def test_an_object_with_hooks_is_named_and_a_class_of_them_is_refused(write: Write) -> None:
    code = """
        from datarax_core import hookimpl


        class Watch:
            @hookimpl
            def datarax_pipeline_opened(self):
                pass


        watch = Watch()
    """
    write(code, word="acme_named.py:watch,acme_named.py:Watch")
    registry = HookRegistry.from_environment()
    assert {"watch", "Watch"} <= set(registry.names())
    assert registry.get("watch") is sys.modules["acme_named"].watch
    with pytest.raises(
        PluginContractError, match=r"'Watch' \(DATARAX_PLUGINS=acme_named\.py:Watch\) .* such as Watch\(\)"
    ):
        registry.get("Watch")


def test_the_main_script_is_not_run_again(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(counting())
    main = type(sys)("__main__")
    main.__file__ = str(path)
    exec(path.read_text(), vars(main))  # noqa: S102 - as Python runs a script
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert SourceRegistry.from_environment().get("count") is main.Count
    assert "acme_named" not in sys.modules


def test_a_file_that_looks_up_plugins_while_it_is_imported_finds_the_others(write: Write) -> None:
    write(counting("Other", "other"), "acme_other.py")
    write(
        "from datarax_core import SourceRegistry\nNAMES = SourceRegistry.from_environment().names()\n"
        + dedent(counting())
    )
    assert {"count", "other"} <= set(SourceRegistry.from_environment().names())
    assert "other" in sys.modules["acme_named"].NAMES
    assert "count" not in sys.modules["acme_named"].NAMES


def test_a_program_may_change_its_working_folder(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATARAX_PLUGINS_FOLDER", raising=False)
    write(counting())
    assert "count" in SourceRegistry.from_environment().names()
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert "count" in SourceRegistry.from_environment().names()


def test_another_value_of_the_variable_is_read_in_the_folder_of_its_own(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATARAX_PLUGINS_FOLDER", raising=False)
    write(counting())
    assert "count" in SourceRegistry.from_environment().names()
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.setenv("DATARAX_PLUGINS", "./acme_named.py")
    with pytest.raises(PluginNotFoundError, match=r"there is no file /.*/run/acme_named\.py"):
        SourceRegistry.from_environment()


def test_a_file_may_register_in_the_default_registry_while_it_is_imported(write: Write) -> None:
    more = """
    from datarax_core.registry.sources import default_hooks, default_registry


    class HiddenConfig(SourceConfig):
        type: Literal["hidden"] = "hidden"


    class _Hidden(Count):
        config_class = HiddenConfig


    default_registry().register(_Hidden)
    default_registry().register(Count)
    HOOKS = default_hooks()
    """
    write(dedent(counting()) + dedent(more))
    with set_aside():
        registry = default_registry()
        assert {"count", "hidden"} <= set(registry.names())
        assert registry.get("hidden").__name__ == "_Hidden"
        assert [info.place for info in registry.describe() if info.name == "count"] == ["DATARAX_PLUGINS=acme_named.py"]
        assert default_hooks() is sys.modules["acme_named"].HOOKS
        atexit.unregister(default_hooks().close_pipelines)


def test_what_a_file_that_fails_had_made_is_not_kept(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("from datarax_core.registry.sources import default_registry\ndefault_registry()\n1 / 0")
    monkeypatch.setenv("DATARAX_STRICT_PLUGINS", "1")
    with set_aside():
        for _ in range(2):
            with pytest.raises(PluginLoadError, match="ZeroDivisionError"):
                default_registry()


def test_an_installed_plugin_that_is_named_too_counts_once(site: "Site", write: Write) -> None:
    site.install_working("acme-count", "count")
    write("", "unused.py", word="acme_count:Source")
    infos = [info for info in SourceRegistry.from_environment().describe() if info.name == "count"]
    assert [(info.origin, info.status) for info in infos] == [("acme-count 1.0", "ready")]


# -- words that name nothing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("acme_nmed.py", r"there is no file /.*/acme_nmed\.py; did you mean 'acme_named\.py'\?"),
        ("lib/none.py:Count", r"there is no file /.*/lib/none\.py"),
        ("./acme_named", r"/.*/acme_named is no file of Python; name a \.py file, or a module by its dotted name"),
        (
            "acme-named",
            r"'acme-named' names neither a file nor a module; write path/to/file\.py, path/to/file\.py:Class, mod",
        ),
        (
            "acme_absent",
            r"there is no module 'acme_absent' on the path of this Python, nor in the working folder; install it",
        ),
        ("acme_absent.sources:X", r"there is no module 'acme_absent' on the path of this Python"),
        ("acme_named.py:Cuont", r"/.*/acme_named\.py has no 'Cuont'; did you mean 'Count'\?"),
        (
            "acme_named:CountConfig",
            r"the class CountConfig derives from none of DataSourceModule, Stage and Decoder, and has no",
        ),
        (
            "acme_named.py:np",
            r"np is <module 'numpy' .*, which derives from none of DataSourceModule, Stage and Decoder, and",
        ),
        (
            "not-a-name.py",
            r"/.*/not-a-name\.py cannot be imported, since 'not-a-name' is no name of Python; call it not_a_name",
        ),
        (
            "empty.py",
            r"no plugin is defined in /.*/empty\.py \(Count is imported there; name where they are defined\); looked for",
        ),
        ("loop.py", r"/.*/loop\.py is no file, but a link that leads nowhere; name a \.py file$"),
        ("folder.py", r"/.*/folder\.py is no file, but a folder; name a \.py file$"),
        (
            "my.package/count.py",
            r"/.*/count\.py cannot be imported, since the package 'my\.package' has a dot in its name; call the folder my_",
        ),
    ],
)
def test_a_word_that_names_nothing_is_an_error(write: Write, word: str, message: str) -> None:
    write(counting(), word=word)
    Path("not-a-name.py").touch()
    Path("empty.py").write_text("from acme_named import Count\n")
    Path("loop.py").symlink_to("loop.py")
    Path("folder.py").mkdir()
    Path("my.package").mkdir()
    Path("my.package/__init__.py").touch()
    Path("my.package/count.py").touch()
    sys.path.append(str(Path.cwd()))
    with pytest.raises(PluginNotFoundError, match=rf"^DATARAX_PLUGINS={word}: {message}"):
        SourceRegistry.from_environment()


@pytest.mark.parametrize("name", ["json", "numpy", "datarax_core", "sys"])
def test_a_file_called_like_another_module_is_refused(write: Write, name: str) -> None:
    write(counting(), f"{name}.py")
    message = (
        rf"^DATARAX_PLUGINS={name}\.py: its module would be called '{name}', by which Python imports another one \(.*"
    )
    with pytest.raises(PluginConflictError, match=message):
        SourceRegistry.from_environment()


def test_files_of_one_name_in_two_folders_are_refused(write: Write) -> None:
    write(counting(), "a/acme_named.py")
    write(counting("Other", "other"), "b/acme_named.py")
    with pytest.raises(
        PluginConflictError, match=r"b/acme_named\.py: its module .* imports another one \(/.*/a/acme_named\.py\)"
    ):
        SourceRegistry.from_environment()


def test_a_path_with_a_colon_or_a_drive_is_a_path() -> None:
    assert Place(r"C:\data\count.py", "--plugin", "/").attribute == ""
    assert Place(r"C:\data\count.py:Count", "--plugin", "/").home == r"C:\data\count.py"
    assert Place("~/count.py", "--plugin", "/").file == str(Path.home() / "count.py")
    assert given_places() == []


# -- faulty files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(:\n" + counting(), r"acme_named\.py, line 1: SyntaxError: invalid syntax"),
        (counting() + "\n    1 / 0", r"acme_named\.py, line \d+: ZeroDivisionError: division by zero"),
        (counting() + "\n    raise SystemExit(3)", r"acme_named\.py, line \d+: exited with 3"),
        (
            counting() + "\n    import acme_gone",
            r"acme_named\.py, line \d+: ModuleNotFoundError: No module named 'acme_gone'",
        ),
        (counting() + "\n    class Stop(BaseException): pass\n    raise Stop('here')", r"line \d+: Stop: here"),
    ],
)
def test_a_faulty_file_is_an_error_of_its_own_names(
    write: Write, code: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(code)
    write(counting("Fine", "fine"), "acme_fine.py")
    failed = rf"DATARAX_PLUGINS=acme_named\.py failed to import: .*{message}; correct it, or leave acme_named\.py out"
    with pytest.warns(PluginWarning, match=rf"^{failed}; what it has is missing$"):
        registry = SourceRegistry.from_environment()
    assert registry.get("fine").__name__ == "Fine"
    with pytest.raises(PluginLoadError, match=rf"^source 'count': {failed}$"):
        registry.get("count")
    with pytest.raises(PluginNotFoundError, match=rf"^unknown source 'fien'; did you mean 'fine'\? .*; {failed}$"):
        registry.get("fien")
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("DATARAX_STRICT_PLUGINS", "1")
    with pytest.raises(PluginLoadError, match=rf"^{failed}$"):
        SourceRegistry.from_environment()


def test_a_file_that_was_corrected_is_imported_again(write: Write) -> None:
    path = write("1 / 0")
    with pytest.warns(PluginWarning, match="ZeroDivisionError"):
        SourceRegistry.from_environment()
    path.write_text(dedent(counting()))
    assert "count" in SourceRegistry.from_environment().names()


def test_an_interrupt_during_an_import_is_not_caught(write: Write) -> None:
    write("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        SourceRegistry.from_environment()


def test_a_class_that_is_no_source_is_refused_by_its_name(write: Write) -> None:
    write("from datarax_core import DataSourceModule\n\nclass Unnamed(DataSourceModule):\n    pass\n")
    message = r"^source 'Unnamed' \(DATARAX_PLUGINS=acme_named\.py\) is no source: it has no config_class"
    with pytest.raises(PluginContractError, match=message):
        SourceRegistry.from_environment().get("Unnamed")


# -- names that clash, and what is switched off ---------------------------------------------------------------------------


def test_a_name_that_an_installed_plugin_has_is_a_conflict(
    site: "Site", write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install_working("acme-count", "count")
    write(counting())
    message = (
        r"^source 'count' is provided by acme-count 1\.0 \(acme_count:Source\) and DATARAX_PLUGINS=acme_named\.py "
        r"\(acme_named:Count\); give acme_named:Count another name, its `type`, or leave acme_named\.py out$"
    )
    with pytest.raises(PluginConflictError, match=message):
        SourceRegistry.from_environment().get("count")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme-count")
    assert SourceRegistry.from_environment().get("count").__module__ == "acme_named"
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme_named.py")
    assert SourceRegistry.from_environment().get("count").__module__ == "acme_count"
    monkeypatch.delenv("DATARAX_DISABLE_PLUGINS")
    monkeypatch.setenv("DATARAX_STRICT_PLUGINS", "1")
    with pytest.raises(PluginConflictError, match=message):
        SourceRegistry.from_environment()


def test_names_that_clash_in_files_or_belong_to_others_are_conflicts(write: Write) -> None:
    write(counting() + counting("Mix", "mix"))
    write(counting("Other", "count"), "acme_other.py")
    registry = SourceRegistry.from_environment()
    with pytest.raises(
        PluginConflictError, match=r"by DATARAX_PLUGINS=acme_named.py \(acme_named:Count\) and DATARAX_PLUGINS=acm"
    ):
        registry.get("count")
    with pytest.raises(
        PluginConflictError, match=r"'mix' is .*, but that name belongs to datarax-mix; give acme_named:Mix anoth"
    ):
        registry.get("mix")


@pytest.mark.parametrize("word", ["all", "acme_named.py", "count"])
def test_what_is_switched_off_is_said(write: Write, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(counting())
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", word)
    registry = SourceRegistry.from_environment()
    assert ("acme_named" in sys.modules) == (word == "count")
    message = (
        rf"^source 'count'.* is disabled by DATARAX_DISABLE_PLUGINS={word}; take that out of the variable to use it$"
    )
    with pytest.raises(PluginDisabledError, match=message):
        registry.get("count")


def test_an_allowlist_is_not_bypassed(site: "Site", write: Write) -> None:
    """A file is allowed by its place only, and imported only then: its names are its own choice."""
    site.install_working("acme-count", "other")
    path = write(counting() + counting("Other", "other"))
    for allow in ([], ["count", "other"], ["acme-count"]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            registry = SourceRegistry.from_environment(allow=allow)
        assert "acme_named" not in sys.modules
        assert "count" not in registry.names()
        message = (
            r"^source 'count': DATARAX_PLUGINS=acme_named\.py is disabled by the allowlist of this process; add 'acme"
        )
        with pytest.raises(PluginDisabledError, match=message):
            registry.get("count")
    assert registry.get("other").__module__ == "acme_count"
    for word in ("acme_named.py", str(path)):
        allowed = SourceRegistry.from_environment(allow=[word])
        assert allowed.get("count").__module__ == "acme_named"


def test_hooks_of_a_file_need_to_be_allowed_too(write: Write) -> None:
    write(counting() + MORE)
    hooks = Hooks(SourceRegistry())
    hooks.load_installed(allow=[])
    assert hooks.implementers("datarax_pipeline_opened") == []
    assert "acme_named" not in sys.modules
