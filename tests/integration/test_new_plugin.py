"""``drx new``: the plugin that it writes installs and passes its tests as it stands; impossible names are refused."""

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
import yaml
from commands import DRX, fails, invoke
from environments import run

from datarax_core._cli.scaffold import Kind, names_of, write_plugin
from datarax_core.errors import PluginError

if TYPE_CHECKING:
    from conftest import Site

KINDS: tuple[Kind, ...] = get_args(Kind)
NAMES = names_of("acme-new")
SHARED = {
    ".github/workflows/ci.yml",
    ".github/workflows/release.yml",
    ".gitignore",
    "CHANGELOG.md",
    "README.md",
    "acme_new/__init__.py",
    "acme_new/py.typed",
    "example.yaml",
    "pyproject.toml",
    "tests/test_conformance.py",
}
OWN: dict[Kind, tuple[str, str]] = {
    "source": ("_source", "example.acme_new"),
    "stream": ("_stream", "example.acme_new"),
    "view": ("_view", "acme_new_example.py"),
    "stage": ("_stage", "acme_new_example.py"),
    "host-stage": ("_stage", "acme_new_example.py"),
    "decoder": ("_decoder", "acme_new_example.py"),
    "hooks": ("_hooks", "acme_new_example.py"),
}
"""Of each kind: the module to edit, and the file beside example.yaml."""

SHOWN: dict[Kind, str] = {
    "source": r"Pipeline\(NewSource: 100 records shuffled; .*\nroot +float32\[\]",
    "stream": r"Pipeline\(NewStream: a stream; .*\nroot +0, 1, 1\.41421",
    "view": r"NewView: keeps 4 of 12 records\n",
    "stage": r"stages: new_stage; .*\nvalues +-?\d",
    "host-stage": r"stages: new_host_stage; .*\nwords +1, 2, 3, 4\n",
    "decoder": r"\ntext +'number 0', 'number 1'",
    "hooks": r"new-hooks: epoch 1 of Example is over: 24 records so far\nnew-hooks: a run of Example is over: 6 batches",
}
"""What each kind's command for example.yaml prints, in the output of both streams."""

IN_FORKS = """
import os, sys
from datarax_core.__main__ import main
import datarax_core.pipeline.pipeline, numpy, jax

for folder, *command in map(str.split, sys.argv[1:]):
    sys.stdout.flush()
    if not os.fork():
        os.chdir(folder)
        os.dup2(os.open("said", os.O_CREAT | os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.argv = command
        main()
    assert os.wait()[1] == 0, open(f"{folder}/said").read()
"""


