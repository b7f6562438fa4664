"""Columns at addresses, on real servers: the records, states and errors of the same files on this machine."""

import io
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from remote_servers import Bucket

from datarax_core import DataFileError, Pipeline, Ragged
from datarax_memory import MemorySource, MemorySourceConfig, objects
from datarax_memory.file_columns import StoredColumns
from datarax_memory.stored import StoredArray, StoredRagged

RECORDS = 200
RANDOM = np.random.default_rng(7)
LENGTHS = RANDOM.integers(0, 9, RECORDS)
OFFSETS = np.concatenate([[0], np.cumsum(LENGTHS)])
SIZES = RANDOM.integers(1, 4, (RECORDS, 2))
COLUMNS = {
    "image": RANDOM.integers(0, 256, (RECORDS, 6, 5), np.uint8),
    "label": np.arange(RECORDS, dtype=np.int64),
    "name": np.array([f"name {n}" for n in range(RECORDS)]),
    "big": np.arange(RECORDS, dtype=">i4"),
    "by_column": np.asfortranarray(RANDOM.random((RECORDS, 3))),
    "tokens": RANDOM.integers(0, 99, OFFSETS[-1], np.int32),
    "tokens.offsets": OFFSETS,
    "picture": RANDOM.integers(0, 256, (int(SIZES.prod(1).sum()), 2), np.uint8),
    "picture.offsets": np.concatenate([[0], np.cumsum(SIZES.prod(1))]),
    "picture.shapes": SIZES,
}
Put = Callable[[Path], str]


def archive(path: Path, columns: Any = None, *, compressed: bool = False) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **(COLUMNS if columns is None else columns))
    return path


def folder(path: Path, columns: Any = None) -> Path:
    path.mkdir()
    for name, array in (COLUMNS if columns is None else columns).items():
        np.save(path / f"{name}.npy", array)
    return path


def put_all(server: Any, path: Path) -> str:
    """Put a file, or the files of a folder, on a server, and return the address."""
    if path.is_dir():
        for file in path.iterdir():
            server.put(f"{path.name}/{file.name}", file.read_bytes())
        return f"{server.url}/{path.name}"
    return str(server.put(path.name, path.read_bytes()))


@pytest.fixture(params=["s3", "http"])
def put(request: pytest.FixtureRequest) -> Put:
    """Return a function that puts a file or a folder on a server, and returns its address."""
    server = request.getfixturevalue("bucket" if request.param == "s3" else "http_server")
    return lambda path: put_all(server, path)


def open_source(path: Any, **options: Any) -> MemorySource:
    rngs = nnx.Rngs(3) if options.get("shuffle") else None
    return MemorySource(MemorySourceConfig(path=str(path), **options), rngs=rngs)


def require_same(one: Any, other: Any) -> None:
    assert list(one) == list(other)
    for name, column in one.items():
        assert type(column) is type(other[name])
        assert column.dtype == other[name].dtype
        assert column == other[name] if isinstance(column, Ragged) else np.array_equal(column, other[name])


# -- records ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["archive", "compressed", "folder"])
@pytest.mark.parametrize("placement", ["host", "auto"])
def test_records_and_states_are_those_of_local_files(put: Put, tmp_path: Path, kind: str, placement: str) -> None:
    local = (
        folder(tmp_path / "data") if kind == "folder" else archive(tmp_path / "a.npz", compressed=kind == "compressed")
    )
    here, there = (
        open_source(local, shuffle=True, placement=placement),
        open_source(put(local), shuffle=True, placement=placement),
    )
    assert there.element_spec() == here.element_spec()
    for indices in ([5], [199, 0, 0, 7, 199], list(range(200)), []):
        require_same(there.fetch_on_host(np.array(indices, np.int64)), here.fetch_on_host(np.array(indices, np.int64)))
    require_same(there[17], here[17])
    for one, other in zip(islice(there, 5), islice(here, 5), strict=True):
        require_same(one, other)
    assert there.get_state() == here.get_state()
    assert there.record_lengths("tokens").tolist() == LENGTHS.tolist()
    is_stored = placement == "host" and kind != "compressed"
    assert isinstance(there.columns, StoredColumns) == is_stored
    assert there.access == ("host" if placement == "host" else here.access)


