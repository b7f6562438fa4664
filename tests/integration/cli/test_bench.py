"""``drx bench``: the pipeline against its source alone, measured alternately on the same records."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from commands import DRX, invoke, run
from installed_sources import install_stream

if TYPE_CHECKING:
    from conftest import Site

SPEED = r"[\d,]+ records/s +[\d.,]+ MB/s +[\d,]+ \.\. [\d,]+ records/s"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a config of 100 records, in the folder of its data."""
    np.savez(tmp_path / "data.npz", x=np.zeros((100, 8), np.float32))
    path = tmp_path / "train.yaml"
    path.write_text("batch_size: 10\nsource: {type: memory, path: data.npz, shuffle: true}\n")
    return path


@pytest.mark.parametrize("placement", ["host", "device"])
def test_speeds_ratio_and_places_are_reported_with_their_spread(placement: str, config: Path) -> None:
    config.write_text(config.read_text().replace("shuffle", f"placement: {placement}, shuffle"))
    done = invoke("bench", str(config), "--seconds", "0.3", "--repeats", "3")
    assert done.exit_code == 0, done.output
    explained, first, speeds, where, noise = done.stdout.split("\n\n")
    assert f"\n{placement} route: " in explained
    assert re.match(
        r"first batch: [\d.]+ s, compiling included; it is not counted below\n3 repeats of [\d,]+ batches", first
    )
    pipeline, alone, ratio = speeds.splitlines()
    assert re.fullmatch(rf"pipeline +{SPEED}", pipeline)
    assert re.fullmatch(rf"source alone +{SPEED}", alone)
    assert re.fullmatch(r"ratio +[\d.]+ +[\d.]+ \.\. [\d.]+", ratio)
    assert len(where.splitlines()) == 6
    assert re.search(r"^  compiling: .* \d+%$", where, re.MULTILINE)
    assert noise.startswith("noise: the repeats of one thing lie up to ")


def test_json_has_the_same_numbers(config: Path) -> None:
    shown = json.loads(invoke("bench", str(config), "--seconds", "0.2", "--repeats", "2", "--json").stdout)
    assert (shown["batch_size"], shown["repeats"]) == (10, 2)
    for name in "records_per_second", "source_records_per_second", "ratio", "megabytes_per_second":
        assert 0 < shown[name]["min"] <= shown[name]["median"] <= shown[name]["max"]
    speeds = shown["megabytes_per_second"]["median"], shown["records_per_second"]["median"]
    assert speeds[0] == pytest.approx(speeds[1] * 32 / 1e6)
    assert set(shown["share_of_time"]) == {"waiting", "in_source", "in_transfer", "in_stages", "compiling"}


def test_one_repeat_says_that_it_tells_nothing_of_noise(config: Path) -> None:
    done = invoke("bench", str(config), "--seconds", "0.1", "--repeats", "1")
    assert done.stdout.endswith("\n\none repeat says nothing about noise; take more\n")


def test_a_stream_that_ends_is_measured_as_far_as_it_goes(site: "Site", tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text("batch_size: 2\nsource: {type: acme_stream}\n")
    install_stream(site, end="(5 if epoch == 0 else 0)")  # its later epochs are empty
    done = run(DRX, "bench", str(config))
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"{config}: Source is empty: it has no records to serve\nwhile Source read the next 2 rec"
    )