def files_in(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def settings_of(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def test_new_plugins_are_installed_and_found(third_parties: Path, tmp_path: Path) -> None:
    listed = json.loads(run(third_parties / "env/bin/drx", "plugins", "--json", cwd=tmp_path).stdout)
    found = {each["distribution"]: each for each in listed}
    for kind in KINDS:
        (plugin,) = found[f"new-{kind}"]["plugins"]
        assert (plugin["name"], plugin["status"]) == (f"new_{kind.replace('-', '_')}", "ready")


def test_new_plugins_pass_their_own_tests(third_parties: Path, tmp_path: Path) -> None:
    """All in one process, which imports JAX once."""
    config = tmp_path / "pytest.ini"
    config.write_text("[pytest]\naddopts = --import-mode=importlib\n", encoding="utf-8")
    folders = [third_parties / f"new-{kind}/tests" for kind in KINDS]
    ran = run(third_parties / "env/bin/python", "-m", "pytest", "-q", "-c", config, *folders, cwd=tmp_path)
    assert re.search(r"^\d+ passed", ran.stdout.splitlines()[-1])
    assert "failed" not in ran.stdout


def test_the_example_of_a_new_plugin_shows_it_at_work(third_parties: Path) -> None:
    """The command is the one that ``drx new`` prints; one process imports JAX, and forks for each."""
    commands = [f"new-{kind} drx {'run' if kind == 'hooks' else 'peek'} example.yaml" for kind in KINDS]
    run(third_parties / "env/bin/python", "-c", IN_FORKS, *commands, cwd=third_parties)
    for kind in KINDS:
        said = (third_parties / f"new-{kind}/said").read_text(encoding="utf-8")
        assert re.search(SHOWN[kind], said, re.DOTALL), said


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_is_these_files(kind: Kind, tmp_path: Path) -> None:
    module, example = OWN[kind]
    folder = tmp_path / "acme-new"
    written = write_plugin(NAMES, folder, kind=kind)
    assert files_in(folder) == {*written} == SHARED | {f"acme_new/{module}.py", example}
    for file in written:
        text = (folder / file).read_text(encoding="utf-8")
        assert not re.search(r"\$(?!\{\{ |\{GITHUB_REF_NAME)", text)
        assert text.endswith("\n") == (file != "acme_new/py.typed")
    project = settings_of(folder)["project"]
    group = {"stage": "stages", "host-stage": "stages", "decoder": "decoders", "hooks": "hooks"}.get(kind, "sources")
    target = "plugin" if kind == "hooks" else "AcmeNew"
    assert project["entry-points"] == {f"datarax.{group}": {"acme_new": f"acme_new:{target}"}}
    assert "datarax-core>=0.1,<0.2" in project["dependencies"]
    assert "license" not in project
    packed = settings_of(folder)["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]
    assert {"acme_new", "tests", "example.yaml", example} <= set(packed)  # pyproject.toml and the tests name them
    assert folder.stat().st_mode == (folder / "tests").stat().st_mode


def test_the_workflows_of_a_new_plugin_test_and_publish_it(tmp_path: Path) -> None:
    write_plugin(NAMES, tmp_path / "acme-new")
    ci, release = (
        yaml.safe_load((tmp_path / f"acme-new/.github/workflows/{name}.yml").read_text(encoding="utf-8"))
        for name in ("ci", "release")
    )
    assert set(ci["jobs"]) == {"check", "test", "lowest"}
    assert ci["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    said = [step.get("run") for job in ci["jobs"].values() for step in job["steps"]]
    assert {"ruff check", "ruff format --check", "mypy", "pytest"} <= {*said}
    assert 'uv pip install --resolution lowest-direct -e ".[test]"' in said
    jobs = release["jobs"]
    assert (jobs["ci"]["uses"], jobs["build"]["needs"], jobs["publish"]["needs"]) == (
        "./.github/workflows/ci.yml",
        "ci",
        "build",
    )
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert release[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads the key `on` as True
    extras = settings_of(tmp_path / "acme-new")["project"]["optional-dependencies"]
    assert set(extras) == {"test", "check"}


@pytest.mark.parametrize(
    ("options", "module", "look"),
    [
        ([], "_source", "drx peek example.yaml"),
        (["--kind", "host-stage"], "_stage", "drx peek example.yaml"),
        (["--kind", "hooks"], "_hooks", "drx run example.yaml"),
        (["--view"], "_view", "drx peek example.yaml"),
        (["--view", "--kind", "view"], "_view", "drx peek example.yaml"),
    ],
)
def test_drx_new_says_what_to_do_next(options: list[str], module: str, look: str, tmp_path: Path) -> None:
    out = tmp_path / "here"
    written = invoke("new", "acme-new", *options, "--out", str(out))
    assert (written.exit_code, written.stderr) == (0, "")
    files = sorted(f"{out}/{file}" for file in files_in(out))
    assert written.stdout.splitlines()[: len(files)] == files
    assert f'\nnext:\n\n  cd {out}\n  pip install -e ".[test]"\n  {look}\n  pytest\n' in written.stdout
    assert written.stdout.splitlines()[-1].startswith(f"yours goes into {out}/acme_new/{module}.py")


def test_kind_and_view_that_differ_are_refused(tmp_path: Path) -> None:
    refused = invoke("new", "acme-new", "--view", "--kind", "stage", "--out", str(tmp_path / "here"))
    assert refused.exit_code == 1
    assert "--view is --kind view, and --kind says stage; give one of them" in refused.stderr
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("acme parquet", "a distribution's name has letters, digits and single hyphens, as in acme-parquet"),
        ("", "a distribution's name has letters, digits and single hyphens, as in acme-parquet"),
        ("../acme", "a distribution's name has letters, digits and single hyphens, as in acme-parquet"),
        ("Acme_Parquet", "write acme-parquet, as it will be called wherever it is installed"),
        ("acme--parquet", "write acme-parquet, as it will be called wherever it is installed"),
        ("3d-scans", "its package would be 3d_scans, which Python cannot import; begin with another word"),
        ("class", "its package would be class, which Python cannot import; begin with another word"),
        ("tests", "a project has a folder tests for other things; put a word of your own before it"),
        ("datarax-core", "datarax-core is a distribution of this project; choose another, such as acme-datarax-core"),
        ("datarax-tfds", "datarax-tfds is a distribution of this project; choose another, such as acme-datarax-tfds"),
        ("tfds-eager", "the type 'tfds_eager' belongs to datarax-tfds; choose another, such as acme-tfds-eager"),
        ("json", "its package would hide the module json of Python's own library; choose another, such as acme-json"),
        ("pluggy", r"pluggy [\d.]+ is installed; choose another, such as acme-pluggy"),
        ("yaml", r"its package would hide the one at \S+yaml/__init__.py; choose another, such as acme-yaml"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(PluginError, match=f"^{re.escape(repr(name))} cannot be the name of a plugin: {reason}$"):
        names_of(name)


def test_a_name_that_another_plugin_has_is_refused(site: "Site", tmp_path: Path) -> None:
    site.install_working("bolt-count", "acme_count", version="2.5")
    message = fails(DRX, "new", "acme-count", cwd=tmp_path)
    assert message == (
        "'acme-count' cannot be the name of a plugin: the type 'acme_count' is taken by bolt_count:Source (bolt-count 2.5); "
        "choose another, such as acme-acme-count"
    )
    assert not list(tmp_path.glob("acme*"))


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("stage", "rescale", "the type 'rescale' belongs to datarax-core; choose another, such as acme-rescale"),
        (
            "host-stage",
            "tokenize",
            "the type 'tokenize' belongs to datarax-text; choose another, such as acme-tokenize",
        ),
        ("decoder", "array", "the type 'array' belongs to datarax-arrayrecord; choose another"),
        ("decoder", "msgpack", "the type 'msgpack' belongs to datarax-arrayrecord; choose another"),
        ("view", "window", "the type 'window' belongs to datarax-views; choose another, such as acme-window"),
        ("hooks", "datarax-views", "datarax-views is a distribution of this project; choose another"),
    ],
)
def test_a_name_is_held_against_those_of_its_own_kind(kind: Kind, name: str, reason: str) -> None:
    with pytest.raises(PluginError, match=f"^'{name}' cannot be the name of a plugin: {reason}"):
        names_of(name, kind)


def test_the_name_of_a_known_plugin_is_refused_unless_it_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        ("stage", "acme_blur", "acme-pictures", "blurs", ()),
        ("stage", "acme_sharpen", "acme-sharpen", "sharpens", ()),
    )
    monkeypatch.setattr("datarax_core.extensions.known.THIRD_PARTIES", rows)
    with pytest.raises(
        PluginError, match="the type 'acme_blur' is that of acme-pictures, a known plugin; choose another"
    ):
        names_of("acme-blur", "stage")
    assert names_of("acme-blur", "decoder").type == "acme_blur"
    assert names_of("acme-sharpen", "stage").type == "acme_sharpen"


def test_a_name_of_another_kind_is_free() -> None:
    assert names_of("rescale", "source").type == "rescale"
    assert names_of("memory", "stage").type == "memory"


@pytest.mark.parametrize(
    ("name", "kind", "cls"),
    [
        ("acme-parquet", "source", "AcmeParquet"),
        ("acme-2d", "source", "Acme2d"),
        ("any", "view", "AnyView"),
        ("source", "source", "SourceSource"),
        ("damaged", "source", "DamagedSource"),
        ("stage", "stage", "StageStage"),
        ("batch", "host-stage", "BatchStage"),
        ("decoder", "decoder", "DecoderDecoder"),
        ("example", "hooks", "ExampleHooks"),
    ],
)
def test_the_class_of_a_plugin_hides_nothing_that_its_code_uses(name: str, kind: Kind, cls: str) -> None:
    assert names_of(name, kind).cls == cls


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_existing_files_are_left_alone(there: str, tmp_path: Path) -> None:
    place = tmp_path / "acme-new"
    make = {"folder": place.mkdir, "file": place.touch, "link": lambda: place.symlink_to("nowhere")}
    make[there]()
    with pytest.raises(FileExistsError, match="acme-new is there already; move it away, or write elsewhere with --out"):
        write_plugin(NAMES, place)
    assert list(tmp_path.iterdir()) == [place]


def test_a_folder_to_write_into_has_to_be_there(tmp_path: Path) -> None:
    message = fails(DRX, "new", "acme-new", "--out", "no/such/acme-new", cwd=tmp_path)
    assert message == f"there is no folder {tmp_path}/no/such to write acme-new into; make it first"


@pytest.mark.usefixtures("shared_folder", "ordinary_user")
def test_a_folder_that_may_not_be_written_to_is_named(shared_folder: Path) -> None:
    with pytest.raises(
        PermissionError, match=f"{shared_folder} cannot be written to: permission denied; write elsewhere"
    ):
        write_plugin(NAMES, shared_folder / "acme-new")


def test_nothing_is_left_of_a_plugin_that_could_not_be_written_whole(tmp_path: Path) -> None:
    unwritable = NAMES._replace(package="x" * 300)
    with pytest.raises(OSError, match="File name too long"):
        write_plugin(unwritable, tmp_path / "acme-new")
    assert not list(tmp_path.iterdir())
