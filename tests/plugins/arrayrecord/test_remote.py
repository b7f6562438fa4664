"""ArrayRecord files at addresses: counted by their ends, fetched whole into the cache, ahead of need, by real servers."""

import contextlib
import json
import os
import pickle
import subprocess
import sys
import time
import warnings
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import record_files
from flax import nnx
from record_files import damage, ids, source_of, write, write_numbers

import datarax_arrayrecord
from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule
from datarax_core.errors import DataFileError, RecordError, StateError
from datarax_core.pipeline import Pipeline

COUNTS = [40, 0, 25, 70]
TOTAL = sum(COUNTS)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the user's cache is."""
    monkeypatch.delenv("DATARAX_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "local").mkdir()
    return write_numbers(tmp_path / "local", COUNTS)


@pytest.fixture
def addresses(bucket: Any, files: list[str]) -> list[str]:
    found = [bucket.put(f"train/{Path(file).name}", Path(file).read_bytes()) for file in files]
    bucket.faults.requests.clear()
    return found


@pytest.fixture(params=["s3", "http"])
def anywhere(request: pytest.FixtureRequest, files: list[str]) -> tuple[list[str], Any]:
    """Addresses of the files on one of the servers, and the faults of that."""
    server = request.getfixturevalue("bucket" if request.param == "s3" else "http_server")
    found = [server.put(Path(file).name, Path(file).read_bytes()) for file in files]
    server.faults.requests.clear()
    return found, server.faults


def read_bytes(faults: Any) -> int:
    """Bytes that were asked for by ranges."""
    total = 0
    for request in faults.reads():
        if request.range.startswith("bytes="):
            first, last = request.range.removeprefix("bytes=").split("-")
            total += int(last) - int(first) + 1
    return total


def all_ids(source: Any, size: int = 16) -> list[int]:
    return [
        number
        for batch in Pipeline(source=source, stages=[], batch_size=size, rngs=nnx.Rngs(0))
        for number in ids(batch)
    ]


@pytest.mark.parametrize("order", [{}, {"shuffle": True}, {"shuffle_files": True}])
def test_files_at_addresses_serve_what_local_ones_serve(
    anywhere: tuple[list[str], Any], files: list[str], order: dict[str, Any]
) -> None:
    addresses, _ = anywhere
    source, local = source_of(addresses, **order), source_of(files, **order)
    assert len(source) == TOTAL
    assert source.paths == tuple(addresses)
    assert all_ids(source) == all_ids(local)
    assert source.fingerprint() == local.fingerprint()


def test_a_second_run_reads_from_the_cache(addresses: list[str], bucket: Any, tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "cache"
    assert all_ids(source_of(addresses, cache_dir=str(folder), cache_bytes=10**7)) == list(range(TOTAL))
    fetched = read_bytes(bucket.faults)
    bucket.faults.requests.clear()
    assert all_ids(source_of(addresses, cache_dir=str(folder), cache_bytes=10**7)) == list(range(TOTAL))
    assert fetched > 4 * 65536
    assert not read_bytes(bucket.faults)
    assert not home.exists()


def test_the_cache_is_that_of_the_user_unless_a_config_names_another(addresses: list[str], home: Path) -> None:
    assert all_ids(source_of(addresses)) == list(range(TOTAL))
    assert len(list(home.glob("datarax/objects/datarax-1/files/*.json"))) == 3


def test_a_source_is_built_from_the_ends_of_the_files(bucket: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "large.array_record", (np.random.default_rng(n).bytes(400) for n in range(20_000)))
    address = bucket.put("large.array_record", Path(path).read_bytes())
    size = Path(path).stat().st_size
    bucket.faults.requests.clear()
    source = source_of(address, decoder=None)
    assert len(source) == 20_000
    assert len(bucket.faults.reads()) <= 4
    assert read_bytes(bucket.faults) < size / 4
    assert source.get_batch_at(7, 2) == source_of(path, decoder=None).get_batch_at(7, 2)


def test_a_folder_a_pattern_and_a_config_file_name_files_at_addresses(
    addresses: list[str], bucket: Any, tmp_path: Path
) -> None:
    for name in ("train", "train/part-*.array_record"):
        assert all_ids(source_of(f"{bucket.url}/{name}")) == list(range(TOTAL))
    written = datarax_arrayrecord.write(tmp_path / "x.array_record", {"x": np.arange(50)}, shards=2)
    for file in sorted(tmp_path.glob("x.array_record*")):
        bucket.put(f"data/{file.name}", file.read_bytes())
    config = tmp_path / "train.yaml"
    config.write_text(
        f"source:\n  type: arrayrecord\n  paths: {bucket.url}/data/x.array_record@2\n  cache_dir: kept\n"
        "  cache_bytes: 1GiB\n  shuffle: true\nbatch_size: 10\n"
    )
    served = [int(x) for batch in Pipeline.from_config(config) for x in batch["x"]]
    assert sorted(served) == list(range(50))
    assert (tmp_path / "kept").is_dir()
    assert written is not None
    assert len(addresses) == 4


def test_a_state_of_local_files_goes_on_at_addresses_and_back(addresses: list[str], files: list[str]) -> None:
    def pipeline(paths: list[str]) -> Pipeline:
        return Pipeline(source=source_of(paths, shuffle=True), stages=[], batch_size=10, rngs=nnx.Rngs(0))

    def rest(state: dict[str, Any], paths: list[str]) -> list[int]:
        later = pipeline(paths)
        later.set_state(json.loads(json.dumps(state)))
        return [number for batch in later for number in ids(batch)]

    for begin, end in ((files, addresses), (addresses, files)):
        first = pipeline(begin)
        batches = iter(first)
        for _ in range(3):
            next(batches)
        state = first.get_state()
        assert "cache" not in json.dumps(state)
        expected = [number for batch in batches for number in ids(batch)]
        assert rest(state, end) == expected
    with pytest.raises(StateError, match="names_and_sizes"):
        rest(state, addresses[:3])


def test_an_object_that_was_changed_is_an_error_and_a_new_source_serves_the_new_one(
    addresses: list[str], bucket: Any, tmp_path: Path
) -> None:
    source = source_of(addresses)
    (tmp_path / "new").mkdir()
    changed = write(tmp_path / "new" / "x", (np.full(4, 9, np.int32).tobytes() for _ in range(40)))
    bucket.put("train/part-00.array_record", Path(changed).read_bytes())
    with pytest.raises(DataFileError, match=r"s3://.*part-00.array_record changed while a source read it"):
        source.get_records([0])
    assert source_of(addresses, decoder=None).get_batch_at(0, 1) == [np.full(4, 9, np.int32).tobytes()]


def test_a_damaged_file_in_the_cache_is_fetched_again(
    addresses: list[str], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert all_ids(source_of(addresses)) == list(range(TOTAL))
    for kept in home.glob("datarax/objects/*/files/*"):
        if kept.suffix != ".json":
            before = kept.stat()
            content = bytearray(kept.read_bytes())
            for at in range(200, 1500, 7):
                content[at] ^= 0xFF
            kept.write_bytes(content)
            os.utime(kept, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert all_ids(source_of(addresses)) == list(range(TOTAL))
    assert "is damaged in the cache, and fetched again" in caplog.text


def test_a_file_in_the_cache_that_is_written_to_while_it_is_open_is_fetched_again(
    addresses: list[str], home: Path
) -> None:
    source = source_of(addresses)
    assert ids(source.get_records([0, 1])) == [0, 1]
    for kept in home.glob("datarax/objects/*/files/*"):
        if kept.suffix != ".json":
            kept.write_bytes(bytes(kept.stat().st_size))
    assert ids(source.get_records([0, 39])) == [0, 39]


def test_a_record_that_is_damaged_in_the_object_is_a_bad_record(
    files: list[str], bucket: Any, caplog: pytest.LogCaptureFixture
) -> None:
    damage(files[2], 45)
    addresses = [bucket.put(Path(file).name, Path(file).read_bytes()) for file in files]
    with pytest.raises(RecordError, match=r"record 5 of s3://.*/part-02.array_record cannot be read"):
        source_of(addresses).get_records([45])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ids(source_of(addresses, on_error="substitute").get_records([44, 45])) == [44, 46]
    assert "fetched again" not in caplog.text


def kept_bytes(folder: Path) -> int:
    total = 0
    for path in folder.glob("*/files/*"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            total += path.stat().st_size if path.suffix != ".json" else 0
    return total


@pytest.mark.filterwarnings("ignore:the cache in .* no blocks are kept")
def test_a_file_that_was_removed_from_the_cache_is_fetched_again(addresses: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    size = 65536 * 2
    source = source_of(addresses, cache_dir=str(folder), cache_bytes=size + 70_000)
    for _ in range(2):
        for start in range(0, TOTAL - 10, 10):
            indices = list(range(start, start + 10))
            assert ids(source.get_records(indices)) == indices
        source.close()  # a file that did not fit beside those in use, fetched ahead maybe, goes with its use
        deadline = time.monotonic() + 10
        while kept_bytes(folder) > size + 70_000 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert kept_bytes(folder) <= size + 70_000


def test_a_cache_that_is_too_small_for_a_shuffle_is_a_warning(addresses: list[str], tmp_path: Path) -> None:
    warnings.filterwarnings("ignore", "the cache in .* no blocks are kept")
    with pytest.warns(UserWarning, match="the files at addresses have .* reads all files in turn"):
        source = source_of(addresses, shuffle=True, cache_dir=str(tmp_path / "c"), cache_bytes=100_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert sorted(all_ids(source)) == list(range(TOTAL))


@pytest.mark.parametrize(
    ("order", "expected"),
    [({}, 3), ({"shuffle_files": True}, 3), ({"shuffle": True}, 8)],
    ids=["sequence", "files", "all"],
)
def test_the_next_files_of_the_order_are_fetched_ahead_of_need(
    bucket: Any, tmp_path: Path, order: dict[str, Any], expected: int
) -> None:
    (tmp_path / "many").mkdir()
    files = write_numbers(tmp_path / "many", [20] * 8)
    addresses = [bucket.put(Path(file).name, Path(file).read_bytes()) for file in files]
    source = source_of(addresses, **order)
    indices = source.record_indices_at(0, 10 if expected == 3 else 160, source.order_key_data())
    bucket.faults.requests.clear()
    source.get_records(indices[:1])
    wait_until(lambda: len(fetched_files(bucket)) >= expected)
    # what is fetched ahead is what is read next
    later = source.record_indices_at(0, 60 if expected == 3 else 160, source.order_key_data())
    assert fetched_files(bucket) == {f"part-{index // 20:02d}" for index in later.tolist()}


def fetched_files(bucket: Any) -> set[str]:
    return {request.path.rpartition("/")[2].partition(".")[0] for request in bucket.faults.reads()}


def wait_until(is_so: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)


def test_a_process_that_leaves_out_files_of_the_order_fetches_only_its_own(bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    files = write_numbers(tmp_path / "many", [10] * 8)
    addresses = [bucket.put(Path(file).name, Path(file).read_bytes()) for file in files]
    source = source_of(addresses)
    bucket.faults.requests.clear()
    order = source.record_indices_at(0, 80)
    for start in (20, 60):  # the second and the fourth of the four batches of 20
        source.get_records(order[start : start + 10])
    time.sleep(0.3)
    assert "part-00" not in fetched_files(bucket)
    assert "part-07" not in fetched_files(bucket)


def test_the_files_beside_the_data_are_read_at_addresses(bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    records = {"x": [np.arange(n % 5, dtype=np.int32) for n in range(60)], "n": np.arange(60)}
    datarax_arrayrecord.write(tmp_path / "d" / "t.array_record", records, shards=3)
    listed = tmp_path / "bad.jsonl"
    listed.write_text(json.dumps({"file": "t.array_record-00001-of-00003", "record": 2}) + "\n")
    for file in [*(tmp_path / "d").iterdir(), listed]:
        bucket.put(f"d/{file.name}", file.read_bytes())
    local = ArrayRecordSourceModule(ArrayRecordSourceConfig(), str(tmp_path / "d"))
    source = ArrayRecordSourceModule(ArrayRecordSourceConfig(), f"{bucket.url}/d/t.array_record@3")
    assert source.decoder == local.decoder
    bucket.faults.requests.clear()
    assert source.record_lengths("x").tolist() == [n % 5 for n in range(60)]
    assert {request.path.rpartition("/")[2] for request in bucket.faults.reads()} == {"t.array_record.lengths.npz"}
    excluding = ArrayRecordSourceConfig(exclude=f"{bucket.url}/d/bad.jsonl")
    assert len(ArrayRecordSourceModule(excluding, f"{bucket.url}/d/t.array_record@3")) == 59
    with pytest.raises(FileNotFoundError, match=r"no such file: s3://.*/none.jsonl"):
        ArrayRecordSourceModule(
            ArrayRecordSourceConfig(exclude=f"{bucket.url}/none.jsonl"), f"{bucket.url}/d/t.array_record@3"
        )


def test_a_source_is_picklable_and_graints_source_reads_the_cache(addresses: list[str]) -> None:
    source = source_of(addresses)
    again = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert ids(again.get_records([3, 50])) == [3, 50]
    assert len(source.grain_source) == TOTAL
    assert source.grain_source[41] == source_of(addresses, decoder=None).get_batch_at(41, 1)[0]
    assert len(pickle.loads(pickle.dumps(source))) == TOTAL  # noqa: S301


def test_trouble_that_passes_is_tried_again(addresses: list[str], bucket: Any) -> None:
    bucket.faults.errors, bucket.faults.truncated, bucket.faults.resets = 2, 2, 1
    source = source_of(addresses)
    bucket.faults.errors = bucket.faults.truncated = 2
    assert all_ids(source) == list(range(TOTAL))


def test_mistakes_are_named(addresses: list[str], bucket: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"s3://.*/none.array_record"):
        source_of(f"{bucket.url}/none.array_record")
    with pytest.raises(DataFileError, match=r"s3://.*/empty is empty: 0 bytes"):
        source_of(bucket.put("empty", b""))
    with pytest.raises(DataFileError, match=r"s3://.*/text is no ArrayRecord file, or is damaged or truncated: .*"):
        source_of(bucket.put("text", b"no records " * 50_000))
    with pytest.raises(DataFileError, match="is a Parquet file"):
        source_of(bucket.put("table", b"PAR1" * 50_000))
    with pytest.raises(FileNotFoundError, match=r"local_files_only=True, which forbids 's3://"):
        source_of(addresses, local_files_only=True)
    with pytest.raises(ValueError, match="local_files_only=True forbids 's3://b/x'"):
        ArrayRecordSourceConfig(paths="x", exclude="s3://b/x", local_files_only=True)
    with pytest.raises(ValueError, match="cache_dir has no use here, where no path is an address"):
        ArrayRecordSourceConfig(paths="x", cache_dir="c")
    with pytest.raises(ValueError, match="cache_bytes has no use here, where no path is an address"):
        ArrayRecordSourceConfig(paths="x", cache_bytes=10**9)
    with pytest.raises(ValueError, match="storage_options has no use here, where no path is an address"):
        source_of("x", storage_options={"anon": True})
    assert ArrayRecordSourceConfig(cache_bytes="2GiB").cache_bytes == 2 << 30


def test_processes_fetch_a_file_once(bucket: Any, tmp_path: Path) -> None:
    addresses = []
    for number in range(3):
        file = write(tmp_path / f"{number}.array_record", (np.random.default_rng(n).bytes(800) for n in range(1000)))
        addresses.append(bucket.put(Path(file).name, Path(file).read_bytes()))
    code = """
        import sys
        from record_files import source_of
        source = source_of(sys.argv[2:], cache_dir=sys.argv[1], decoder=None)
        print(sum(map(len, source.get_batch_at(0, len(source)))))
        """
    command = [sys.executable, "-c", dedent(code), str(tmp_path / "c"), *addresses]
    env = {**os.environ, "PYTHONPATH": str(Path(record_files.__file__).parent), "JAX_PLATFORMS": "cpu"}
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for _ in range(2)]  # noqa: S603
    assert [process.communicate(timeout=100)[0] for process in pair] == ["2400000\n"] * 2
    ends = [request.range.partition("bytes=0-")[2] for request in bucket.faults.reads()]
    assert sum(int(end or 0) > 500_000 for end in ends) == 3
