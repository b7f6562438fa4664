"""Traps of environments that `drx check` knows: each is reported where it applies, and nowhere else."""

import multiprocessing
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from datarax_core._cli.findings import installed_plugins
from datarax_core._cli.traps import Advice, advice

if TYPE_CHECKING:
    from conftest import Site

HOOKS = "datarax.hooks"


def reported(distribution: str | None = None) -> dict[str, Advice]:
    """Return the advice for the plugins of a distribution, or for all plugins, by trap."""
    plugins = installed_plugins()
    chosen = [plugin for plugin in plugins if distribution in (None, plugin.distribution)]
    return {one.trap: one for one in advice(chosen)}


def install(site: "Site", name: str, version: str = "1.0", *requires: str) -> None:
    """Install a library that is not a plugin."""
    site.install(name, {}, version=version, requires=requires, group="console_scripts")


@pytest.fixture
def tfds(site: "Site") -> "Site":
    """Install a plugin that requires tensorflow-datasets, whose metadata declare too few requirements."""
    site.install("acme-tfds", {"a": "acme_tfds:H"}, requires=("tensorflow-datasets",), group=HOOKS)
    install(site, "tensorflow-datasets", "4.9.10", "protobuf>=3.20")
    return site


def test_a_protobuf_too_old_for_tfds_is_a_problem(tfds: "Site") -> None:
    install(tfds, "protobuf", "6.31.0")
    trap = reported("acme-tfds")["protobuf"]
    assert trap.is_problem
    assert trap.text == (
        "protobuf 6.31.0 is too old for tensorflow-datasets 4.9.10, whose import leaves an empty module with it, though its "
        "metadata allow it; pip install 'protobuf>=6.31.1'"
    )


def test_a_protobuf_new_enough_or_not_needed_is_no_trap(tfds: "Site") -> None:
    install(tfds, "protobuf", "6.31.1")
    assert "protobuf" not in reported("acme-tfds")
    assert "protobuf" not in reported("datarax-memory")


def test_importlib_resources_that_tfds_does_not_declare_is_a_problem(
    tfds: "Site", monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tfds
    assert "importlib_resources" not in reported("acme-tfds")
    known = metadata.version

    def version(name: str) -> str:
        if name == "importlib-resources":
            raise metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(metadata, "version", version)
    trap = reported("acme-tfds")["importlib_resources"]
    assert trap.is_problem
    assert trap.text.endswith("pip install importlib_resources")


def test_a_library_older_than_another_needs_is_a_problem(site: "Site") -> None:
    site.install("acme-deep", {"a": "acme_deep:H"}, requires=("acme-middle[fast]",), group=HOOKS)
    install(site, "acme-middle", "2.0", "acme-low>=3; extra == 'fast'", "acme-none; extra == 'slow'", "acme-gone<1")
    install(site, "acme-low", "2.5")
    texts = {one.text for one in advice(installed_plugins()) if one.trap == "requirement"}
    assert {
        "acme-middle 2.0 needs acme-low>=3, and 2.5 is installed; pip install 'acme-low>=3'",
        "acme-middle 2.0 needs acme-gone<1, and it is not installed; pip install 'acme-gone<1'",
    } <= texts
    assert not any("acme-none" in text for text in texts)


def test_requirements_that_go_in_circles_or_cannot_be_read_end(site: "Site") -> None:
    site.install("acme-round", {"a": "acme_round:H"}, requires=("acme-middle", "no ! requirement"), group=HOOKS)
    install(site, "acme-middle", "2.0", "acme-round")
    assert "requirement" not in reported("acme-round")


def test_prometheus_client_next_to_grain_is_advice(site: "Site") -> None:
    site.install("acme-grain", {"a": "acme_grain:H"}, requires=("grain",), group=HOOKS)
    install(site, "prometheus-client")
    trap = reported("acme-grain")["prometheus_client"]
    assert not trap.is_problem
    assert "1.3 to 1.8 times as long" in trap.text
    assert "prometheus_client" not in reported("datarax-memory")


@pytest.mark.parametrize(("methods", "applies"), [(["fork", "spawn"], True), (["forkserver", "fork"], False)])
def test_readers_of_array_record_are_advised_against_where_processes_fork(
    methods: list[str], *, applies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: methods)
    assert ("fork" in reported("datarax-arrayrecord")) == applies
    assert "fork" not in reported("datarax-memory")


def test_problems_come_first(tfds: "Site") -> None:
    install(tfds, "protobuf", "5.0")
    kinds = [one.is_problem for one in advice(installed_plugins())]
    assert kinds == sorted(kinds, reverse=True)
