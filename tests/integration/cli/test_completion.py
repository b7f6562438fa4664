"""Shell completion, requested as shells request it: commands, options, config files and names of installed plugins."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import DRX, completed, invoke, run

from datarax_core._cli.app import COMMANDS
from datarax_core._cli.completion import (
    config_and_data_files,
    config_files,
    decoder_names,
    known_names,
    plugin_names,
    source_names,
)

if TYPE_CHECKING:
    from conftest import Site


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with configs and other files."""
    for name in ("train.yaml", "eval.TOML", "notes.txt", ".hidden.json", "runs/a.json", "runs/b.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_and_options_are_offered() -> None:
    assert completed("drx ") == list(COMMANDS)
    assert completed("drx pl") == ["plugins", "plan"]
    assert completed("drx run --e") == ["--epochs"]


@pytest.mark.usefixtures("folder")
def test_config_files_and_folders_are_offered() -> None:
    assert completed("drx run ") == ["eval.TOML", "runs/", "train.yaml"]
    assert completed("drx peek runs/") == ["runs/a.json"]


def test_names_of_plugins_are_offered(site: "Site") -> None:
    site.install("acme-loud", {"loud": "acme_loud:H"}, code="raise RuntimeError('imported')", group="datarax.hooks")
    assert completed("drx check lou") == ["loud"]
    assert completed("drx check acme") == ["acme-loud"]
    assert completed("drx convert a.yaml out --to arr") == ["arrayrecord"]
    assert completed("drx convert a.yaml out --decoder m") == ["msgpack"]
    assert source_names("mem") == ["memory"]
    assert decoder_names("nix") == []
    assert {"datarax-memory", "memory", "raw"} <= set(plugin_names(""))


@pytest.mark.parametrize(
    ("incomplete", "offered"),
    [
        ("t", ["train.yaml"]),
        (".", [".hidden.json"]),
        ("runs/", ["runs/a.json"]),
        ("nix/", []),
        ("notes.txt/", []),
    ],
)
@pytest.mark.usefixtures("folder")
def test_files_are_offered_that_may_be_configs(incomplete: str, offered: list[str]) -> None:
    assert config_files(incomplete) == offered


def test_files_that_a_known_source_opens_are_offered_in_place_of_configs(folder: Path) -> None:
    for name in ("a.npz", "b.tfrecord-00000-of-00002", "c.tfrecord.gz", "d.parquet"):
        (folder / name).touch()
    offered = ["a.npz", "b.tfrecord-00000-of-00002", "c.tfrecord.gz", "eval.TOML", "runs/", "train.yaml"]
    assert config_and_data_files("") == offered
    assert known_names("tfd") == ["tfds", "tfds_eager", "tfds_streaming"]


def test_absolute_paths_stay_absolute(folder: Path) -> None:
    assert config_files(f"{folder}/tr") == [f"{folder}/train.yaml"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_drx(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_DRX_COMPLETE", f"source_{shell}")
    assert f"_DRX_COMPLETE=complete_{shell}" in invoke().stdout


def test_the_installed_command_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_DRX_COMPLETE": "complete_bash", "COMP_WORDS": "drx sou", "COMP_CWORD": "1"}.items():
        monkeypatch.setitem(os.environ, name, value)
    done = run(DRX)
    assert (done.returncode, done.stdout) == (0, "sources\n")
