"""Plugins without packaging, as users of ``drx`` and of Python have them: named by file or module, in real processes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from commands import DRX, completed, invoke, run

from datarax_core import ConfigError, Pipeline, load_config
from datarax_core.extensions.discovery import NAMED

CODE = """
    from typing import Literal

    import jax
    import numpy as np

    from datarax_core import DataSourceModule, SourceConfig, Stage, hookimpl

    print("imported")


    class CountConfig(SourceConfig):
        type: Literal["count"] = "count"
        size: int = 10


    class Count(DataSourceModule):
        config_class = CountConfig

        def __len__(self):
            return self.config.size

        def element_spec(self):
            return {"x": jax.ShapeDtypeStruct((), np.int32)}

        def get_records(self, indices):
            return {"x": np.asarray(indices, np.int32)}


    class Halve(Stage):
        type: Literal["halve"] = "halve"
        on_host = True

        def __call__(self, batch):
            return {"x": batch["x"] // 2}


    @hookimpl
    def datarax_pipeline_opened(pipeline):
        print("opened", pipeline.source.title)
"""

CONFIG = "source: {type: count}\nbatch_size: 4\nstages: [{type: halve}]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the working folder, with a file of plugins and a config that needs them."""
    (tmp_path / "acme_count.py").write_text(dedent(CODE))
    (tmp_path / "x.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("DATARAX_PLUGINS", raising=False)
    before = dict(NAMED)
    yield tmp_path
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]
    NAMED.clear()
    NAMED.update(before)


def of_the_file(output: str) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = json.loads(output)
    return [each for each in listed if "acme_count.py" in each["distribution"]]


# -- drx ------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_listings_say_where_a_plugin_came_from() -> None:
    done = invoke("--plugin", "./acme_count.py", "sources", "--json")
    (count,) = of_the_file(done.stdout)
    assert count == {
        "name": "count",
        "status": "ready",
        "distribution": "./acme_count.py",
        "version": "",
        "target": "acme_count:Count",
        "detail": "",
        "place": "--plugin ./acme_count.py",
    }
    lines = invoke("--plugin", "./acme_count.py", "plugins").stdout.splitlines()
    rows = [line.split(maxsplit=5) for line in lines if "acme_count" in line]
    assert [" ".join(row) for row in rows] == [
        "./acme_count.py source count ready by --plugin ./acme_count.py",
        "./acme_count.py stage halve ready by --plugin ./acme_count.py",
        "./acme_count.py hook plugin acme_count ready by --plugin ./acme_count.py",
    ]
    assert "by --plugin ./acme_count.py" in invoke("--plugin", "./acme_count.py", "stages").stdout
    assert "count" not in invoke("sources").stdout.split()


def test_a_run_with_workers_uses_source_stage_and_hook_of_a_file(folder: Path) -> None:
    (folder / "lib").mkdir()
    (folder / "acme_count.py").rename(folder / "lib" / "acme_count.py")
    (folder / "x.yaml").write_text(f"{CONFIG}workers: 1\n")
    done = run(DRX, "--plugin", "lib/acme_count.py:Count", "--plugin", "lib/acme_count.py", "run", "x.yaml", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["records"] == 10
    assert done.stderr.splitlines() == ["imported", "opened Count", "imported"]  # the last: the worker


@pytest.mark.usefixtures("folder")
def test_other_commands_know_them_too() -> None:
    named = "--plugin", "acme_count.py"
    assert invoke(*named, "validate", "x.yaml").stdout == "x.yaml: valid\n"
    assert "integer; default 10" in invoke(*named, "describe", "count").stdout
    assert "10 records" in invoke(*named, "plan", "x.yaml").stdout
    schema = json.loads(run(DRX, *named, "schema").stdout)
    assert {"source.count", "stage.halve"} <= set(schema["$defs"])
    refused = invoke("validate", "x.yaml")
    assert refused.exit_code == 1
    assert "source.type: unknown source 'count'" in refused.stderr


@pytest.mark.usefixtures("folder")
def test_names_of_a_file_are_offered_and_nothing_is_imported() -> None:
    assert completed("drx --plugin acme_") == ["acme_count.py"]
    assert completed("drx --plugin acme_count.py describe cou") == ["count"]
    assert completed("drx --plugin acme_count.py describe ha") == ["halve"]
    assert completed("drx describe cou") == []
    assert "acme_count" not in sys.modules


@pytest.mark.filterwarnings("ignore::datarax_core.PluginWarning")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--plugin", "acme_cont.py", "sources"], "--plugin acme_cont.py: there is no file /"),
        (["--plugin", "acme_count.py:Cuont", "sources"], "has no 'Cuont'; did you mean 'Count'?"),
        (
            ["sources", "--plugin", "a.py"],
            "No such option: --plugin; write it before the command: drx --plugin PLACE",
        ),
        (
            ["--plugin", "acme_bad.py", "run", "x.yaml"],
            "acme_bad.py, line 4: ZeroDivisionError: division by zero; correct it",
        ),
    ],
)
def test_a_mistake_is_one_message(args: list[str], message: str, folder: Path) -> None:
    (folder / "acme_bad.py").write_text("class C:\n    type: str = 'count'\n\n1 / 0\n")
    done = invoke(*args)
    assert done.exit_code in (1, 2)
    assert message in done.stderr