def test_only_the_rows_that_are_asked_for_are_fetched(bucket: Bucket, tmp_path: Path) -> None:
    columns = {"x": RANDOM.integers(0, 256, (4000, 2000), np.uint8), "y": np.arange(4000)}
    there = open_source(put_all(bucket, archive(tmp_path / "a.npz", columns)), placement="host")
    bucket.faults.requests.clear()
    batch = there.get_records(np.array([0, 3999, 2000, 1999]))
    assert batch["y"].tolist() == [0, 3999, 2000, 1999]
    assert np.array_equal(batch["x"], columns["x"][[0, 3999, 2000, 1999]])
    spans = [re.fullmatch(r"bytes=(\d+)-(\d+)", request.range) for request in bucket.faults.reads()]
    assert sum(int(found[2]) - int(found[1]) + 1 for found in spans if found) < 200_000
    assert len(spans) <= 4


def test_small_columns_are_read_at_once_and_then_placed_as_data_in_memory(bucket: Bucket, tmp_path: Path) -> None:
    columns = {"x": np.arange(50, dtype=np.float32).reshape(25, 2)}
    there = open_source(put_all(bucket, archive(tmp_path / "a.npz", columns)))
    bucket.faults.requests.clear()
    assert there.access == "device"
    assert "All columns were read from s3://" in Pipeline(source=there, batch_size=5).explain()
    assert (
        np.concatenate([batch["x"] for batch in Pipeline(source=there, batch_size=5)]).tolist() == columns["x"].tolist()
    )
    assert not bucket.faults.requests


def test_large_columns_are_read_by_rows_unless_they_are_to_be_kept(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "IN_MEMORY_BYTES", 100)
    address = put_all(bucket, archive(tmp_path / "a.npz", {"x": np.arange(50.0).reshape(25, 2)}))
    there = open_source(address)
    assert isinstance(there.data["x"], StoredArray)
    assert np.array_equal(np.asarray(there.data["x"]), np.arange(50.0).reshape(25, 2))
    explained = Pipeline(source=there, batch_size=5).explain()
    assert f"Rows of x (0.0 MiB) are read from {address} whenever they are asked for" in explained
    for fields in ({"cacheable": True}, {"placement": "device"}):
        assert isinstance(open_source(address, **fields).data["x"], np.ndarray)


def test_columns_are_chosen_and_renamed(put: Put, tmp_path: Path) -> None:
    for local in (archive(tmp_path / "a.npz"), folder(tmp_path / "data")):
        there = open_source(put(local), columns={"words": "tokens", "label": "label"}, placement="host")
        batch = there.get_records(np.array([3, 1]))
        assert list(batch) == ["words", "label"]
        assert batch["words"].tolist() == [COLUMNS["tokens"][OFFSETS[i] : OFFSETS[i + 1]].tolist() for i in (3, 1)]


def test_stored_columns_are_indexed_as_arrays_are(bucket: Bucket, tmp_path: Path) -> None:
    data = open_source(put_all(bucket, archive(tmp_path / "a.npz")), placement="host").data
    image, tokens = data["image"], data["tokens"]
    assert isinstance(image, StoredArray)
    assert isinstance(tokens, StoredRagged)
    for index in (3, -1, slice(5, 50, 7), np.array([1, 199]), np.arange(RECORDS) % 9 == 0, [4, -2]):
        assert np.array_equal(image[index], COLUMNS["image"][index])
    assert tokens[-1].tolist() == COLUMNS["tokens"][OFFSETS[-2] :].tolist()
    assert [row.tolist() for row in tokens[2:4]] == [
        COLUMNS["tokens"][OFFSETS[i] : OFFSETS[i + 1]].tolist() for i in (2, 3)
    ]
    with pytest.raises(IndexError, match="row 200 is out of range: there are 200"):
        image[200]
    with pytest.raises(TypeError, match="rows are chosen by numbers, a slice, or a mask, not by <U1"):
        image["x"]


# -- in use -------------------------------------------------------------------------------------------------------------

NUMBERS = {"x": np.arange(600, dtype=np.int32).reshape(200, 3), "y": np.arange(200, dtype=np.int32)}


def test_loop_step_and_scan_serve_the_same_and_resume(bucket: Bucket, tmp_path: Path) -> None:
    local = archive(tmp_path / "a.npz", NUMBERS)
    address = put_all(bucket, local)

    def pipeline(path: Any) -> Pipeline:
        return Pipeline(source=open_source(path, shuffle=True, placement="host"), batch_size=30, num_epochs=2)

    here, there = list(pipeline(local)), list(pipeline(address))
    for one, other in zip(there, here, strict=True):
        require_same(one, other)
    stepped = pipeline(address)
    assert np.array_equal(stepped.step()["y"], here[0]["y"])
    scanned = pipeline(address).scan(lambda batch: batch["x"].sum(), length=3)
    assert scanned.tolist() == [int(batch["x"].sum()) for batch in here[:3]]
    for saved_at, resumed_at in ((local, address), (address, local)):
        first, second = pipeline(saved_at), pipeline(resumed_at)
        loop = iter(first)
        next(loop), next(loop)
        second.set_state(first.get_state())
        for one, other in zip(second, here[2:], strict=True):
            require_same(one, other)


