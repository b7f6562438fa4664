"""Ticks in sequence, resuming, parts for hosts, and errors."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx

from acme_ticker import AcmeTicker, AcmeTickerConfig
from datarax_core import DataFileError, Pipeline, RecordError
from recordings import SYMBOLS, record


def ticker(path: str, *, shuffle: bool = False) -> AcmeTicker:
    config = AcmeTickerConfig(recording=path, shuffle=shuffle)
    return AcmeTicker(config, rngs=nnx.Rngs(0) if shuffle else None)


def seconds(source: AcmeTicker, count: int) -> list[int]:
    return (source.get_batch(count)["second"] - 34_200).tolist()


def test_ticks_come_in_sequence_epoch_after_epoch(tmp_path: Path) -> None:
    source = ticker(record(tmp_path, 4, 1, 3))
    batch = source.get_batch(3)
    assert batch["symbol"].tolist() == [0, 1, 2]
    assert batch["price"].tolist() == [0, 0.25, 0.5]
    assert seconds(source, 10) == [3, 4, 5, 6, 7, 0, 1, 2, 3, 4]


def test_a_shuffled_epoch_is_all_files_in_another_sequence(tmp_path: Path) -> None:
    source = ticker(record(tmp_path, 4, 1, 3, 2), shuffle=True)
    epochs = [seconds(source, 10) for _ in range(6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert all(epoch.index(0) + 3 == epoch.index(3) for epoch in epochs)  # a file stays in sequence


def test_resuming_opens_the_file_of_the_next_tick_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record(tmp_path, 40, 40, 40)
    source = ticker(path)
    source.get_batch(90)
    state, opened = source.get_state(), []
    real = gzip.open
    monkeypatch.setattr(
        gzip, "open", lambda file, *rest, **more: opened.append(Path(file).name) or real(file, *rest, **more)
    )
    other = ticker(path)
    other.set_state(state)
    assert seconds(other, 3) == [90, 91, 92]
    assert opened == ["day-2.csv.gz"]


@pytest.mark.parametrize("shuffle", [False, True])
def test_hosts_read_blocks_of_one_order(tmp_path: Path, *, shuffle: bool) -> None:
    path = record(tmp_path, 5, 2, 5)
    whole = ticker(path, shuffle=shuffle)
    parts = [whole.process_part(part, 3) for part in range(3)]
    assert [len(part) for part in parts if part is not None] == [4, 4, 4]
    for _ in range(3):
        assert [tick for part in parts for tick in seconds(part, 4)] == seconds(whole, 12)
    assert whole.process_part(0, 5) is None


def test_a_state_of_another_recording_is_refused(tmp_path: Path) -> None:
    state = ticker(record(tmp_path / "a", 5, 3)).get_state()
    with pytest.raises(ValueError, match="recording"):
        ticker(record(tmp_path / "b", 3, 5)).set_state(state)


def test_a_line_that_is_no_tick_is_named(tmp_path: Path) -> None:
    source = ticker(record(tmp_path, 4, 4, damaged=5))
    assert seconds(source, 5) == [0, 1, 2, 3, 4]
    with pytest.raises(
        RecordError, match=r"tick 1 of .*day-1.csv.gz cannot be read: '34200;ACME' is no tick"
    ) as caught:
        source.get_batch(1)
    assert (caught.value.record, caught.value.row) == (5, 1)


def test_a_symbol_that_is_not_listed_is_named(tmp_path: Path) -> None:
    path = record(tmp_path, 3)
    listed = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps({**listed, "symbols": SYMBOLS[:2]}))
    with pytest.raises(RecordError, match="the symbol 'HOOLI' is not in the list of symbols: ACME, INIT"):
        ticker(path).get_batch(3)


@pytest.mark.parametrize("ticks", [3, 9])
def test_a_file_with_another_number_of_ticks_is_named(tmp_path: Path, ticks: int) -> None:
    path = record(tmp_path, 4)
    listed = json.loads(Path(path).read_text())
    listed["files"][0]["ticks"] = ticks
    Path(path).write_text(json.dumps(listed))
    with pytest.raises(DataFileError, match=rf"day-0.csv.gz has 4 ticks where .*recording.json says {ticks}"):
        list(Pipeline(source=ticker(path), batch_size=2))


def damage(content: bytes, how: str) -> bytes:
    return {"cut off": content[:-12], "foreign": b"second,symbol,price", "empty": b""}[how]


@pytest.mark.parametrize("how", ["cut off", "foreign", "empty"])
def test_a_damaged_file_is_named(tmp_path: Path, how: str) -> None:
    path = record(tmp_path, 400)
    file = tmp_path / "day-0.csv.gz"
    file.write_bytes(damage(file.read_bytes(), how))
    with pytest.raises(DataFileError, match=r"day-0.csv.gz (is damaged, or no gzip file|has 0 ticks where)") as caught:
        list(Pipeline(source=ticker(path), batch_size=50))
    assert caught.value.path == str(file)


def test_a_file_that_changes_is_named(tmp_path: Path) -> None:
    path = record(tmp_path, 40, 40)
    source = ticker(path)
    source.get_batch(10)
    record(tmp_path, 41, 41)
    with pytest.raises(DataFileError, match=r"day-0.csv.gz changed while a source read it"):
        source.get_batch(60)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is no list of files"), ({"symbols": [], "files": []}, "at least 1"), ({"ticks": 1}, "Field required")],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "recording.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataFileError, match=message):
        ticker(str(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = record(tmp_path, 3, 3)
    (tmp_path / "day-1.csv.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"no such file: .*day-1.csv.gz; .*recording.json lists it"):
        ticker(path)


def test_a_folder_with_a_recording_is_known(tmp_path: Path) -> None:
    path = record(tmp_path / "days", 3)
    assert AcmeTicker.guess(str(tmp_path / "days")) == {"recording": path}
    assert AcmeTicker.guess(str(tmp_path)) is None


def test_batches_have_the_dtypes_that_the_spec_says(tmp_path: Path) -> None:
    batch = ticker(record(tmp_path, 3)).get_batch(3)
    assert {name: column.dtype for name, column in batch.items()} == {
        "second": np.int32,
        "symbol": np.int32,
        "price": np.float32,
    }