def test_what_a_plugin_of_a_file_raises_names_the_file(folder: Path) -> None:
    code = (folder / "acme_count.py").read_text().replace('return {"x": np.asarray', 'return 1 / 0, {"x": np.asarray')
    (folder / "acme_count.py").write_text(code)
    done = invoke("--plugin", "acme_count.py", "run", "x.yaml")
    assert done.exit_code == 1
    assert "--plugin acme_count.py failed in acme_count, line 27: ZeroDivisionError: division by zero" in done.stderr
    assert "this is a bug of acme_count.py or of what it uses" in done.stderr


def test_check_imports_them_in_processes_and_reports_those_that_stop(folder: Path) -> None:
    (folder / "acme_ends.py").write_text("import os\nos._exit(3)\n")
    (folder / "acme_bad.py").write_text("def f(:\n")
    (folder / "acme_watch.py").write_text(
        "from datarax_core import hookimpl\n\n@hookimpl\ndef datarax_pipeline_opened():\n    pass\n"
    )
    named = [word for file in ("acme_watch.py", "acme_ends.py", "acme_bad.py") for word in ("--plugin", file)]
    expected = {
        "acme_watch.py": ("ok", ""),
        "acme_ends.py": ("died", "the import of place 'acme_ends.py' (--plugin acme_ends.py) ended the interpreter"),
        "acme_bad.py": ("broken", "--plugin acme_bad.py failed to import: /"),
    }
    for file, (status, problem) in expected.items():
        done = run(DRX, *named, "check", f"./{file}", "--json")
        assert done.returncode == bool(problem), done.stderr
        found = json.loads(done.stdout)
        assert [each["status"] for each in found["plugins"]] == [status]
        assert "".join(found["problems"][:1]).startswith(problem)


# -- pyproject.toml -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '[tool.datarax]\nplugins = ["./acme_count.py"]\n',
        '[tool]\ndatarax = {plugins = ["./acme_count.py"]}\n',
        'tool.datarax.plugins = ["./acme_count.py"]\n',
        'tool = {datarax = {plugins = ["./acme_count.py"]}}\n',
        '\ufeff[tool.datarax]\r\nplugins = ["./acme_count.py"]\r\n',
        '[ "tool" . datarax ]\nplugins = ["./acme_count.py"]\n',
    ],
)
def test_the_folder_s_project_file_names_plugins(text: str, folder: Path) -> None:
    (folder / "pyproject.toml").write_text(f'[project]\nname = "acme"\n{text}' if text[0] == "[" else text)
    (count,) = of_the_file(invoke("sources", "--json").stdout)
    assert (count["name"], count["place"]) == ("count", "./acme_count.py of pyproject.toml")
    with pytest.raises(ConfigError, match="unknown source 'count'"):  # only drx reads it
        load_config("x.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('plugin = ["x.py"]', "pyproject.toml: [tool.datarax] has the unknown key 'plugin'; did you mean 'plugins'?"),
        (
            "strict = true\ncache = 3",
            "[tool.datarax] has the unknown key 'strict' (keys: plugins)\npyproject.toml: [tool.",
        ),
        (
            'plugins = "x.py"',
            'plugins of [tool.datarax] is a list of files and modules, such as plugins = ["./my_',
        ),
        ("plugins = [3]", "is a list of files and modules, such as"),
        ("plugins = [", "pyproject.toml: [tool.datarax] cannot be read, since the file is no TOML: "),
        ("# caf\xe9", "pyproject.toml: [tool.datarax] cannot be read, since the file is no UTF-8: "),
        ('plugins = ["none.py"]', "none.py of pyproject.toml: there is no file /"),
    ],
)
def test_a_mistake_in_the_project_file_is_one_message(text: str, message: str, folder: Path) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.datarax]\n{text}\n", encoding="latin-1")
    done = invoke("sources")
    assert done.exit_code == 1
    assert message in done.stderr


