"""``drx verify``: bad records are found and listed, and a source that excludes the list leaves them out."""

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from commands import DRX, MODULE, fails, run
from installed_sources import install_broken, install_stream

import datarax_arrayrecord
from datarax_core import Pipeline

if TYPE_CHECKING:
    from conftest import Site


def damage(folder: Path, *numbers: int) -> None:
    """Flip a byte in the records with these ids."""
    for file in folder.glob("x.array_record-*"):
        content = bytearray(file.read_bytes())
        for number in numbers:
            place = content.find((number + 2**40).to_bytes(8, "little"))
            if place >= 0:
                content[place] ^= 255
        file.write_bytes(content)


def write_config(path: Path, **source: Any) -> Path:
    fields = {"type": "arrayrecord", "paths": "data/x.array_record@2", **source}
    path.write_text(yaml.safe_dump({"batch_size": 100, "source": fields}))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a config of 1,000 records in two files in the folder ``data``."""
    data = {"id": np.arange(1000) + 2**40}
    datarax_arrayrecord.write(tmp_path / "data/x.array_record", data, shards=2, compression="uncompressed")
    return write_config(tmp_path / "train.yaml")


def served(config: Path) -> list[int]:
    """Return the ids that a config serves."""
    return [int(element["id"]) - 2**40 for element in Pipeline.from_config(config).source]


@pytest.mark.parametrize("command", [DRX, MODULE], ids=["drx", "python -m"])
def test_records_that_can_all_be_read_are_reported_and_nothing_is_listed(command: list[str], config: Path) -> None:
    done = run(command, "verify", str(config))
    assert done.returncode == 0, done.stderr
    summary, narrowed = done.stdout.splitlines()
    assert re.fullmatch(r"1,000 records, 0\.0 MB in [\d.]+ s: all can be read", summary)
    too_large = r"field 'id' is int64 and 1099511627776 \(record 0\) does not fit int32, which is what a device keeps"
    assert re.fullmatch(rf"on a device, id is int64 as int32: refused, {too_large}", narrowed)
    assert sorted(entry.name for entry in config.parent.iterdir()) == ["data", "train.yaml"]


@pytest.mark.parametrize("settings", [{}, {"on_error": "substitute"}, {"shuffle": True, "cacheable": True}])
def test_bad_records_are_found_listed_and_left_out(config: Path, settings: dict[str, Any]) -> None:
    write_config(config, **settings)
    damage(config.parent / "data", 0, 123, 999)
    done = run(DRX, "verify", "train.yaml", cwd=config.parent)
    assert done.returncode == 1
    *lines, summary, narrowed = done.stdout.splitlines()
    assert narrowed.startswith("on a device, id is int64 as int32: refused, ")
    file = re.escape(str(config.parent / "data/x.array_record"))
    for line, shard, row, number in zip(lines, (0, 0, 1), (0, 123, 499), (0, 123, 999), strict=True):
        expected = (
            rf"record {row} of {file}-0000{shard}-of-00002 cannot be read: .*\(record {number} of ArrayRecordSource"
        )
        assert re.match(expected, line)
    listed = "3 cannot be read; they are listed in train.quarantine.jsonl, which the source's exclude: takes"
    assert re.fullmatch(rf"1,000 records, 0\.0 MB in [\d.]+ s: {listed}", summary)

    entries = [json.loads(line) for line in config.with_name("train.quarantine.jsonl").read_text().splitlines()]
    assert [(Path(entry["file"]).name[-14:], entry["record"]) for entry in entries] == [
        ("00000-of-00002", 0),
        ("00000-of-00002", 123),
        ("00001-of-00002", 499),
    ]
    assert all("hash mismatch" in entry["cause"] for entry in entries)

    assert run(DRX, "verify", str(config)).returncode == 1
    assert len(config.with_name("train.quarantine.jsonl").read_text().splitlines()) == 3

    write_config(config, exclude="train.quarantine.jsonl", num_epochs=1)
    good = run(DRX, "verify", str(config))
    assert good.returncode == 0
    assert good.stdout.startswith("997 records")
    assert served(config) == [number for number in range(1000) if number not in (0, 123, 999)]


def test_the_list_is_written_to_the_given_path_and_its_lines_stay(config: Path, tmp_path: Path) -> None:
    damage(config.parent / "data", 5)
    bad = tmp_path / "bad.jsonl"
    run(DRX, "verify", str(config), "--quarantine", str(bad))
    write_config(config, exclude="bad.jsonl")
    damage(config.parent / "data", 7)
    assert run(DRX, "verify", str(config), "--quarantine", str(bad)).returncode == 1
    assert [json.loads(line)["record"] for line in bad.read_text().splitlines()] == [5, 7]
    assert run(DRX, "verify", str(config)).returncode == 0
    assert not config.with_name("train.quarantine.jsonl").exists()


def test_a_list_that_cannot_be_written_is_reported(config: Path) -> None:
    damage(config.parent / "data", 5)
    done = run(DRX, "verify", str(config), "--quarantine", str(config / "bad.jsonl"))
    assert done.returncode == 1
    assert done.stderr == f"{config}/bad.jsonl: Not a directory\n"


def test_the_first_records_may_be_bad_where_only_a_record_tells_the_spec(config: Path) -> None:
    path = config.parent / "data/x.array_record"
    data = {"id": np.arange(1000) + 2**40}
    datarax_arrayrecord.write(path, data, "npz", shards=2, compression="uncompressed", overwrite=True)
    path.with_suffix(".array_record.json").unlink()
    write_config(config, decoder="npz")
    damage(config.parent / "data", 0, 1)
    done = run(DRX, "verify", str(config))
    assert done.returncode == 1
    assert ": 2 cannot be read" in done.stdout


def test_a_damaged_file_is_reported_by_its_name(config: Path) -> None:
    file = config.parent / "data/x.array_record-00001-of-00002"
    file.write_bytes(file.read_bytes()[:100])
    message = fails(DRX, "verify", str(config))
    assert message.startswith(f"{file} is no ArrayRecord file, or is damaged or truncated: ")


def test_records_of_any_source_are_verified(site: "Site", tmp_path: Path) -> None:
    install_broken(site)
    (tmp_path / "train.yaml").write_text("batch_size: 2\nsource: {type: acme_broken}\n")
    done = run(DRX, "verify", "train.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[:3] == [
        f"record {number} of Source cannot be read: OSError: the disk is tired" for number in (7, 407, 807)
    ]
    entries = [json.loads(line) for line in (tmp_path / "train.quarantine.jsonl").read_text().splitlines()]
    assert entries[0] == {"file": None, "record": 7, "cause": "OSError: the disk is tired"}


def test_a_stream_is_read_up_to_the_record_that_fails(site: "Site", tmp_path: Path) -> None:
    install_stream(site, end="1000", broken="i == 500")
    (tmp_path / "train.yaml").write_text("batch_size: 2\nsource: {type: acme_stream}\n")
    done = run(DRX, "verify", "train.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert re.match(r"Source cannot be read past its first \d+ records: the line is cut\n", done.stdout)
    code = site.folder / "acme_stream" / "__init__.py"
    code.write_text(code.read_text().replace("i == 500", "False"))
    assert run(DRX, "verify", "train.yaml", cwd=tmp_path).stdout.startswith("1,000 records, 0.0 MB in ")


def test_findings_are_reported_when_it_is_interrupted(site: "Site", tmp_path: Path) -> None:
    install_stream(site, end="float('inf')")
    (tmp_path / "train.yaml").write_text("batch_size: 2\nsource: {type: acme_stream}\n")
    ours, theirs = pty.openpty()
    with subprocess.Popen(  # noqa: S603 - our own command
        [*DRX, "verify", "train.yaml"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as child:
        os.close(theirs)
        shown = b""
        while b"records/s" not in shown:  # it is under way
            shown += os.read(ours, 1000)
        child.send_signal(signal.SIGINT)
        try:
            printed = child.communicate(timeout=120)[0]
        finally:
            child.kill()
            os.close(ours)
    assert child.returncode == 130
    assert re.match(
        r"stopped early: [\d,]+ records, [\d.,]+ MB in [\d.]+ s: these can be read$", printed.splitlines()[0]
    )


def test_a_missing_config_is_one_clear_message(tmp_path: Path) -> None:
    assert fails(DRX, "verify", "nix.yaml", cwd=tmp_path).startswith("nix.yaml: no such file")
