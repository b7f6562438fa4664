"""``drx peek``: the element spec, the first batch and a summary of each field, for every kind of source."""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from commands import DRX, invoke, run
from installed_sources import install_stream

if TYPE_CHECKING:
    from conftest import Site

RANDOM = np.random.default_rng(0)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a config of 10 records with every kind of field, in batches of 4, the last one padded."""
    np.savez(
        tmp_path / "data.npz",
        image=RANDOM.integers(0, 256, (10, 8, 8), np.uint8),
        label=np.arange(10) % 3,
        score=np.where(np.arange(10) == 4, np.nan, 0.5).astype(np.float32),
        text=np.array([f"text {i}" for i in range(10)]),
    )
    path = tmp_path / "train.yaml"
    path.write_text("batch_size: 4\npad_last: valid\nsource: {type: memory, path: data.npz}\n")
    return path


def peeked(*args: str) -> dict[str, Any]:
    done = invoke("peek", *args, "--json")
    assert done.exit_code == 0, done.output
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def test_a_config_is_peeked_at(config: Path) -> None:
    done = invoke("peek", str(config))
    assert done.exit_code == 0, done.output
    head, record, first, held, note = done.stdout.strip().split("\n\n")
    assert head.startswith("Pipeline(MemorySource: 10 records in sequence; ")
    assert record.splitlines() == [
        "a record:",
        "image  uint8[8, 8]",
        "label  int32[]",
        "score  float32[]",
        "text   text[]",
        "valid  bool[]",
    ]
    assert first.splitlines()[0] == "the first of 4 records of the first batch:"
    assert first.splitlines()[2:] == [
        "label  0, 1, 2, 0",
        "score  0.5, 0.5, 0.5, 0.5",
        "text   'text 0', 'text 1', 'text 2', 'text 3'",
    ]
    assert held.splitlines()[0] == "1 batch, 4 records:"
    assert "label  0 .. 2, mean 0.75, std 0.829156; 3 distinct: 0 (2), 1 (1), 2 (1)" in held.splitlines()
    assert note.startswith("64-bit fields are served in 32 bits, because JAX's x64 mode is off; ")
    assert note.endswith(": label (int64 as int32: exact)")


def test_statistics_are_of_as_many_batches_as_are_wanted_and_of_real_records(config: Path) -> None:
    shown = peeked(str(config), "--batches", "100")
    assert (shown["batches"], shown["records"]) == (3, 10)
    label, score = shown["fields"]["label"], shown["fields"]["score"]
    assert (label["min"], label["max"], label["counts"]) == (0, 2, {"0": 4, "1": 3, "2": 3})
    assert (score["nan"], score["min"], score["std"]) == (0.1, 0.5, 0.0)
    assert shown["fields"]["text"] == {
        "spec": "text[]",
        "records": 10,
        "types": {"str": 10},
        "length_min": 6,
        "length_max": 6,
        "length_mean": 6.0,
        "distinct": 10,
        "counts": {f"'text {i}'": 1 for i in range(10)},
        "first": "'text 0', 'text 1', 'text 2', 'text 3'",
    }
    assert shown["fields"]["valid"] == {"spec": "bool[]", "first": None}


def test_records_of_varying_length_are_shown_with_their_lengths(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **{"tokens": np.arange(10), "tokens.offsets": [0, 3, 3, 10], "label": [0, 1, 0]})
    path = tmp_path / "train.yaml"
    path.write_text("batch_size: 2\npad_last: valid\nsource: {type: memory, path: data.npz}\n")
    done = invoke("peek", str(path), "--batches", "2", "--png", str(tmp_path / "all.png"))
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "tokens  int64[None]" in lines
    assert "tokens  [0, 1, 2], []" in lines
    assert "tokens  lengths 0 .. 7, median 3, mean 3.333 █▁▁█▁▁▁█; values 0 .. 9, mean 4.5, std 2.87228" in lines
    assert (tmp_path / "all.png").exists()


def test_of_a_mixture_the_records_of_each_child_are_reported(config: Path) -> None:
    child = "{type: memory, path: data.npz}"
    config.write_text(f"batch_size: 4\nsource: {{type: mix, weights: [3, 1], sources: [{child}, {child}]}}\n")
    assert sorted(peeked(str(config), "--batches", "2")["records_by_child"].values()) == [2, 6]
    assert "records of " in invoke("peek", str(config)).stdout


def test_a_stream_is_peeked_at_until_it_ends(site: "Site", tmp_path: Path) -> None:
    install_stream(site, end="5")
    config = tmp_path / "train.yaml"
    config.write_text("batch_size: 2\nsource: {type: acme_stream}\n")
    shown = json.loads(run(DRX, "peek", str(config), "--batches", "9", "--json").stdout)
    assert (shown["batches"], shown["records"], shown["fields"]["label"]["max"]) == (3, 5, 4)


def test_a_config_that_serves_nothing_is_reported(site: "Site", tmp_path: Path) -> None:
    install_stream(site, end="0")
    config = tmp_path / "train.yaml"
    config.write_text("batch_size: 2\nsource: {type: acme_stream}\n")
    done = run(DRX, "peek", str(config), "--png", "x.png", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.endswith("\nno batch is served: the source ends before its first record\n")
    assert done.stderr == "x.png: not drawn, because no record is served\n"
    assert not (tmp_path / "x.png").exists()


def test_all_fields_that_do_not_fit_a_device_are_named_before_the_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "big.npz", time=1.7e9 + np.arange(4), key=np.arange(4) + 2**40, part=np.arange(4) / 3)
    (tmp_path / "big.yaml").write_text("batch_size: 2\nsource: {type: memory, path: big.npz}\n")
    done = invoke("peek", str(tmp_path / "big.yaml"))
    assert done.exit_code == 1
    assert "key (int64 as int32: refused, field 'key' is int64 and 1099511627776 (row 0)" in done.stdout
    assert "time (float64 as float32: refused, field 'time' is float64 and 1700000001.0 (row 1)" in done.stdout
    assert "part (float64 as float32: largest relative error" in done.stdout
    assert "{type: select, fields: [...]}" in done.stderr


def test_of_many_fields_the_first_are_shown_unless_all_are_wanted(tmp_path: Path) -> None:
    np.savez(tmp_path / "wide.npz", **{f"f{number:03}": np.arange(4) for number in range(50)})
    (tmp_path / "wide.yaml").write_text("batch_size: 2\nsource: {type: memory, path: wide.npz}\n")
    shown, everything = (invoke("peek", str(tmp_path / "wide.yaml"), *args).stdout for args in ((), ("--all",)))
    assert shown.count("... and 30 more fields; --all shows all\n") == 3
    assert "f019" in shown
    assert "f020" not in shown
    assert (everything.count("f049"), "more fields" in everything) == (4 if "f049 (" in everything else 3, False)
    assert len(peeked(str(tmp_path / "wide.yaml"))["fields"]) == 50


def test_a_picture_is_drawn(config: Path, tmp_path: Path) -> None:
    assert peeked(str(config), "--batches", "3", "--png", str(tmp_path / "x.png"))["records"] == 10
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_picture_is_refused_with_what_to_install(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as Python has it where a package is not to be found
    done = invoke("peek", str(config), "--png", str(tmp_path / "x.png"))
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr == ("--png draws with matplotlib, which is not installed; pip install 'datarax-core[peek]'\n")


def test_one_page_shows_every_field(config: Path, tmp_path: Path) -> None:
    done = invoke("peek", str(config), "--batches", "3", "--html", str(tmp_path / "page.html"))
    assert done.exit_code == 0, done.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.findall(r"<h2>(\S+) <small>(.*?)</small>", page) == [
        ("image", "uint8[8, 8]"),
        ("label", "int32[]"),
        ("score", "float32[]"),
        ("text", "text[]"),
        ("valid", "bool[]"),
    ]
    assert page.count("data:image/png;base64,") == 10
    assert "3 batches, 10 records" in page
    assert "10.00% nan" in page
    done = invoke("peek", str(config), "--html", str(tmp_path / "nix" / "page.html"))
    assert (done.exit_code, done.stderr.strip()) == (1, f"{tmp_path / 'nix' / 'page.html'}: No such file or directory")
