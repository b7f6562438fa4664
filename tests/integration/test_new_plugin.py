"""``drx new``: the plugin that it writes installs and passes its tests as it stands; impossible names are refused."""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import DRX, fails
from commands import run as run_command
from environments import run

from datarax_core._cli.scaffold import names_of, write_plugin
from datarax_core.errors import PluginError

if TYPE_CHECKING:
    from conftest import Site

NAMES = names_of("acme-new")
FILES = {
    ".gitignore",
    "README.md",
    "acme_new/__init__.py",
    "acme_new/_config.py",
    "acme_new/_source.py",
    "acme_new/py.typed",
    "pyproject.toml",
    "tests/test_conformance.py",
}


def files_in(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_a_new_plugin_is_installed_and_found(third_parties: Path, tmp_path: Path) -> None:
    listed = json.loads(run(third_parties / "env/bin/drx", "sources", "--json", cwd=tmp_path).stdout)
    found = {info["name"]: (info["status"], info["distribution"], info["version"]) for info in listed}
    assert (
        found.items()
        >= {
            "acme_new": ("ready", "acme-new", "0.1.0"),
            "acme_parquet": ("ready", "acme-parquet", "0.1.0"),
            "acme_thin": ("ready", "acme-thin", "0.1.0"),
        }.items()
    )


@pytest.mark.parametrize("name", ["acme-new", "acme-thin"])
def test_a_new_plugin_passes_its_own_tests(third_parties: Path, name: str) -> None:
    ran = run(third_parties / "env/bin/python", "-m", "pytest", "-q", cwd=third_parties / name)
    assert re.search(r"^\d+ passed", ran.stdout.splitlines()[-1])
    assert "failed" not in ran.stdout


def test_a_new_plugin_is_these_files(tmp_path: Path) -> None:
    written = run_command(DRX, "new", "acme-new", cwd=tmp_path)
    assert (written.returncode, written.stderr) == (0, "")
    folder = tmp_path / "acme-new"
    assert files_in(folder) == FILES
    assert written.stdout.splitlines()[: len(FILES)] == sorted(f"acme-new/{file}" for file in FILES)
    assert 'cd acme-new\n  pip install -e ".[test]"\n  pytest\n' in written.stdout
    assert not any("$" in (folder / file).read_text(encoding="utf-8") for file in FILES)
    settings = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["entry-points"]["datarax.sources"] == {"acme_new": "acme_new:AcmeNew"}
    assert "datarax-core>=0.1,<0.2" in settings["project"]["dependencies"]
    assert "license" not in settings["project"]
    assert folder.stat().st_mode == (folder / "tests").stat().st_mode


def test_a_new_plugin_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    assert run_command(DRX, "new", "acme-new", "--out", str(tmp_path / "here")).returncode == 0
    assert files_in(tmp_path / "here") == FILES


def test_a_new_view_is_these_files_and_works(tmp_path: Path) -> None:
    assert run_command(DRX, "new", "acme-thin", "--view", cwd=tmp_path).returncode == 0
    files = {file.replace("acme_new/_source", "acme_new/_view").replace("acme_new", "acme_thin") for file in FILES}
    assert files_in(tmp_path / "acme-thin") == files
    script = (
        "from datarax_core import from_sequence; from acme_thin import AcmeThin, AcmeThinConfig; "
        "view = AcmeThin(AcmeThinConfig(every=5), from_sequence([{'x': x} for x in range(12)])); "
        "print([int(each['x']) for each in view], view.describe_view())"
    )
    printed = run(Path(sys.executable), "-c", script, cwd=tmp_path / "acme-thin").stdout
    assert printed == "[0, 5, 10] keeps 3 of 12 records\n"


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
    ("name", "cls"),
    [("acme-parquet", "AcmeParquet"), ("acme-2d", "Acme2d"), ("any", "AnySource"), ("source", "SourceSource")],
)
def test_the_class_of_a_plugin_hides_nothing_that_its_code_uses(name: str, cls: str) -> None:
    assert names_of(name).cls == cls


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
