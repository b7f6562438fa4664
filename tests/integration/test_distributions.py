"""What users install: each sdist, the wheel built from it, and environments that hold nothing else of this tree.

An environment links what the wheels declare to need, and what that needs, from the environment that runs the tests; what
the metadata forgets is missing there.
"""

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tfds_data
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
CORE, MEMORY, TFDS = "datarax-core", "datarax-memory", "datarax-tfds"
SETTINGS = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
BUILD_SDIST = "import sys; from hatchling.build import build_sdist; build_sdist(sys.argv[1])"
IMPORT = "import datarax_core, datarax_memory; print(datarax_core.__file__, datarax_memory.__file__)"
WITHOUT_TENSORFLOW = """
import importlib.util, json, logging, sys, tempfile
logging.disable()
import datarax_tfds
assert importlib.util.find_spec("tensorflow") is None
assert "tensorflow_datasets" not in sys.modules
from datarax_core import Pipeline
from datarax_tfds import TFDSEagerConfig, TFDSEagerSource, TFDSStreamingConfig, TFDSStreamingSource, from_tfds
import tfds_made
def told(data_dir, scratch):
    eager = TFDSEagerSource(TFDSEagerConfig(name="digits_png", split="train", data_dir=data_dir))
    stream = TFDSStreamingSource(TFDSStreamingConfig(name="captions", split="train[10%:]", data_dir=data_dir))
    labels = sum(batch["label"].sum().item() for batch in Pipeline(source=eager, batch_size=100))
    texts = [text.decode() for batch in Pipeline(source=stream, batch_size=10) for text in batch["text"]]
    made = from_tfds("made_numbers", "train", data_dir=scratch)
    try:
        from_tfds("made_images", "train", data_dir=scratch)
    except ImportError as error:
        return [eager.get_dataset_info()["full_name"], labels, texts[0], len(texts), len(made), str(error)]
with tempfile.TemporaryDirectory() as scratch:
    print(*(json.dumps(told(folder, f"{scratch}/{n}")) for n, folder in enumerate(sys.argv[1:])), sep="\\n")
"""
ITERATE = "from datarax_core import Pipeline; print([b['x'].tolist() for b in Pipeline.from_config('train.yaml')])"


@dataclass(frozen=True)
class Built:
    """A project, the ``project`` table of its pyproject.toml, and the folder with its distributions."""

    folder: Path
    table: dict[str, Any]
    out: Path

    @property
    def stem(self) -> str:
        return f"{self.table['name'].replace('-', '_')}-{self.table['version']}"

    @property
    def wheel(self) -> Path:
        return self.out / f"{self.stem}-py3-none-any.whl"

    def package_files(self) -> set[str]:
        files = (self.folder / self.table["name"].replace("-", "_")).rglob("*")
        return {str(f.relative_to(self.folder)) for f in files if f.is_file() and f.parent.name != "__pycache__"}

    def installed_as(self) -> metadata.Distribution:
        return metadata.PathDistribution(zipfile.Path(self.wheel, f"{self.stem}.dist-info/"))

    def requires(self) -> list[Requirement]:
        return list(map(Requirement, self.installed_as().requires or ()))

    def same_minor(self) -> str:
        major, minor = Version(self.table["version"]).release[:2]
        return f"{self.table['name']}>={major}.{minor},<{major}.{minor + 1}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Every project of the tree, built as for a release: the sdist from the tree, the wheel from the sdist."""
    out, backend = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("backend")
    read = {file.parent: tomllib.loads(file.read_text(encoding="utf-8")) for file in SETTINGS}
    _pip("install", "--target", backend, *read[ROOT]["build-system"]["requires"])
    for folder in read:
        _run(sys.executable, "-c", BUILD_SDIST, out, cwd=folder, PYTHONPATH=str(backend))
    _pip("wheel", "--no-deps", "--wheel-dir", out, *out.glob("*.tar.gz"))
    return {table["project"]["name"]: Built(folder, table["project"], out) for folder, table in read.items()}


