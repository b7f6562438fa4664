"""``drx check`` on plugins of third parties: each fault is reported with its remedy, and no plugin breaks the command."""

import json
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
from commands import DRX, invoke, run

if TYPE_CHECKING:
    from conftest import Site

HOOKS, DECODERS = "datarax.hooks", "datarax.decoders"
# They would be imported as well, and take their time.
OURS = "datarax-arrayrecord,datarax-image,datarax-memory,datarax-mix,datarax-text"
HOOK = """
from datarax_core.extensions.hookspecs import hookimpl


class Listener:
    @hookimpl
    def datarax_pipeline_opened(self, pipeline): ...


H = Listener()
"""
FAULT = "this is a fault of {} or of its installation"


@pytest.fixture
def others_only(monkeypatch: pytest.MonkeyPatch, site: "Site") -> "Site":
    """Return a site of third-party plugins, with the first-party ones disabled."""
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", OURS)
    return site


def check(*args: str, code: int) -> dict[str, Any]:
    """Run ``drx check --json``, and return its output."""
    done = run(DRX, "check", *args, "--json")
    assert done.returncode == code, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def test_the_first_party_is_well() -> None:
    shown = check("datarax-memory", code=0)
    (memory,) = shown["plugins"]
    assert (memory["name"], memory["status"], memory["problem"]) == ("memory", "ok", "")
    assert 0 < memory["seconds"] < 60
    assert shown["problems"] == []
    assert shown["versions"]["datarax-core"] == metadata.version("datarax-core")


def test_any_failure_of_an_import_is_reported_and_ends_only_its_process(others_only: "Site") -> None:
    site = others_only
    site.install("acme-dies", {"dies": "acme_dies:H"}, code="import os\nprint('bye')\nos._exit(0)", group=HOOKS)
    site.install("acme-dumps", {"dumps": "acme_dumps:H"}, code="import os\nos.abort()", group=HOOKS)
    site.install("acme-exits", {"exits": "acme_exits:H"}, code="raise SystemExit('no GPU')", group=HOOKS)
    site.install("acme-fine", {"fine": "acme_fine:H"}, code=f"print('{{}}')\n{HOOK}", group=HOOKS)
    site.install("acme-less", {"less": "acme_less:H"}, code="", group=HOOKS)
    strange = "class Strange(BaseException): pass\nraise Strange('boo')"
    site.install("acme-strange", {"strange": "acme_strange:H"}, code=strange, group=HOOKS)
    site.install("acme-wrong", {"wrong": "acme_wrong:D"}, code="D = 3", group=DECODERS)
    shown = check(code=1)
    found = {plugin["name"]: (plugin["status"], plugin["problem"]) for plugin in shown["plugins"]}
    fault = {name: FAULT.format(f"acme-{name}") for name in found}
    assert {name: found[name] for name in ("dies", "dumps", "exits", "fine", "less", "strange", "wrong")} == {
        "dies": (
            "died",
            "the import of hook plugin 'dies' (acme-dies 1.0) ended the interpreter with exit code 0, after it printed 'bye'; "
            + fault["dies"],
        ),
        "dumps": (
            "died",
            "the import of hook plugin 'dumps' (acme-dumps 1.0) crashed the interpreter (SIGABRT) in acme_dumps/__init__.py, "
            "line 2; " + fault["dumps"],
        ),
        "exits": (
            "broken",
            "hook plugin 'exits' (acme-exits 1.0) failed to import acme_exits:H: exited with 'no GPU'; "
            + fault["exits"],
        ),
        "fine": ("ok", ""),
        "less": (
            "broken",
            "hook plugin 'less' (acme-less 1.0) failed to import acme_less:H: "
            "AttributeError: module 'acme_less' has no attribute 'H'; " + fault["less"],
        ),
        "strange": (
            "broken",
            "hook plugin 'strange' (acme-strange 1.0) failed to import acme_strange:H: Strange: boo; "
            + fault["strange"],
        ),
        "wrong": (
            "contract",
            "decoder 'wrong' (acme-wrong 1.0) is no decoder: it is int 3, not a class; name the decoder class instead",
        ),
    }
    assert found["memory"][0] == "disabled"
    assert set(shown["problems"]) == {problem for status, problem in found.values() if status not in ("ok", "disabled")}


