"""Commands of ``drx`` in tests of authors, in this process and in one of their own, and the switch of the fixtures."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any, ClassVar

import pytest

from datarax_core import Stage, StageRegistry, hookimpl
from datarax_core.pytest_plugin import Drx, Plugins, TinySource

CONFIG = "source: {type: tiny, length: 6}\nbatch_size: 4\nstages: [{type: none}]\n"


class Nothing(Stage):
    type: str = "none"

    def __call__(self, batch: object) -> object:
        return batch


@pytest.mark.usefixtures("tiny_source")
def test_a_command_sees_the_plugins_of_the_test(plugins: Plugins, drx: Drx, tmp_path: Path) -> None:
    plugins.add(Nothing)
    (tmp_path / "x.yaml").write_text(CONFIG)
    (listed,) = drx("sources", "--json").json()
    assert (listed["name"], listed["distribution"]) == ("tiny", "tiny")
    ended = drx("peek", "x.yaml", cwd=tmp_path)
    assert (ended.exit_status, ended.error) == (0, "")
    assert "6" in ended.output
    assert drx("validate", tmp_path / "x.yaml").output == f"{tmp_path / 'x.yaml'}: valid\n"


def test_a_command_that_fails_says_so(plugins: Plugins, drx: Drx, tmp_path: Path) -> None:
    ended = drx("peek", tmp_path / "none.yaml")
    assert (ended.exit_status, ended.output) == (1, "")
    assert "no such file" in ended.error
    with pytest.raises(ValueError, match=r"^drx peek .*none\.yaml \(exit status 1\):\n.* printed no JSON$"):
        ended.json()
    assert StageRegistry.from_environment().get("cast") is not None
    assert plugins.hidden() == []


def test_a_command_leaves_no_module_and_no_place_behind(
    drx: Drx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, environment = list(sys.path), dict(os.environ)
    for number in "ab":
        (tmp_path / number).mkdir()
        code = f"from datarax_core import Rescale\n\nclass A(Rescale):\n    type: str = 'acme_{number}'\n"
        (tmp_path / number / "acme_stage.py").write_text(code)
        ended = drx("--plugin", "acme_stage.py", "stages", cwd=tmp_path / number)
        assert f"acme_{number}" in ended.output, ended
    monkeypatch.setenv("DATARAX_PLUGINS", "acme_stage.py")
    assert drx("stages", cwd=tmp_path / "a").exit_status == 0
    assert "there is no file" in drx("stages", cwd=tmp_path).error  # not that of the command before
    monkeypatch.undo()
    assert (sys.path, dict(os.environ), "acme_stage" in sys.modules) == (path, environment, False)


class Parses(Stage):
    type: str = "parses"
    on_host: ClassVar[bool] = True

    def __call__(self, batch: Any) -> Any:
        return {"x": [json.loads("no JSON") for _ in batch["id"]]}


@pytest.mark.usefixtures("tiny_source")
def test_an_error_of_a_library_in_a_stage_says_whose_and_of_which_record(
    plugins: Plugins, drx: Drx, tmp_path: Path
) -> None:
    plugins.add(Parses)
    (tmp_path / "x.yaml").write_text(CONFIG.replace("none", "parses"))
    said = drx("peek", "x.yaml", cwd=tmp_path).error
    assert said.startswith("x.yaml:3: stages[0]: JSONDecodeError: Expecting value: line 1 column 1 (char 0)\n")
    assert "which was called with records 0 of " in said


def test_a_bug_is_told_with_its_traceback(drx: Drx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datarax_core._cli.commands.plugins.installed_plugins", lambda: 1 / 0)
    ended = drx("plugins")
    assert ended.exit_status == 1
    assert "ZeroDivisionError: division by zero" in ended.error


def test_a_process_sees_them_too_if_it_can_import_them(plugins: Plugins, drx: Drx, tmp_path: Path) -> None:
    code = "from datarax_core import Rescale\n\nclass A(Rescale):\n    type: str = 'a'\n"
    (tmp_path / "acme_stage.py").write_text(code)
    plugins.add(str(tmp_path / "acme_stage.py"), distribution="acme-stage")
    plugins.add(TinySource, status="disabled")
    listed = drx("plugins", "--json", process=True).json()
    assert {entry["distribution"] for entry in listed} == {"acme-stage", "acme-tiny", "datarax-core"}
    (tiny,) = (entry["plugins"] for entry in listed if entry["distribution"] == "acme-tiny")
    assert [plugin["status"] for plugin in tiny] == ["disabled"]
    (checked,) = drx("check", "acme-stage", "--json").json()["plugins"]
    assert (checked["name"], checked["status"], checked["problem"]) == ("a", "ok", "")

    class Hooks:
        @hookimpl
        def datarax_pipeline_opened(self) -> None:
            pass

    class Local(Nothing):
        type: str = "local"

    plugins.add(Local)
    plugins.add(Hooks())
    message = (
        r"^another process cannot see 'local' \(acme-local 1\.0\) and 'Hooks' \(acme-hooks 1\.0\), which only this one has; "
        r"define a class, or functions marked @hookimpl, at the top of a module, or run the command in this process$"
    )
    with pytest.raises(ValueError, match=message):
        drx("plugins", process=True)
    checked = drx("check", "local", "--json").json()["plugins"]  # a command in this process, which starts others
    said = (
        "'local' (acme-local 1.0) is an object, or a class that is defined in a function, which only the test's process"
    )
    assert said in checked[0]["problem"]


@pytest.mark.usefixtures("tiny_source")
def test_a_process_sees_the_tiny_source_beside_what_is_installed(drx: Drx) -> None:
    listed = {each["name"]: each["distribution"] for each in drx("sources", "--json", process=True).json()}
    assert (listed["tiny"], listed["memory"]) == ("tiny", "datarax-memory")


# -- the switch -----------------------------------------------------------------------------------------------------------

TESTS = """
    import sys


    def test_seen(plugins, drx, tiny_source):
        from datarax_core import SourceRegistry

        assert SourceRegistry.from_environment().names() == ["tiny"]
        assert drx("sources", "--json").json()[0]["name"] == "tiny"
