"""Damaged metadata: what works all the same, and what ``drx check`` says of it."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from datarax_core._cli.app import app
from datarax_core.extensions.damage import damages
from datarax_core.registry import SourceRegistry

if TYPE_CHECKING:
    from conftest import Site

DRX = str(Path(sys.executable).with_name("drx"))
UNREADABLE = {"no text": b"\xff\xfe[x]", "no entry": b"[console_scripts]\njust words\n"}


def write_entries(site: "Site", dist: str, content: bytes, version: str = "1.0") -> Path:
    """Install metadata with this entry_points.txt, and return the folder."""
    site.install(dist, {}, version=version)
    info = site.folder / f"{dist.replace('-', '_')}-{version}.dist-info"
    (info / "entry_points.txt").write_bytes(content)
    return info


def told(site: "Site") -> list[str]:
    """Return the damages of the site alone."""
    return damages(metadata.distributions(path=[str(site.folder)]))


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_configs_can_be_imported_beside_a_damaged_distribution_and_drx_works(site: "Site", content: bytes) -> None:
    info = write_entries(site, "acme-torn", content)
    program = """
import json, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import datarax_core.config
print(json.dumps([[type(one.message).__name__, str(one.message)] for one in caught]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    ((kind, text),) = json.loads(done.stdout)
    assert kind == "PluginWarning"
    assert text.startswith(f"the entry_points.txt of {info} is damaged (")
    assert text.endswith("remove the folder; pydantic goes on without plugins of its own")
    listed = subprocess.run([DRX, "describe", "cast"], capture_output=True, text=True, check=False)  # noqa: S603
    assert (listed.returncode, listed.stdout.partition("\n")[0][:10]) == (0, "stage cast")
    assert told(site) == [text.removesuffix("; pydantic goes on without plugins of its own")]


def test_the_error_of_a_plugin_of_pydantic_is_its_own(site: "Site") -> None:
    site.install("acme-slow", {"slow": "acme_slow:P"}, code="raise RuntimeError('mine')", group="pydantic")
    done = subprocess.run(
        [sys.executable, "-c", "import datarax_core.config"], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "RuntimeError: mine"


def test_a_byte_order_mark_hides_nothing_from_us_and_is_told(site: "Site") -> None:
    site.install_working("acme-mark", "acme_mark")
    entries = site.folder / "acme_mark-1.0.dist-info" / "entry_points.txt"
    entries.write_text("\ufeff" + entries.read_text())
    assert SourceRegistry.from_environment().get("acme_mark").__name__ == "Source"
    remedy = "save it as UTF-8 without one, or install acme_mark again"
    assert told(site) == [f"{entries} begins with a byte order mark, which hides its first group from Python; {remedy}"]


@pytest.mark.parametrize("line", [" = acme_less:Source", "less ="])
def test_an_entry_without_a_name_or_a_target_is_left_out(site: "Site", line: str) -> None:
    write_entries(site, "acme-less", f"[datarax.sources]\n{line}\n".encode())
    with pytest.warns(
        UserWarning, match=rf"acme-less: its entry points cannot be read: '{line.strip()}' is no line of"
    ):
        assert "acme-less" not in {info.distribution for info in SourceRegistry.from_environment().describe()}


def test_an_empty_folder_hides_no_distribution_and_is_told(site: "Site", tmp_path: Path) -> None:
    site.install_working("acme-real", "acme_real")
    empty = tmp_path / "acme_real-0.9.dist-info"
    empty.mkdir()
    path = [str(tmp_path), str(site.folder)]
    sys.path.insert(0, str(tmp_path))
    try:
        (found,) = [info for info in SourceRegistry.from_environment().describe() if info.name == "acme_real"]
    finally:
        sys.path.remove(str(tmp_path))
    assert (found.status, found.version) == ("ready", "1.0")
    assert damages(metadata.distributions(path=path)) == [
        f"{empty} is empty, and hides {site.folder}/acme_real-1.0.dist-info from Python; remove the empty folder"
    ]


@pytest.mark.parametrize(
    ("group", "hint"),
    [
        ("datarax.source", "; did you mean 'datarax.sources'?"),
        ("Datarax_Hooks", "; did you mean 'datarax.hooks'?"),
        ("datarx.decoders", "; did you mean 'datarax.decoders'?"),
        ("datarax.tokenizing", " (groups: datarax.sources, datarax.stages, datarax.decoders, datarax.hooks)"),
    ],
)
def test_a_group_that_nothing_reads_is_told(site: "Site", group: str, hint: str) -> None:
    site.install("acme-off", {"a": "acme_off:A"}, group=group)
    site.install("acme-other", {"a": "acme_other:A"}, group="acme.sources")
    assert told(site) == [f"acme_off has entry points in the group {group!r}, which nothing reads{hint}"]


def test_drx_check_tells_of_damage_and_of_words_that_disable_nothing(
    site: "Site", monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("acme-off", {"a": "acme_off:A"}, group="datarax.stage")
    write_entries(site, "acme-less", b"[datarax.sources]\n = acme_less:Source\n")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "al")
    done = CliRunner().invoke(app, ["check", "cast"], prog_name="drx")
    assert done.exit_code == 1
    assert "problem: DATARAX_DISABLE_PLUGINS names 'al', which " in done.stdout
    assert "problem: acme-less: its entry points cannot be read: '= acme_less:Source' is no line of" in done.stdout
    assert "problem: acme_off has entry points in the group 'datarax.stage', which nothing reads" in done.stdout
    monkeypatch.delenv("DATARAX_DISABLE_PLUGINS")
    site.install("acme-none", {"a": "acme_none:A"}, group="acme.things")
    for name, why in {
        "acme-off": "acme_off has entry points in",
        "acme-none": "it has no entry point in datarax.sou",
    }.items():
        done = CliRunner().invoke(app, ["check", name], prog_name="drx")
        assert f"{name} 1.0 is installed, and has no plugin: {why}" in (done.stderr or str(done.exception))