@pytest.mark.usefixtures("folder")
def test_a_description_says_that_the_file_which_has_the_name_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "all")
    said = invoke("--plugin", "acme_count.py", "describe", "count").stderr
    assert said.startswith("plugin 'count': --plugin acme_count.py is disabled by DATARAX_DISABLE_PLUGINS=all;")
    said = invoke("--plugin", "acme_count.py", "describe", "cuont").stderr
    assert "is called 'cuont'" in said
    assert "; --plugin acme_count.py is disabled by" in said


def test_a_project_file_without_the_table_is_not_our_concern(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "datarax-x"\ndependencies = ["datarax-core"]\nbroken = [')
    assert invoke("sources").exit_code == 0


# -- Python ---------------------------------------------------------------------------------------------------------------

SCRIPT = """
    import multiprocessing
    import pickle
    from concurrent.futures import ProcessPoolExecutor

    from datarax_core import Pipeline


    def total(content):
        return int(pickle.loads(content).get_records([1, 2])["x"].sum())


    if __name__ == "__main__":
        pipeline = Pipeline.from_config("x.yaml")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            print(pool.submit(total, pickle.dumps(pipeline.source)).result())
        print([int(x) for batch in pipeline for x in batch["x"]])
"""


def test_a_script_finds_what_the_environment_names_and_so_do_its_processes(folder: Path) -> None:
    (folder / "lib").mkdir()
    (folder / "acme_count.py").rename(folder / "lib" / "acme_count.py")
    (folder / "script.py").write_text(dedent(SCRIPT))
    done = subprocess.run(
        ["/usr/bin/env", "DATARAX_PLUGINS=lib/acme_count.py", sys.executable, "-P", "script.py"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.splitlines() if line not in ("imported", "opened Count")]
    assert printed == ["3", str([x // 2 for x in range(10)])]


def test_a_config_never_names_code(folder: Path) -> None:
    refusal = (
        r"plugins: unknown field 'plugins'; a config never names code, only plugins by their names; name their file or module "
        r"by `drx --plugin PLACE`, in the environment by DATARAX_PLUGINS=PLACE, or in pyproject\.toml, under "
        r"\[tool\.datarax\], by `plugins = \[\.\.\.\]`"
    )
    files = {
        "x.yaml": f"plugins: [./acme_count.py]\n{CONFIG}",
        "x.json": json.dumps({"plugins": ["./acme_count.py"], "source": {"type": "mix"}, "batch_size": 4}),
        "x.toml": 'plugins = ["./acme_count.py"]\nbatch_size = 4\n[source]\ntype = "mix"\n',
    }
    for name, text in files.items():
        (folder / name).write_text(text)
        with pytest.raises(ConfigError, match=rf"(?m)^{name}:1: {refusal}"):
            load_config(name)
        assert "a config never names code" in invoke("validate", name).stderr
    with pytest.raises(ConfigError, match=rf"(?m): {refusal}$"):
        Pipeline.from_config({"plugins": ["./acme_count.py"], "source": {"type": "mix"}, "batch_size": 4})
    with pytest.raises(
        ConfigError, match=r"unknown source '\./acme_count\.py:Count' .*; a config names no code: name a"
    ):
        Pipeline.from_config({"source": {"type": "./acme_count.py:Count"}, "batch_size": 4})
    assert "acme_count" not in sys.modules