"""

OFF = """
    import sys


    def test_nothing_is_imported_and_core_is_not_rewritten():
        loaded = {name for name in sys.modules if name.startswith("datarax_core")}
        assert loaded <= {
            "datarax_core", "datarax_core.faces", "datarax_core.moved", "datarax_core.pytest_plugin",
            "datarax_core.pytest_plugin.switch",
        } and "datarax_core.pytest_plugin.switch" in loaded
        assert not {"jax", "pydantic", "numpy", "typer"} & set(sys.modules)
        import datarax_core.errors

        assert "Rewriting" not in type(datarax_core.errors.__loader__).__name__
"""


def session(folder: Path, code: str, *args: str) -> str:
    (folder / "test_it.py").write_text(dedent(code))
    done = subprocess.run(  # noqa: S603 - pytest
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:anyio", *args, "test_it.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stdout + done.stderr


def test_fixtures_are_off_and_cost_nothing_unless_asked_for(tmp_path: Path) -> None:
    assert "1 passed" in session(tmp_path, OFF)
    assert "fixture 'plugins' not found" in session(tmp_path, TESTS)


def test_fixtures_are_on_by_the_ini_value_and_work_with_xdist(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ndatarax = true\naddopts = --strict-config\n")
    assert "1 passed" in session(tmp_path, TESTS, "-n", "1")


def test_fixtures_are_on_by_the_option(tmp_path: Path) -> None:
    shown = session(tmp_path, TESTS, "--datarax", "--fixtures")
    for name in ("plugins", "drx", "tiny_source"):
        assert re.search(rf"^{name} -- .*pytest_plugin/fixtures\.py:\d+$", shown, re.MULTILINE), shown
