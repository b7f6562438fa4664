"""``drx install`` and ``drx uninstall``: what a name means, which command runs, and real installs into an environment."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from commands import invoke
from environments import environment
from packaging.requirements import Requirement

from datarax_core._cli.installing import installer as installers
from datarax_core._cli.installing.changes import Changes, Plugin, plugins_anew, plugins_here
from datarax_core.extensions import known

if TYPE_CHECKING:
    from conftest import MadeOnce, Site
    from distributions import Built

NEARLY = (
    "no known plugin or distribution is called {0!r}; did you mean {1}? If you do mean a distribution of that name, say which "
    "version: '{2}>=0'"
)
PIP = [sys.executable, "-m", "pip"]
OFFLINE = ("--", "--no-index", "--no-deps", "--quiet", "--disable-pip-version-check")


def command_of(*args: str) -> list[str]:
    done = invoke(*args, "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    command: list[str] = json.loads(done.stdout)["command"]
    return command


def refused(*args: str) -> str:
    done = invoke(*args)
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    return done.stderr.strip()


# -- what a word means --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["tfds"], ["datarax-tfds"]),
        (["tfds", "tfrecord", "datarax-tfds"], ["datarax-tfds"]),
        (["random_crop", "msgpack"], ["datarax-image", "datarax-arrayrecord"]),
        (["tfds[tensorflow]>=0.1"], ["datarax-tfds[tensorflow]>=0.1"]),
        (["datarax_core"], ["datarax-core"]),
        (["acme-x>=1,<2"], ["acme-x<2,>=1"]),
        (["acme-x"], ["acme-x"]),
        (["datarax-video"], ["datarax-video"]),  # like datarax-views by its beginning only
        (["memry>=0"], ["memry>=0"]),
        (["git+https://acme.org/x.git"], ["git+https://acme.org/x.git"]),
        (["acme @ https://acme.org/x.whl"], ["acme @ https://acme.org/x.whl"]),
        (["./project[test]"], ["./project[test]"]),
        (["project"], ["./project"]),
        (["-e", "project", "tfds"], ["--editable", "./project", "datarax-tfds"]),
        (["a.whl"], ["./a.whl"]),
        (["acme_theirs"], ["acme-theirs"]),
        (["acme_count"], ["acme-count"]),
    ],
    ids=str,
)
def test_words_become_what_an_installer_takes(
    words: list[str], arguments: list[str], tmp_path: Path, site: "Site", monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install_working("acme-count", "acme_count")  # installed, but in no table
    row = ("source", "acme_theirs", "acme-theirs", "records of theirs", ())
    monkeypatch.setattr(known, "THIRD_PARTIES", (row,))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").mkdir()
    (tmp_path / "project/pyproject.toml").touch()
    (tmp_path / "a.whl").touch()
    assert command_of("install", *words) == [*PIP, "install", *arguments]


def test_options_behind_two_dashes_are_passed_on() -> None:
    done = invoke("install", "tfds", "--dry-run", "--", "--no-deps", "--find-links", "my wheels")
    assert done.stdout == f"{sys.executable} -m pip install datarax-tfds --no-deps --find-links 'my wheels'\n"
    done = invoke("uninstall", "--dry-run", "tfds", "--", "-v")
    assert done.stdout.splitlines()[-1] == f"{sys.executable} -m pip uninstall --yes datarax-tfds -v"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["memry"], NEARLY.format("memry", "'memory' (datarax-memory)", "memry")),
        (["datarax-tfsd"], NEARLY.format("datarax-tfsd", "'datarax-tfds'", "datarax-tfsd")),
        (["pad"], "'pad' is part of datarax-core, which is installed; to upgrade it: drx install datarax-core -- --upgrade"),
        (["a b"], "'a b' is no name of a plugin or distribution, no requirement such as 'acme-x>=1', and no path of a project"),
        (["./gone"], "./gone: no such file or folder; a path is that of a project's folder, a wheel or an sdist"),
        (["."], ". is no project: it has no pyproject.toml; drx new writes one"),
        (["shared"], "'shared' is source of acme-one and stage of acme-two; name the one that you mean by its distribution"),
    ],
    ids=str,
)  # fmt: skip
def test_words_that_are_refused(
    words: list[str], message: str, site: "Site", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("acme-one", {"shared": "acme_one:S"})
    site.install("acme-two", {"shared": "acme_two:S"}, group="datarax.stages")
    monkeypatch.chdir(tmp_path)
    assert refused("install", *words, "--dry-run") == message


def test_uninstall_says_what_goes_and_refuses_core(site: "Site") -> None:
    site.install("acme-one", {"shared": "acme_one:S", "other": "acme_one:T"})
    site.install("acme-two", {"shared": "acme_two:S"}, group="datarax.stages")
    assert invoke("uninstall", "acme_one", "--dry-run").stdout.splitlines() == [
        "would go: source 'other' (acme-one 1.0)",
        "would go: source 'shared' (acme-one 1.0)",
        f"{sys.executable} -m pip uninstall --yes acme-one",
    ]
    assert refused("uninstall", "shared").startswith(
        "'shared' is source of acme-one 1.0 and stage of acme-two 1.0; name the"
    )
    assert (
        refused("uninstall", "datarax-core")
        == "datarax-core is drx itself; your installer removes it: pip uninstall datarax-core"
    )
    assert refused("uninstall", "pad").startswith("'pad' is part of datarax-core, and datarax-core is drx itself;")
    assert refused("uninstall", "othr").endswith("is called 'othr'; did you mean 'other'?")
    assert refused("uninstall", "numpy").endswith("is called 'numpy'; drx plugins lists them")
    assert refused("uninstall", "other").endswith("nothing is uninstalled: there is no terminal to ask on; write --yes")


def test_known_plugins_are_listed_whether_or_not_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "THIRD_PARTIES", (("hook plugin", "acme_watch", "acme-watch", "counts records", ()),))
    lines = [line.split(maxsplit=3) for line in invoke("plugins", "--known").stdout.splitlines()]
    assert [
        "source",
        "memory",
        "datarax-memory",
        "ready          arrays in memory, .npz files and folders of .npy files",
    ] in lines
    assert lines[-1] == ["hook", "plugin", "acme_watch", "acme-watch           not installed  counts records"]
    listed = json.loads(invoke("plugins", "--known", "--json").stdout)
    assert listed[0] == {
        "kind": "source",
        "name": "arrayrecord",
        "distribution": "datarax-arrayrecord",
        "summary": "records of ArrayRecord files, with random access",
        "opens": list(known.FIRST_PARTIES[0][4]),
        "status": "ready",
    }


# -- which installer ----------------------------------------------------------------------------------------------------


def test_uv_is_used_where_there_is_no_pip_and_without_both_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installers, "find_spec", lambda _: None)
    monkeypatch.setattr(installers.shutil, "which", lambda _: "/opt/uv")
    assert command_of("install", "tfds") == ["/opt/uv", "pip", "install", "--python", sys.executable, "datarax-tfds"]
    assert command_of("uninstall", "tfds") == [
        "/opt/uv",
        "pip",
        "uninstall",
        "--python",
        sys.executable,
        "datarax-tfds",
    ]
    monkeypatch.setattr(installers.shutil, "which", lambda _: None)
    assert refused("install", "tfds").startswith(
        f"there is no installer: the environment of {sys.executable} has no pip, and no uv"
    )


def test_a_managed_environment_is_explained_and_the_exit_status_is_the_installers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installers.sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(installers.sysconfig, "get_path", lambda _: str(tmp_path))
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr(installers.subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, 7))  # noqa: ARG005
    done = invoke("install", "tfds")
    assert done.exit_code == 7
    assert done.stderr.splitlines()[0] == f"{sys.executable} -m pip install datarax-tfds"
    assert "is managed by the system, which refuses other installers; make an environment of your own" in done.stderr
    assert "is managed" not in invoke("install", "tfds", "--", "--break-system-packages").stderr


def test_plugins_are_listed_before_and_after_whatever_is_wrong(
    site: "Site", monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("acme-one", {"shared": "acme_one:S"})
    site.install("acme-two", {"shared": "acme_two:S"})
    monkeypatch.setenv("DATARAX_STRICT_PLUGINS", "1")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme-gone,datarax-mix")
    for listed in plugins_here(), plugins_anew():
        status = {one.distribution: one.status for one in listed}
        assert (status["acme-one"], status["acme-two"], status["datarax-mix"]) == ("conflict", "conflict", "disabled")
    assert capsys.readouterr().err.count("DATARAX_DISABLE_PLUGINS names 'acme-gone', which no installed plugin") == 1
    assert os.environ["DATARAX_STRICT_PLUGINS"] == "1"
    assert os.environ["DATARAX_DISABLE_PLUGINS"] == "acme-gone,datarax-mix"


def test_changes_of_status_and_version_are_told() -> None:
    old = Plugin(kind="source", name="a", distribution="acme", version="1.0", status="ready")
    new = Plugin(kind="source", name="a", distribution="acme", version="2.0", status="unmet", problem="needs x")
    changes = Changes.between([old], [new])
    assert changes.lines() == ["changed: source 'a' (acme 2.0): unmet; needs x; was acme 1.0, ready"]
    assert changes.as_dict()["changed"][0]["before"]["version"] == "1.0"
    assert Changes.between([old], [old]).lines() == ["no plugin is new, gone or changed"]


# -- real installs ------------------------------------------------------------------------------------------------------


def write_wheel(folder: Path, dist: str, entries: str, requires: str = "datarax-core") -> Path:
    """Write a wheel of one empty package, and return its path."""
    package = dist.replace("-", "_")
    info = f"{package}-1.0.dist-info"
    files = {
        f"{package}/__init__.py": "class S: pass\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\nRequires-Dist: {requires}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": entries,
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def drx(made_once: "MadeOnce", built: dict[str, "Built"], tmp_path: Path) -> Callable[..., Any]:
    """Return a function that runs ``drx`` of an environment that holds core and pip, and nothing else of ours."""
    wanted = [Requirement("pip"), Requirement("hatchling")]
    made = made_once(
        "environment to install into",
        lambda folder: environment(folder, [built["datarax-core"].wheel], wanted) and None,
    )

    def run(*args: str, exits: int = 0) -> subprocess.CompletedProcess[str]:
        command = [str(made / "bin/drx"), *args]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603
        assert done.returncode == exits, f"{done.stdout}\n{done.stderr}"
        return done

    return run


def test_plugins_come_and_go(drx: Callable[..., Any], tmp_path: Path, built: dict[str, "Built"]) -> None:
    folder = tmp_path / "project"
    (folder / "acme_tiny").mkdir(parents=True)
    (folder / "acme_tiny/__init__.py").write_text("class S: pass\n")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "acme-tiny"\nversion = "0.1"\ndependencies = ["datarax-core"]\n'
        '[project.entry-points."datarax.sources"]\ntiny = "acme_tiny:S"\n'
        '[tool.hatch.build]\ndev-mode-dirs = ["."]\n'
    )
    done = drx("install", "--editable", "./project", *OFFLINE, "--no-build-isolation")
    assert done.stdout == "new: source 'tiny' (acme-tiny 0.1): ready\n"  # a process that is running would not see it
    assert " -m pip install --editable ./project --no-index " in done.stderr

    clash = write_wheel(
        tmp_path, "acme-clash", "[datarax.sources]\ntiny = acme_clash:S\n[datarax.hooks]\nh = acme_clash:S\n"
    )
    needy = write_wheel(tmp_path, "acme-needy", "[datarax.stages]\nneedy = acme_needy:S\n", "acme-absent>=2")
    shutil.copy(built["datarax-memory"].wheel, tmp_path)
    done = drx("install", str(clash), needy.name, "memory", *OFFLINE, "--find-links", ".")
    new = [line.partition(";")[0] for line in done.stdout.splitlines()]
    assert new == [
        "new: source 'tiny' (acme-clash 1.0): conflict",
        "new: hook plugin 'h' (acme-clash 1.0): ready",
        "new: stage 'needy' (acme-needy 1.0): unmet",
        "new: source 'memory' (datarax-memory 0.1.0): ready",
        "changed: source 'tiny' (acme-tiny 0.1): conflict",
    ]
    assert (
        "; acme-needy 1.0 needs acme-absent>=2, which this environment does not satisfy; pip install 'acme-absent>=2'"
        in done.stdout
    )

    done = drx("uninstall", "--yes", "acme-clash", "needy", "memory")
    assert done.stderr.startswith("going: source 'memory' (datarax-memory 0.1.0)\n")
    assert done.stdout.splitlines() == [
        "gone: source 'tiny' (acme-clash 1.0)",
        "gone: hook plugin 'h' (acme-clash 1.0)",
        "gone: stage 'needy' (acme-needy 1.0)",
        "gone: source 'memory' (datarax-memory 0.1.0)",
        "changed: source 'tiny' (acme-tiny 0.1): ready; was acme-tiny 0.1, conflict",
    ]
    assert "No matching distribution found for acme-gone" in drx("install", "acme-gone", *OFFLINE, exits=1).stderr
