"""TFRecord files at addresses, on real servers: the records, states and errors of the same files on this machine."""

import gzip
import pickle
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tfrecords
from flax import nnx
from remote_servers import Bucket
from tfds_records import example

from datarax_core import DataFileError, Pipeline, RecordError
from datarax_core.storage import RangeReader
from datarax_tfds import TFRecordSource, TFRecordSourceConfig
from datarax_tfds.files import tfrecord_objects

FIELDS = {"id": {"dtype": "int64", "shape": []}, "pair": {"dtype": "float32", "shape": [2]}}
DECODER = {"type": "example", "fields": FIELDS}
LENGTHS = (30, 0, 50, 40)
TOTAL = sum(LENGTHS)
Put = Callable[[Path], str]


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of indices."""
    monkeypatch.setenv("DATARAX_CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept" / "tfrecord"


@pytest.fixture(params=["s3", "http"])
def put(request: pytest.FixtureRequest) -> Put:
    """Return a function that puts a file on a server, and returns its address."""
    server = request.getfixturevalue("bucket" if request.param == "s3" else "http_server")
    return lambda path: server.put(f"data/{path.name}", path.read_bytes())


def record_of(number: int) -> bytes:
    return example(id=[number], pair=[number * 0.5, float(number)], text=[b"x" * (number % 7)])


def write_files(folder: Path, *, compress: Any = None) -> list[Path]:
    paths, start = [], 0
    for shard, length in enumerate(LENGTHS):
        path = folder / f"train.tfrecord{'.gz' if compress else ''}-{shard:05d}-of-{len(LENGTHS):05d}"
        numbers = range(start, start + length)
        tfrecords.write(path, map(record_of, numbers))
        if compress:
            path.write_bytes(compress(path.read_bytes()))
        paths.append(path)
        start += length
    return paths


def source_of(paths: Any, **options: Any) -> TFRecordSource:
    rngs = nnx.Rngs(3) if options.get("shuffle") else None
    paths = [str(path) for path in paths] if isinstance(paths, list) else str(paths)
    return TFRecordSource(TFRecordSourceConfig(**{"paths": paths, "decoder": DECODER, **options}), rngs=rngs)


def ids(source: TFRecordSource, indices: Any = None) -> list[int]:
    indices = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
    return np.asarray(source.get_records(indices)["id"]).tolist()


# -- records ------------------------------------------------------------------------------------------------------------


def test_records_and_states_are_those_of_local_files(put: Put, tmp_path: Path) -> None:
    files = write_files(tmp_path)
    here, there = source_of(files, shuffle=True), source_of([put(file) for file in files], shuffle=True)
    assert len(there) == TOTAL
    for indices in ([119, 0, 0, 30, 29, 7], range(TOTAL), []):
        assert ids(there, indices) == list(indices)
    assert there.get_state() == here.get_state()
    first, second = (Pipeline(source=source, batch_size=25, num_epochs=2) for source in (here, there))
    loop = iter(first)
    next(loop), next(loop)
    second.set_state(first.get_state())
    assert [batch["id"].tolist() for batch in second] == [batch["id"].tolist() for batch in loop]


@pytest.mark.parametrize("name", ["data/", "data/*.tfrecord-*", "data/train.tfrecord@4"])
def test_folders_patterns_and_shards_name_objects(put: Put, tmp_path: Path, name: str) -> None:
    addresses = [put(file) for file in write_files(tmp_path)]
    root = addresses[0].partition("/data/")[0]
    assert ids(source_of(f"{root}/{name}")) == list(range(TOTAL))


def test_addresses_and_local_files_are_read_together(bucket: Bucket, tmp_path: Path) -> None:
    files = write_files(tmp_path)
    mixed = [bucket.put("a.tfrecord", files[0].read_bytes()), files[2], bucket.put("b.tfrecord", files[3].read_bytes())]
    source = source_of(mixed)
    assert ids(source, [0, 35, 81, 36, 119, 79, 31]) == [0, 35, 81, 36, 119, 79, 31]


def test_each_object_is_walked_through_once_and_then_known(bucket: Bucket, tmp_path: Path, kept: Path) -> None:
    addresses = [bucket.put(file.name, file.read_bytes()) for file in write_files(tmp_path)]
    source_of(addresses)
    assert len(list(kept.iterdir())) == 4
    bucket.faults.requests.clear()
    source = source_of(addresses)
    assert {request.range for request in bucket.faults.reads()} <= {"bytes=0-11"}  # whether they are compressed
    bucket.faults.requests.clear()
    assert ids(source, [3, 100, 101, 102]) == [3, 100, 101, 102]
    assert len(bucket.faults.requests) == 2  # neighbours are read by one request
    grown = tfrecords.write(tmp_path / "x", [example(id=[n], pair=[0.0, 0.0]) for n in range(60)])
    bucket.put(f"train.tfrecord-00000-of-{len(LENGTHS):05d}", Path(grown).read_bytes())
    assert len(source_of(addresses)) == TOTAL + 30


@pytest.mark.parametrize("piece", [64, 1000, 1 << 20])
@pytest.mark.parametrize("large", [40, 1 << 20])
def test_records_of_any_size_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, large: int) -> None:
    monkeypatch.setattr(tfrecord_objects, "_PIECE", piece)
    monkeypatch.setattr(tfrecord_objects, "_PIECES_AT_ONCE", 2 * piece)
    monkeypatch.setattr(tfrecord_objects, "_LARGE", large)
    sizes = [[0, 5, 100, 64, 10_000, 0, 1, 48, 48, 4000], [], [7] * 300, [20_000, 3, 20_000]]
    paths = [tfrecords.write(tmp_path / f"{number}", [bytes(n) for n in each]) for number, each in enumerate(sizes)]
    reader = RangeReader()
    found = tfrecord_objects.offsets_at_addresses(reader, list(map(str, paths)), reader.stamps(list(map(str, paths))))
    for offsets, each in zip(found, sizes, strict=True):
        assert np.diff(offsets).tolist() == [n + 16 for n in each]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("datarax-tfrecord-index")]


@pytest.mark.parametrize("compress", [gzip.compress])
def test_compressed_objects_are_unpacked_once(put: Put, tmp_path: Path, kept: Path, compress: Any) -> None:
    files = write_files(tmp_path, compress=compress)
    addresses = [put(file) for file in files]
    source = source_of(addresses, shuffle=True)
    copies = set((kept / "unpacked").glob("*-*"))
    for twin in (source, pickle.loads(pickle.dumps(source)), source_of(addresses)):  # noqa: S301 - our own
        assert ids(twin, [119, 0, 31]) == [119, 0, 31]
    assert set((kept / "unpacked").glob("*-*")) == copies
    assert source.get_state() == source_of(files, shuffle=True).get_state()


def test_a_compressed_object_that_is_cut_off_or_damaged_is_named(bucket: Bucket, tmp_path: Path) -> None:
    content = write_files(tmp_path, compress=gzip.compress)[2].read_bytes()
    with pytest.raises(DataFileError, match=r"a.tfrecord.gz is cut off: its compressed data has no end"):
        source_of(bucket.put("a.tfrecord.gz", content[:-20]))
    with pytest.raises(DataFileError, match=r"b.tfrecord.gz is damaged: it does not inflate"):
        source_of(bucket.put("b.tfrecord.gz", content[:40] + bytes(50) + content[90:]))


# -- in use -------------------------------------------------------------------------------------------------------------


def test_pickles_copies_and_threads_read_the_same(bucket: Bucket, tmp_path: Path) -> None:
    source = source_of([bucket.put(file.name, file.read_bytes()) for file in write_files(tmp_path)])
    for twin in (pickle.loads(pickle.dumps(source)), source.copy(), source.clone()):  # noqa: S301 - our own
        assert ids(twin) == list(range(TOTAL))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: ids(source, range(i, TOTAL, 8)), range(8))) == [
            list(range(i, TOTAL, 8)) for i in range(8)
        ]


def test_the_second_epoch_comes_from_the_cache(bucket: Bucket, tmp_path: Path) -> None:
    addresses = [bucket.put(file.name, file.read_bytes()) for file in write_files(tmp_path)]
    options = {"shuffle": True, "cache_dir": str(tmp_path / "cache"), "cache_bytes": "1GiB"}
    source = source_of(addresses, **options)
    bucket.faults.requests.clear()
    pipeline = Pipeline(source=source, batch_size=30, num_epochs=2)
    served = [number for batch in pipeline for number in batch["id"].tolist()]
    assert sorted(served) == sorted([*range(TOTAL), *range(TOTAL)])
    assert not bucket.faults.reads()  # the walk through the files has filled it
    assert f"are read from {bucket.url}" in pipeline.explain()
    assert f"kept in {tmp_path / 'cache'}" in pipeline.explain()


def test_a_config_file_names_addresses(bucket: Bucket, tmp_path: Path) -> None:
    for file in write_files(tmp_path):
        bucket.put(f"data/{file.name}", file.read_bytes())
    (tmp_path / "pipeline.yaml").write_text(
        f"batch_size: 40\nsource:\n  type: tfrecord\n  paths: {bucket.url}/data/train.tfrecord@4\n  decoder: example\n"
        "  cache_dir: cached\n  cache_bytes: 20GiB\n"
    )
    pipeline = Pipeline.from_config(tmp_path / "pipeline.yaml")
    assert [number for batch in pipeline for number in batch["id"].tolist()] == list(range(TOTAL))


def test_many_batches_are_read_at_once_where_answers_are_slow(bucket: Bucket, tmp_path: Path) -> None:
    path = tfrecords.write(tmp_path / "x", [example(id=[n], pair=[0.0, 0.0], text=[bytes(70_000)]) for n in range(60)])
    source = source_of(bucket.put("x.tfrecord", Path(path).read_bytes()), shuffle=True)
    began: list[float] = []
    bucket.faults.delay, bucket.faults.hook = 0.04, lambda _: began.append(time.monotonic())
    pipeline = Pipeline(source=source, batch_size=2)
    assert sorted(number for batch in pipeline for number in batch["id"].tolist()) == list(range(60))
    at_once = [sum(0 <= now - begun < bucket.faults.delay for begun in began) for now in began]
    assert max(at_once) > 2  # the records of one batch


# -- mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"local_files_only": True}, "local_files_only=True forbids 's3://bucket/a.tfrecord'"),
        ({"paths": "hdfs://host/a.tfrecord"}, "hdfs:// is not read"),
        ({"paths": "s3://user:word@host/a.tfrecord"}, "holds credentials"),
        ({"cache_bytes": "1GiB"}, "cache_bytes limits the cache in cache_dir"),
        ({"paths": "a.tfrecord", "storage_options": {"anon": True}}, "storage_options has no use here"),
    ],
)
def test_a_config_that_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TFRecordSourceConfig(**{"paths": "s3://bucket/a.tfrecord", **fields})


def test_what_is_not_there_or_no_tfrecord_file_is_named(put: Put, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no records at all")
    address = put(tmp_path / "x")
    with pytest.raises(DataFileError, match=rf"{re.escape(address)} is no TFRecord file: it begins with b'no recor'"):
        source_of(address)
    with pytest.raises(FileNotFoundError, match=re.escape(f"{address}y")):
        source_of(f"{address}y")
    whole = write_files(tmp_path)[2].read_bytes()
    with pytest.raises(
        DataFileError, match=r"cut.tfrecord is truncated: it ends in record 49, .*; copy the file again"
    ):
        source_of(bucket.put("cut.tfrecord", whole[:-5]))


def test_a_damaged_record_is_named_or_substituted(bucket: Bucket, tmp_path: Path) -> None:
    file = write_files(tmp_path)[2]
    lengths = [len(tfrecords.record(record_of(number))) for number in range(30, 34)]
    tfrecords.flip(file, sum(lengths) + 14)
    address = bucket.put("x.tfrecord", file.read_bytes())
    source = source_of(address)
    assert ids(source, [3, 5]) == [33, 35]
    message = rf"record 4 of {re.escape(address)} cannot be read: its content does not have the checksum"
    with pytest.raises(RecordError, match=message):
        source.get_records(np.arange(10))
    kept = source_of(address, on_error="substitute", quarantine=str(tmp_path / "bad.jsonl"))
    assert ids(kept, [3, 4, 5]) == [33, 35, 35]
    assert address in (tmp_path / "bad.jsonl").read_text()


@pytest.mark.parametrize("change", ["written", "removed"])
def test_an_object_that_changes_while_it_is_read_is_named(bucket: Bucket, tmp_path: Path, change: str) -> None:
    files = write_files(tmp_path)
    source = source_of(bucket.put("x.tfrecord", files[2].read_bytes()), on_error="substitute")
    if change == "written":
        bucket.put("x.tfrecord", files[3].read_bytes())
    else:
        bucket.remove("x.tfrecord")
    with pytest.raises(DataFileError, match=r"x.tfrecord (changed while a source read it|is gone)"):
        source.get_records(np.arange(5))