def test_pickles_copies_threads_and_processes_read_the_same(bucket: Bucket, tmp_path: Path) -> None:
    address = put_all(bucket, archive(tmp_path / "a.npz"))
    source = open_source(address, shuffle=True, placement="host")
    whole = source.fetch_on_host(np.arange(RECORDS))
    for twin in (pickle.loads(pickle.dumps(source)), source.copy(), source.clone()):  # noqa: S301 - our own
        require_same(twin.fetch_on_host(np.arange(RECORDS)), whole)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda i: source.fetch_on_host(np.arange(i, RECORDS, 8)), range(8)))
    for number, part in enumerate(parts):
        assert np.array_equal(part["label"], np.arange(number, RECORDS, 8))
        assert np.array_equal(part["image"], COLUMNS["image"][number::8])


def test_worker_processes_read_at_addresses(bucket: Bucket, tmp_path: Path) -> None:
    address = put_all(bucket, archive(tmp_path / "a.npz", NUMBERS))
    pipeline = Pipeline(source=open_source(address, placement="host"), batch_size=50, workers=2)
    assert [row for batch in pipeline for row in np.asarray(batch["y"]).tolist()] == list(range(200))
    pipeline.close()


def test_the_second_epoch_comes_from_the_cache(bucket: Bucket, tmp_path: Path) -> None:
    address = put_all(bucket, archive(tmp_path / "a.npz"))
    for _ in range(2):
        source = open_source(address, placement="host", cache_dir=str(tmp_path / "cache"), cache_bytes="1GiB")
        bucket.faults.requests.clear()
        for _ in range(2):
            assert np.array_equal(source.fetch_on_host(np.arange(RECORDS))["image"], COLUMNS["image"])
    assert not bucket.faults.reads()
    assert f"and kept in {tmp_path / 'cache'}" in Pipeline(source=source, batch_size=5).explain()


def test_a_config_file_names_an_address(bucket: Bucket, tmp_path: Path) -> None:
    address = put_all(bucket, archive(tmp_path / "a.npz", NUMBERS))
    (tmp_path / "pipeline.yaml").write_text(
        f"batch_size: 100\nsource:\n  type: memory\n  path: {address}\n  placement: host\n  cache_dir: kept\n"
        "  cache_bytes: 1GiB\n  storage_options: {anon: false}\n"
    )
    pipeline = Pipeline.from_config(tmp_path / "pipeline.yaml")
    assert pipeline.source.config.cache_dir == str(tmp_path / "kept")
    assert [row for batch in pipeline for row in np.asarray(batch["y"]).tolist()] == list(range(200))
    assert address in repr(pipeline.source)


def test_compiled_code_of_a_user_reads_by_callback(bucket: Bucket, tmp_path: Path) -> None:
    source = open_source(put_all(bucket, archive(tmp_path / "a.npz", NUMBERS)), placement="host")
    read = jax.jit(lambda start: source.get_batch_at(start, 4)["y"])
    assert read(np.int32(7)).tolist() == [7, 8, 9, 10]


# -- mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "s3://bucket/a.npz", "local_files_only": True}, "local_files_only=True forbids 's3://bucket/a.npz'"),
        ({"path": "hdfs://host/a.npz"}, "hdfs:// is not read"),
        ({"path": "s3://user:word@host/a.npz"}, "holds credentials"),
        ({"path": "s3://bucket/a.npz", "cache_bytes": "1GiB"}, "cache_bytes limits the cache in cache_dir"),
        ({"path": "s3://bucket/a.npz", "storage_options": {"secret": "x"}}, "secret.* credentials"),
        ({"cache_dir": "kept"}, "cache_dir has no use here, where no path is an address"),
        ({"path": "a.npz", "cache_dir": "kept"}, "cache_dir has no use here, where no path is an address"),
    ],
)
def test_a_config_that_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemorySourceConfig(**fields)


