"""``drx check --run``: the quick tests of a kit on an installed plugin, in a process of its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from commands import invoke

from datarax_core._cli.findings import Finding
from datarax_core._cli.trials import kits
from datarax_core._cli.trials.kits import Tried, tried
from datarax_core.extensions.defaults import set_aside
from datarax_core.testing import (
    DecoderConformance,
    HookConformance,
    HostStageConformance,
    SourceConformance,
    StageConformance,
)
from datarax_core.testing.promises import NOT_QUICK

if TYPE_CHECKING:
    from conftest import Site

_BROKEN = """
import time
from typing import Literal
import jax
import numpy as np
from datarax_core import DataSourceModule, SourceConfig

class Config(SourceConfig):
    type: Literal["acme_broken"] = "acme_broken"

class Source(DataSourceModule):
    config_class = Config
    def __len__(self):
        return 20
    def element_spec(self):
        return {"x": jax.ShapeDtypeStruct((), np.int32)}
    def get_records(self, indices):
        rows = np.asarray(indices)
        BODY
        return {"x": np.sort(rows).astype(np.int32)}
"""


@pytest.fixture(autouse=True)
def _fresh(site: "Site", monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:  # noqa: ARG001 - it comes first
    monkeypatch.chdir(tmp_path)
    with set_aside():
        yield


def plugin(name: str, kind: str = "source") -> Finding:
    dist = name.replace("_", "-")
    return Finding(kind=kind, name=name, distribution=dist, version="1.0", target=f"{name}:Source")


def install(site: "Site", body: str = "") -> None:
    code = _BROKEN.replace("BODY", body or "pass")
    site.install("acme-broken", {"acme_broken": "acme_broken:Source"}, code=code)


def test_a_right_source_is_checked_and_tried(site: "Site") -> None:
    site.install_working("acme-count", "acme_count")
    done = invoke("check", "acme_count", "--run", "--json")
    assert done.exit_code == 0, done.output
    (ran,) = json.loads(done.stdout)["run"]
    assert (ran["kind"], ran["name"], ran["broken"], ran["problem"]) == ("source", "acme_count", {}, "")
    assert {"test_the_element_spec_is_true", "test_a_state_resumes_exactly_at_every_step"} <= set(ran["kept"])
    assert "does not claim" in " ".join(ran["left_out"].values()) or ran["left_out"]
    assert "test_every_option_is_refused_or_has_an_effect" not in {*ran["kept"], *ran["left_out"]}  # needs its author


def test_a_broken_promise_is_a_sentence(site: "Site") -> None:
    install(site)
    result = tried(plugin("acme_broken"), None, timeout=60)
    assert list(result.broken) == ["test_a_batch_is_its_records_in_the_order_asked_for"]
    (problem,) = result.problems()
    assert problem.startswith(
        f"source 'acme_broken' (acme-broken 1.0) breaks a promise ({next(iter(result.broken))}): Source prom"
    )
    assert str(result).startswith("source 'acme_broken': ")
    assert "promises kept, 1 broken, " in str(result)


def test_a_plugin_that_hangs_is_stopped(site: "Site") -> None:
    install(site, "time.sleep(60)")
    (problem,) = tried(plugin("acme_broken"), None, timeout=2).problems()
    assert "(acme-broken 1.0): the quick run of its kit did not end within 2 s in test_" in problem


def test_a_stage_takes_the_records_that_reach_it_in_a_config(tmp_path: Path) -> None:
    from datarax_core.testing.trials.subjects import class_for  # noqa: PLC0415 - late, as the script imports it

    np.savez(tmp_path / "x.npz", x=np.arange(30, dtype=np.float32), y=np.arange(30), z=np.arange(30))
    Path("train.yaml").write_text(
        "batch_size: 8\nsource: {type: memory, path: x.npz}\n"
        "stages: [{type: astype, field: z, dtype: float64, lossy: true}, {type: select, fields: [x]}, "
        "{type: rescale, field: x, scale: 0.5}]\n"
    )
    stage: Any = class_for("stage", "rescale", "train.yaml")
    assert issubclass(stage, StageConformance)
    assert stage.config.scale == 0.5
    assert {name: column.tolist() for name, column in stage.records.items()} == {"x": list(range(12))}
    host: Any = class_for("stage", "astype", "train.yaml")
    assert issubclass(host, HostStageConformance)
    assert set(host.records) == {"x", "y", "z"}


def test_tests_that_are_left_out_exist() -> None:
    """A test that was renamed would be part of quick runs again without a word."""
    kits_of_all = (SourceConformance, StageConformance, HostStageConformance, DecoderConformance, HookConformance)
    names = {name for kit in kits_of_all for name in vars(kit) if name.startswith("test_")}
    assert names >= NOT_QUICK
    for kit in kits_of_all:
        quick = [name for name, test in vars(kit).items() if getattr(test, "is_quick", False)]
        assert len(quick) >= 8
        assert not {*quick} & NOT_QUICK


NO_FILE = "x.yaml: no such file; a config that uses 'memory', or a file that it opens, is wanted"
MISTAKES: dict[str, tuple[list[str], str]] = {
    "no plugin": (["--run"], "--run tests one plugin; name it: drx check NAME --run"),
    "no run": (["memory", "--config", "x.yaml"], "--config is for --run, which tests a plugin by its kit; write both"),
    "no file": (["memory", "--run", "--config", "x.yaml"], NO_FILE),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_options_that_do_not_fit(mistake: str) -> None:
    arguments, message = MISTAKES[mistake]
    done = invoke("check", *arguments)
    assert (done.exit_code, done.stderr.strip()) == (1, message)


def test_the_extra_is_named_if_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kits, "find_spec", lambda name: None if name == "pytest" else object())
    done = invoke("check", "memory", "--run")
    assert done.exit_code == 1
    assert done.stderr.strip() == (
        "--run tests plugins by the conformance kits, which need pytest; pip install 'datarax-core[testing]'"
    )


LEAF = {"source": {"type": "memory", "path": "x.npz"}, "batch_size": 1}


@pytest.mark.parametrize(
    ("kind", "name", "given", "message"),
    [
        (
            "source",
            "memory",
            None,
            r"^source 'memory' cannot be built by its defaults \(a memory source in a config needs",
        ),
        (
            "source",
            "memory",
            None,
            "; give a config that uses it, or a file that it opens: drx check memory --run --config FILE$",
        ),
        ("source", "mix", None, r"^the config of source 'mix' needs num_sources; give one that uses it"),
        ("source", "mix", LEAF, "the config: source 'mix' is not used in it"),
        ("stage", "rescale", None, r"^a stage is tried with records: give a config in which 'rescale' is a stage: drx"),
        ("stage", "rescale", LEAF, "stage 'rescale' is not among its stages"),
        (
            "decoder",
            "raw",
            None,
            r"^decoder 'raw' does not write numbers \(.*\), so that there are no records to try it with",
        ),
    ],
)
def test_what_is_missing_to_try_a_plugin(kind: str, name: str, given: Any, message: str) -> None:
    from datarax_core.testing.trials.subjects import class_for  # noqa: PLC0415 - late, as the script imports it

    with pytest.raises(Exception, match=message):
        class_for(kind, name, given)


def test_records_of_a_decoder_and_the_class_of_a_nested_source(tmp_path: Path) -> None:
    from datarax_core.testing.trials.subjects import class_for  # noqa: PLC0415

    np.savez(tmp_path / "x.npz", x=np.arange(30, dtype=np.float32))
    assert invoke("convert", "x.npz", "x.array_record", "--decoder", "msgpack").exit_code == 0
    leaf = {"type": "arrayrecord", "paths": "x.array_record", "decoder": "msgpack"}
    config = {"source": {"type": "mix", "weights": [1, 1], "sources": [leaf, leaf]}, "batch_size": 4}
    decoder: Any = class_for("decoder", "msgpack", config)
    assert issubclass(decoder, DecoderConformance)
    assert len(decoder.records) == 12
    assert all(isinstance(record, bytes) for record in decoder.records)
    source: Any = class_for("source", "mix", config)
    assert issubclass(source, SourceConformance)
    assert source.config.type == "mix"
    assert source().every_record_once is False
    assert class_for("source", "arrayrecord", config)().every_record_once is True  # type: ignore[attr-defined]


def test_results_are_counted() -> None:
    result = Tried(plugin=plugin("x"), kept=["a"], left_out={"b": "why"}, broken={"c": "text"}, problem="it hung")
    assert result.problems() == ["source 'x' (x 1.0) breaks a promise (c): text", "source 'x' (x 1.0): it hung"]
    assert result.as_dict() == {
        "kind": "source",
        "name": "x",
        "kept": ["a"],
        "left_out": {"b": "why"},
        "broken": {"c": "text"},
        "problem": "it hung",
    }
