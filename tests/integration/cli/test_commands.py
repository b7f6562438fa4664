"""``drx`` as users run it: the installed command and ``python -m datarax_core``, each in a process of its own."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from commands import DRX, MODULE, run_on_terminal
from commands import fails as _fails
from commands import run as _run

from datarax_core import Pipeline

if TYPE_CHECKING:
    from conftest import Site

SPENT = r"[\d.]+ s +\d+%"
SUMMARY = (  # the last lines of what `drx run` prints
    r"{batches} batches, {records} records, {megabytes} MB in [\d.]+ s\n"
    r"first batch          [\d.]+ s, compiling included\n"
    r"after it             [\d,]+ records/s, [\d.,]+ MB/s\n"
    rf"waiting for data     {SPENT}\n"
    rf"in source            {SPENT}\n"
    rf"in transfer          {SPENT}\n"
    rf"in stages            {SPENT}\n"
    rf"compiling            {SPENT}\n"
    r"records substituted  0\n$"
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a config of 1,000 records, in the folder of its data."""
    np.savez(tmp_path / "data.npz", image=np.zeros((1000, 4, 4), np.uint8), label=np.arange(1000, dtype=np.int32))
    path = tmp_path / "train.yaml"
    path.write_text("batch_size: 64\nsource: {type: memory, path: data.npz, shuffle: true}\n")
    return path


# -- drx sources --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [DRX, MODULE], ids=["drx", "python -m"])
def test_sources_are_listed_with_distribution_and_version(command: Sequence[str], site: "Site") -> None:
    site.install_working("acme-count", "acme_count", version="2.5")
    done = _run(command, "sources")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["name", "status", "distribution", "version"]
    assert ["acme_count", "ready", "acme-count", "2.5"] in lines
    assert ["memory", "ready", "datarax-memory", metadata.version("datarax-memory")] in lines
    assert "\x1b" not in done.stdout


def test_a_source_that_is_not_ready_says_why(site: "Site") -> None:
    site.install("acme-needy", {"needy": "acme_needy:S"}, requires=("acme-absent[big]>=2",))
    site.install_working("acme-one", "shared")
    site.install_working("bolt-two", "shared")
    printed = _run(DRX, "sources").stdout
    assert re.search(r"^needy +unmet +acme-needy +1\.0 +needs acme-absent\[big\]>=2$", printed, re.MULTILINE)
    assert len(re.findall(r"^shared +conflict .* is provided by .*uninstall one.*$", printed, re.MULTILINE)) == 2


def test_listing_loads_no_plugin_and_no_jax(site: "Site") -> None:
    site.install("acme-loud", {"acme_loud": "acme_loud:Source"}, code="raise RuntimeError('imported')")
    script = (
        "import sys; from datarax_core.__main__ import main; sys.argv = ['drx', 'sources']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print([m for m in ('jax', 'flax', 'grain', 'tensorflow', 'datarax_memory', 'acme_loud') if m in sys.modules])"
    )
    done = _run([sys.executable, "-c", script])
    assert done.stdout.splitlines()[-1] == "[]"
    assert "acme_loud" in done.stdout