@pytest.fixture(scope="module")
def core_and_memory(built: dict[str, Built], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _environment(tmp_path_factory.mktemp("environment"), [built[CORE], built[MEMORY]])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config of ten records beside its data."""
    np.savez(tmp_path / "data.npz", x=np.arange(10, dtype=np.int32))
    path = tmp_path / "train.yaml"
    path.write_text("batch_size: 4\nsource: {type: memory, path: data.npz, shuffle: true}\n", encoding="utf-8")
    return path


def test_a_wheel_holds_its_package_and_nothing_else(built: dict[str, Built]) -> None:
    for project in built.values():
        package = project.package_files()
        assert {Path(file).name for file in package if not file.endswith(".py")} == {"py.typed"}
        info = ["METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"]
        names = zipfile.ZipFile(project.wheel).namelist()
        assert sorted(names) == sorted([*package, *(f"{project.stem}.dist-info/{file}" for file in info)])


def test_an_sdist_holds_what_builds_the_wheel_and_nothing_else(built: dict[str, Built]) -> None:
    around = {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
    for project in built.values():
        with tarfile.open(project.out / f"{project.stem}.tar.gz") as archive:
            names = {name.removeprefix(f"{project.stem}/") for name in archive.getnames()}
        assert names - {".gitignore", "CHANGELOG.md"} == project.package_files() | around  # hatchling adds .gitignore


def test_a_wheel_says_of_itself_what_its_pyproject_says(built: dict[str, Built]) -> None:
    for name, project in built.items():
        table, wheel = project.table, project.installed_as()
        required = {requirement for requirement in project.requires() if requirement.marker is None}
        assert required == set(map(Requirement, table["dependencies"])) != set()
        assert all(">=" in str(requirement.specifier) for requirement in required)
        assert (wheel.metadata["Name"], wheel.version) == (name, table["version"])
        assert wheel.metadata["License-Expression"] == "MIT"
        assert wheel.metadata["Requires-Python"] == table["requires-python"]
        assert wheel.read_text("licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")
        groups = {"console_scripts": table.get("scripts", {}), **table.get("entry-points", {})}
        declared = {(group, entry, target) for group, entries in groups.items() for entry, target in entries.items()}
        assert {(entry.group, entry.name, entry.value) for entry in wheel.entry_points} == declared != set()


def test_core_and_plugins_name_each_other_s_minor_version(built: dict[str, Built]) -> None:
    for name in built.keys() - {CORE}:
        assert Requirement(built[CORE].same_minor()) in built[name].requires()
        extra = name.rpartition("-")[2]
        assert Requirement(f'{built[name].same_minor()}; extra == "{extra}"') in built[CORE].requires()


def test_the_wheels_are_what_is_imported(core_and_memory: Path, tmp_path: Path) -> None:
    files = _run(core_and_memory / "python", "-c", IMPORT, cwd=tmp_path).stdout.split()
    (site,) = core_and_memory.parent.glob("lib/*/site-packages")
    assert files == [f"{site}/datarax_core/__init__.py", f"{site}/datarax_memory/__init__.py"]
    assert _pip("--python", core_and_memory / "python", "check") == "No broken requirements found.\n"


def test_an_installed_source_is_ready(core_and_memory: Path, built: dict[str, Built], tmp_path: Path) -> None:
    listed = _run(core_and_memory / "drx", "sources", cwd=tmp_path).stdout.splitlines()
    assert [line.split() for line in listed[1:]] == [["memory", "ready", MEMORY, built[MEMORY].table["version"]]]


def test_a_pipeline_runs_from_a_config(core_and_memory: Path, config: Path) -> None:
    batches = json.loads(_run(core_and_memory / "python", "-c", ITERATE, cwd=config.parent).stdout)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(chain.from_iterable(batches)) == list(range(10))
    printed = _run(core_and_memory / "drx", "run", config, cwd=config.parent).stdout.splitlines()
    assert printed[0].startswith("Pipeline(MemorySource: 10 records shuffled; ")
    assert "x  int32[]" in printed
    assert any(line.startswith("3 batches, 10 records, ") for line in printed)


def test_the_core_alone_says_what_to_install(built: dict[str, Built], config: Path) -> None:
    core_alone = _environment(config.with_name("environment"), [built[CORE]])
    listed = _run(core_alone / "drx", "sources", cwd=config.parent).stdout
    assert listed == "no sources are installed; pip install datarax-memory, or another plugin\n"
    ran = _run(core_alone / "drx", "run", config, cwd=config.parent, exits=1)
    assert ran.stdout == ""
    assert ran.stderr == f"{config}: source.type: source 'memory' is not installed; pip install datarax-memory\n"


def test_data_sets_of_tfds_are_prepared_and_read_without_tensorflow(
    built: dict[str, Built], made_once: Callable[[str, Callable[[Path], None]], Path], tmp_path: Path
) -> None:
    bare = _environment(tmp_path / "environment", [built[CORE], built[TFDS]])
    data_dirs, importable = made_once("tfds", tfds_data.write_all), str(Path(tfds_data.__file__).parent)
    code = f"import sys; sys.path.append({importable!r})\n{WITHOUT_TENSORFLOW}"
    folders = [data_dirs / file_format for file_format in tfds_data.FORMATS]
    ran = _run(bare / "python", "-c", code, *folders, cwd=tmp_path).stdout
    for line in ran.splitlines()[-len(folders) :]:
        name, labels, text, length, made, wants = json.loads(line)
        assert (name, labels, length, made) == ("digits_png/1.0.0", tfds_data.digit_labels()[:1500].sum(), 54, 40)
        assert text == tfds_data.caption(6)["text"]
        assert wants.startswith(
            "preparing data set 'made_images/1.0.0' needs TensorFlow, which is not installed; pip install"
        )
    assert "tfds_streaming  ready   datarax-tfds" in _run(bare / "drx", "sources", cwd=tmp_path).stdout
    assert _pip("--python", bare / "python", "check") == "No broken requirements found.\n"


def _environment(folder: Path, projects: list[Built]) -> Path:
    """The folder of commands of a new environment that holds the wheels and what they require."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/*/site-packages")
    _link(chain.from_iterable(project.requires() for project in projects), site)
    _pip("--python", folder / "bin/python", "install", "--no-deps", "--no-index", *(p.wheel for p in projects))
    return folder / "bin"


def _link(requirements: Iterable[Requirement], folder: Path) -> None:
    """Put links to what meets the requirements, and what that requires in turn, into ``folder``."""
    waiting, seen = _needs(requirements, ""), {(CORE, "")}  # the core comes from its wheel
    while waiting := waiting - seen:
        seen.add(wanted := waiting.pop())
        found = metadata.distribution(wanted[0])
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(str(found.locate_file(top)))
        waiting |= _needs(map(Requirement, found.requires or ()), wanted[1])


def _needs(requirements: Iterable[Requirement], extra: str) -> set[tuple[str, str]]:
    """The names that are required here by a distribution with an extra, and the extras wanted of them."""
    here = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {(canonicalize_name(r.name), wanted) for r in here for wanted in ("", *r.extras)}


def _pip(*arguments: str | Path) -> str:
    return _run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments).stdout


def _run(*command: str | Path, cwd: Path | None = None, exits: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of this process' own path and settings."""
    own = {name: os.environ[name] for name in os.environ.keys() - {"PYTHONPATH", "DATARAX_DISABLE_PLUGINS"}}
    env = {**own, "JAX_PLATFORMS": "cpu", **env}
    ran = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603
    assert ran.returncode == exits, ran.stdout + ran.stderr
    return ran
