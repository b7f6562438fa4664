"""Installed distributions: the same as ``importlib.metadata`` finds, in folders, zip files, eggs and by finders of others."""

import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from datarax_core.extensions.discovery import Environment
from datarax_core.extensions.distributions import by_folder, canonical_name, installed, is_bare, read_text
from datarax_core.extensions.requirements import Requirements

METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\nRequires-Dist: numpy>=1\n\n"
ENTRIES = "[datarax.sources]\n{0} = {0}:Source\n"


def install(folder: Path, name: str, suffix: str = "-1.0.dist-info", file: str = "METADATA") -> Path:
    """Write the metadata of a distribution with a source."""
    info = folder / f"{name}{suffix}"
    info.mkdir(parents=True)
    (info / file).write_text(METADATA.format(name))
    (info / "entry_points.txt").write_text(ENTRIES.format(name))
    return info


def found(path: list[str]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return name, version and requirements of what our listing finds."""
    return [(dist.metadata["Name"], dist.version, tuple(dist.requires or ())) for dist in installed(path)]


def test_all_kinds_of_places_are_found_as_by_importlib(tmp_path: Path) -> None:
    site, zipped, egg = tmp_path / "site", tmp_path / "pack.zip", tmp_path / "old.egg"
    install(site, "acme_folder")
    install(site, "acme_develop", ".egg-info", "PKG-INFO")
    (site / "acme_file-1.0.egg-info").write_text(METADATA.format("acme_file"))
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("acme_zip-1.0.dist-info/METADATA", METADATA.format("acme_zip"))
        file.writestr("acme_zip-1.0.dist-info/entry_points.txt", ENTRIES.format("acme_zip"))
    install(egg, "EGG-INFO", "", "PKG-INFO")
    path = [str(site), str(zipped), str(egg), str(tmp_path / "absent")]

    names = {name for name, _, _ in found(path)}
    assert {"acme_folder", "acme_develop", "acme_file", "acme_zip", "EGG-INFO"} <= names
    assert sorted(found(path)) == sorted(
        (dist.metadata["Name"], dist.version, tuple(dist.requires or ())) for dist in metadata.distributions(path=path)
    )
    sources = Environment(installed(path)).entries("datarax.sources")
    assert {"acme_folder", "acme_develop", "acme_zip"} <= {entry.name for entry in sources}


def test_a_folder_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    install(tmp_path, "acme_twice")
    assert [by_folder(dist) for dist in installed([str(tmp_path)] * 2)] == [("acme_twice", "1.0")]


def test_finders_of_others_are_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = install(tmp_path, "acme_found")

    class Finder(metadata.DistributionFinder):
        def find_spec(self, *_: object) -> None:
            return None

        def find_distributions(self, context: metadata.DistributionFinder.Context) -> list[metadata.Distribution]:
            assert context.path == []
            return [metadata.Distribution.at(info)]

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    (dist,) = installed([])
    assert (by_folder(dist), read_text(dist, "METADATA")) == (("acme_found", "1.0"), METADATA.format("acme_found"))


def test_metadata_of_any_size_is_read_whole_and_a_bare_folder_is_told(tmp_path: Path) -> None:
    info = install(tmp_path, "acme_long")
    text = METADATA.format("acme_long") + "a readme of many lines\n" * 10_000
    (info / "METADATA").write_text(text)
    (dist,) = installed([str(tmp_path)])
    assert read_text(dist, "METADATA") == text
    assert (dist.locate_file("acme.py"), is_bare(dist)) == (tmp_path / "acme.py", False)
    assert read_text(dist, "absent.txt") is None
    (info / "METADATA").unlink()
    assert is_bare(dist)


@pytest.mark.parametrize("version", ["1.0", "1.0rc1", "1.0.dev1", "1.0.post1", "1!0.1", "1.0+cpu", "2.0a1.post1"])
def test_the_lowest_version_of_a_requirement_is_compared_as_packaging_does(version: str, tmp_path: Path) -> None:
    info = tmp_path / f"acme_dep-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme_dep\nVersion: {version}\n\n")
    environment = Environment(installed([str(tmp_path)]))
    for least in ("0.9", "1", "1.0", "1.0.0", "1.0.1", "2", "10"):
        declared = not Requirements(environment.version).unmet([f"acme_dep>={least}"])
        assert declared == SpecifierSet(f">={least}").contains(version, prereleases=True)


@pytest.mark.parametrize("name", ["Acme", "acme.core", "acme__Core-._x", "-a-"])
def test_names_are_compared_as_packaging_does(name: str) -> None:
    assert canonical_name(name) == canonicalize_name(name)