def test_sources_as_json(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    site.install_working("acme-count", "acme_count", version="2.5")
    monkeypatch.setenv("DATARAX_DISABLE_PLUGINS", "acme-count")
    listed = {entry["name"]: entry for entry in json.loads(_run(DRX, "sources", "--json").stdout)}
    assert listed["acme_count"] == {
        "name": "acme_count",
        "status": "disabled",
        "distribution": "acme-count",
        "version": "2.5",
        "target": "acme_count:Source",
        "detail": "by DATARAX_DISABLE_PLUGINS=acme-count; take that out of the variable to use it",
        "place": "",
    }


def test_decoders_are_listed_as_sources_are() -> None:
    lines = [line.split() for line in _run(DRX, "decoders").stdout.splitlines()]
    version = metadata.version("datarax-arrayrecord")
    assert lines[0] == ["name", "status", "distribution", "version"]
    assert [name for name, *_ in lines[1:]] == ["array", "example", "msgpack", "npz", "raw"]
    assert all(line == ["ready", "datarax-arrayrecord", version] for _, *line in lines[1:])
    listed = json.loads(_run(DRX, "decoders", "--json").stdout)
    assert listed[0]["target"] == "datarax_arrayrecord.decoders:ArrayDecoder"


def test_the_version_is_the_distribution_s() -> None:
    assert _run(DRX, "--version").stdout == f"datarax-core {metadata.version('datarax-core')}\n"


def test_a_misspelt_command_is_reported(tmp_path: Path) -> None:
    done = _run(DRX, "sorces", cwd=tmp_path)
    assert done.returncode == 2
    assert "No such command 'sorces'" in done.stderr


# -- drx run ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [DRX, MODULE], ids=["drx", "python -m"])
def test_run_says_what_it_serves_and_how_that_went(command: Sequence[str], config: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = _run(command, "run", str(config), cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    explained, fields, summary = done.stdout.split("\n\n")
    assert f"{explained}\n\n{fields}".startswith(Pipeline.from_config(config).explain() + "\n\n")
    assert explained.startswith("Pipeline(MemorySource: 1000 records shuffled; ")
    assert fields.splitlines() == ["image  uint8[4, 4]", "label  int32[]"]
    assert re.match(SUMMARY.format(batches=16, records="1,000", megabytes=r"0\.0"), summary)
    assert "\x1b" not in done.stdout + done.stderr


def test_run_explains_the_route_of_a_source_on_the_host_and_counts_its_bytes(config: Path) -> None:
    np.savez(config.with_name("data.npz"), image=np.zeros((2000, 64, 64), np.uint8))
    config.write_text(config.read_text().replace("shuffle: true", "shuffle: true, placement: host"))
    printed = _run(DRX, "run", str(config)).stdout
    assert "host route: MemorySource reads records at concrete indices" in printed
    assert re.search(SUMMARY.format(batches=32, records="2,000", megabytes=r"8\.2"), printed)


def test_run_stops_at_the_limit_or_after_the_epochs(config: Path) -> None:
    limited = _run(DRX, "run", str(config), "--limit", "3").stdout
    assert re.search("\n" + SUMMARY.format(batches=3, records=192, megabytes=r"0\.0"), limited)
    config.write_text(config.read_text() + "num_epochs: null\n")
    epochs = _run(DRX, "run", str(config), "--epochs", "2").stdout
    assert re.search("\n" + SUMMARY.format(batches=32, records="2,000", megabytes=r"0\.0"), epochs)


def test_a_run_of_one_batch_has_no_time_after_it(config: Path) -> None:
    printed = _run(DRX, "run", str(config), "--limit", "1").stdout
    summary = r"\n1 batch, 64 records, 0\.0 MB in [\d.]+ s\nfirst batch +[\d.]+ s, .*\nrecords substituted  0\n$"
    assert re.search(summary, printed)


def test_run_shows_its_progress_on_a_terminal(config: Path) -> None:
    printed, shown = run_on_terminal(DRX, "run", str(config))
    assert "\x1b[" in shown
    assert "0/16" in shown
    assert "\x1b" not in printed
    assert re.search("\n" + SUMMARY.format(batches=16, records="1,000", megabytes=r"0\.0"), printed)


def test_an_interrupted_run_still_prints_its_summary(config: Path) -> None:
    config.write_text(config.read_text() + "num_epochs: null\n")
    with subprocess.Popen(  # noqa: S603 - our own command
        [*DRX, "run", str(config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("Pipeline(MemorySource: 1000 records shuffled; ")
        child.send_signal(signal.SIGINT)
        try:
            printed, complaints = child.communicate(timeout=120)
        finally:
            child.kill()
    assert child.returncode == 130
    assert re.search(r"^interrupted: [\d,]+ batch(es)?, [\d,]+ records, [\d.,]+ MB in [\d.]+ s$", printed, re.MULTILINE)
    assert "Traceback" not in complaints


def test_a_missing_config_is_one_clear_message(tmp_path: Path) -> None:
    message = _fails(DRX, "run", "nix.yaml", cwd=tmp_path)
    assert message == f"nix.yaml: no such file; check the path and the working folder {tmp_path}"


def test_a_bad_config_lists_every_problem(config: Path) -> None:
    config.write_text("batchsize: 64\nsource: {type: memry, path: data.npz}\n")
    name = re.escape(str(config))
    assert re.fullmatch(
        rf"{name}:1: batch_size: this field is required\n"
        rf"{name}:1: batchsize: unknown field 'batchsize'; did you mean 'batch_size'\?\n"
        rf"{name}:2: source\.type: unknown source 'memry'; did you mean 'memory'\?.*",
        _fails(DRX, "run", str(config)),
    )


def test_a_yaml_mistake_has_line_and_column(config: Path) -> None:
    config.write_text("batch_size: 64\nsource: {type: memory\n")
    assert "train.yaml:3:1: not valid YAML: " in _fails(DRX, "run", str(config))


def test_missing_data_is_one_clear_message(config: Path) -> None:
    config.with_name("data.npz").unlink()
    message = _fails(DRX, "run", str(config))
    assert str(config.with_name("data.npz")) in message


def test_data_that_a_source_refuses_is_one_clear_message(config: Path) -> None:
    np.savez(config.with_name("data.npz"), image=np.zeros((10, 4)), label=np.zeros(9))
    message = _fails(DRX, "run", str(config))
    assert "image" in message
    assert "10" in message
    assert "9" in message


@pytest.mark.parametrize("args", [["--debug", "run", "nix.yaml"], ["run", "nix.yaml", "--debug"]])
def test_debug_shows_the_traceback_of_a_mistake(args: list[str], tmp_path: Path) -> None:
    done = _run(DRX, *args, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "datarax_core.errors.ConfigError: nix.yaml: no such file" in done.stderr


@pytest.mark.parametrize("option", ["--epochs", "--limit"])
def test_counts_below_one_are_refused(option: str, config: Path) -> None:
    done = _run(DRX, "run", str(config), option, "0")
    assert done.returncode == 2
    assert f"Invalid value for '{option}'" in done.stderr