def test_what_is_not_there_is_named(put: Put, tmp_path: Path) -> None:
    address = put(archive(tmp_path / "a.npz", NUMBERS))
    with pytest.raises(FileNotFoundError, match=re.escape(f"{address}x.npz")):
        open_source(f"{address}x.npz")
    empty = put(folder(tmp_path / "other", {}))
    put(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError, match=r"other has no .npy object|no such"):
        open_source(empty)
    with pytest.raises(DataFileError, match=r"columns names 'z', which .*a.npz does not have; it has 'x', 'y'"):
        open_source(address, columns=["z"])


CONTENTS = {
    "no archive": (b"no archive at all", "a.npz is not an .npz object, or its end is missing"),
    "cut off": ("cut", "a.npz is not an .npz object, or its end is missing"),
    "objects": ({"x": np.array([{}, {}])}, "'x' in .* cannot be loaded: .*Object arrays"),
    "lengths": ({"x": np.arange(3), "y": np.arange(2)}, "are no columns of one length: 'x' has 3, 'y' has 2"),
    "offsets": ({"x": np.arange(3), "x.offsets": np.array([0, 9])}, "'x' in .* does not fit its offsets"),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("placement", ["host", "device"])
def test_what_is_no_data_is_named(bucket: Bucket, tmp_path: Path, name: str, placement: str) -> None:
    content, message = CONTENTS[name]
    if isinstance(content, dict):
        content = archive(tmp_path / "a.npz", content).read_bytes()
    elif content == "cut":
        content = archive(tmp_path / "a.npz", NUMBERS).read_bytes()[:-30]
    with pytest.raises(DataFileError, match=message):
        open_source(bucket.put("a.npz", content), placement=placement)


def test_a_single_array_and_a_shard_are_refused(bucket: Bucket) -> None:
    raw = io.BytesIO()
    np.save(raw, np.arange(3))
    with pytest.raises(DataFileError, match=r"x.npy is a single .npy object, whose field has no name; give the folder"):
        open_source(bucket.put("data/x.npy", raw.getvalue()))
    bucket.put("shards/x-00000-of-00002.npy", raw.getvalue())
    with pytest.raises(DataFileError, match=r"holds shards, such as x-00000-of-00002.npy"):
        open_source(f"{bucket.url}/shards")
    bucket.put("damaged/x.npy", raw.getvalue()[:-1])
    with pytest.raises(DataFileError, match=r"x.npy cannot be loaded: its header declares 24 bytes, .* and 23 follow"):
        open_source(f"{bucket.url}/damaged")


def test_damage_is_found_where_all_is_read_and_by_a_verification(bucket: Bucket, tmp_path: Path) -> None:
    numbers = np.arange(20_000)
    content = bytearray(archive(tmp_path / "a.npz", {"x": numbers}).read_bytes())
    at = content.index(numbers.tobytes())
    content[at + 50] ^= 1
    address = bucket.put("a.npz", bytes(content))
    damaged = r"'x' in s3://.*a.npz is damaged: its content differs from its checksum; restore the object"
    with pytest.raises(DataFileError, match=damaged):
        open_source(address, placement="device")
    source = open_source(address, placement="host")
    with pytest.raises(DataFileError, match=damaged):
        source.verify_records(np.arange(3))


@pytest.mark.parametrize("change", ["written", "removed"])
def test_an_object_that_changes_while_it_is_read_is_named(bucket: Bucket, tmp_path: Path, change: str) -> None:
    source = open_source(put_all(bucket, archive(tmp_path / "a.npz", NUMBERS)), placement="host")
    if change == "written":
        archive(tmp_path / "a.npz", {name: column + 1 for name, column in NUMBERS.items()})
        bucket.put("a.npz", (tmp_path / "a.npz").read_bytes())
    else:
        bucket.remove("a.npz")
    with pytest.raises(DataFileError, match=r"a.npz (changed while a source read it|is gone)"):
        source.get_records(np.arange(5))


def test_what_the_store_refuses_is_named_without_credentials(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = put_all(bucket, archive(tmp_path / "a.npz", NUMBERS))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone-else")
    with pytest.raises(PermissionError, match=r"a\.npz") as refused:
        open_source(address)
    assert "loopback-hidden" not in str(refused.value)


def test_text_that_is_damaged_is_named(bucket: Bucket, tmp_path: Path) -> None:
    texts = np.array(["a", "b", "c"])
    texts.view(np.uint32)[1] = 0x110000
    source = open_source(put_all(bucket, archive(tmp_path / "a.npz", {"t": texts})), placement="host")
    with pytest.raises(ValueError, match=r"record 1 of s3://.*a.npz cannot be read: field 't' is damaged text"):
        source.get_records(np.arange(3))
    assert source.get_records(np.array([0, 2]))["t"].tolist() == ["a", "c"]