def test_a_plugin_that_hangs_is_stopped_and_those_behind_it_are_imported(others_only: "Site") -> None:
    hang = f"import time\nif __name__ == 'acme_slow.b': time.sleep(1000)\n{HOOK}"
    targets = {"a": "acme_slow:H", "b": "acme_slow.b:H", "c": "acme_slow:H"}
    others_only.install("acme-slow", targets, code=hang, group=HOOKS)
    (others_only.folder / "acme_slow" / "b.py").write_text(hang)
    shown = check("acme-slow", "--timeout", "8", code=1)
    assert [(plugin["name"], plugin["status"]) for plugin in shown["plugins"]] == [
        ("a", "ok"),
        ("b", "hung"),
        ("c", "ok"),
    ]
    (problem,) = shown["problems"]
    assert problem == (
        "the import of hook plugin 'b' (acme-slow 1.0) did not end within 8 s and was stopped; if it is only slow, give it "
        "longer by --timeout, else this is a fault of acme-slow"
    )


def test_an_import_that_pulls_in_a_heavy_package_is_reported_with_its_time(others_only: "Site") -> None:
    others_only.install("acme-heavy", {"heavy": "acme_heavy:H"}, code=f"import tensorflow\n{HOOK}", group=HOOKS)
    busy = "import time\nend = time.monotonic() + 0.2\nwhile time.monotonic() < end: pass"
    (others_only.folder / "tensorflow.py").write_text(busy)
    shown = check("acme-heavy", code=0)
    (heavy,) = shown["plugins"]
    assert list(heavy["imports"]) == ["tensorflow"]
    assert 0.2 <= heavy["imports"]["tensorflow"] <= heavy["seconds"]
    assert [one["trap"] for one in shown["advice"]] == ["tensorflow"]


def test_facts_of_metadata_are_reported_without_an_import_and_in_words(others_only: "Site") -> None:
    site = others_only
    site.install("acme-needy", {"needy": "acme_needy:H"}, code=HOOK, requires=("acme-absent[big]>=2",), group=HOOKS)
    site.install("acme-one", {"shared": "acme_one:H"}, code="import os\nos.abort()", group=HOOKS)
    site.install("bolt-two", {"shared": "bolt_two:H"}, code="import os\nos.abort()", group=HOOKS)
    done = run(DRX, "check")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert (
        "problem: acme-needy 1.0 needs acme-absent[big]>=2, which this environment does not satisfy; "
        "pip install 'acme-absent[big]>=2'" in lines
    )
    (clash,) = [line for line in lines if line.startswith("problem: hook plugin 'shared' is provided by ")]
    assert clash.endswith("uninstall one, or set DATARAX_DISABLE_PLUGINS to the distribution that you do not want")
    assert "off: source 'memory' is disabled by DATARAX_DISABLE_PLUGINS=datarax-memory; " in done.stdout
    assert lines[-1].endswith(" plugins, 2 problems")


def test_an_unknown_name_is_reported_with_a_close_one() -> None:
    done = invoke("check", "memry")
    assert done.exit_code == 1
    assert done.stderr.startswith("unknown plugin 'memry'; did you mean 'memory'? (installed: ")


def test_damaged_metadata_are_a_problem(others_only: "Site") -> None:
    info = others_only.folder / "acme_torn-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[datarax.hooks]\ntorn = acme_torn:H\n")
    others_only.install("acme-fine", {"fine": "acme_fine:H"}, code=HOOK, group=HOOKS)
    done = invoke("check", "fine")
    assert done.exit_code == 1
    assert "problem: " in done.stdout
    assert "a distribution with datarax.hooks has damaged metadata; what it provides is missing" in done.stdout


def test_all_kinds_are_listed_by_distribution(site: "Site") -> None:
    site.install("acme-all", {"h": "acme_all:H"}, group=HOOKS, requires=("acme-absent",))
    lines = [line.split(maxsplit=6) for line in invoke("plugins").stdout.splitlines()]
    assert lines[0] == ["distribution", "version", "kind", "name", "status", "detail"]
    assert lines[1][:5] == ["acme-all", "1.0", "hook", "plugin", "h"]
    assert ["datarax-memory", metadata.version("datarax-memory"), "source", "memory", "ready"] in lines
    listed = json.loads(invoke("plugins", "--json").stdout)
    assert listed[0]["distribution"] == "acme-all"
    assert listed[0]["plugins"][0]["problem"].startswith("acme-all 1.0 needs acme-absent")
    (arrayrecord,) = [one for one in listed if one["distribution"] == "datarax-arrayrecord"]
    assert {plugin["kind"] for plugin in arrayrecord["plugins"]} == {"source", "decoder"}
