"""The example of a third party over addresses, on a real S3 server: the records and states of files on this machine."""

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributions import ROOT
from flax import nnx
from remote_servers import Bucket

from datarax_core import DataFileError, Pipeline

ROWS = 300


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import the example."""
    import sys  # noqa: PLC0415 - the example is imported for these tests alone

    monkeypatch.syspath_prepend(ROOT / "examples/plugins/acme_parquet")
    import acme_parquet  # noqa: PLC0415

    yield acme_parquet
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_parquet"]:
        del sys.modules[name]


def write(folder: Path, *, files: int = 2) -> list[Path]:
    paths = []
    for number in range(files):
        ids = np.arange(number * ROWS, (number + 1) * ROWS)
        table = pa.table({"id": ids, "pixels": list(np.outer(ids, [1.0, 2.0])), "name": [f"n{i}" for i in ids]})
        paths.append(folder / f"part-{number}.parquet")
        pq.write_table(table, paths[-1], row_group_size=50)
    return paths


def open_source(acme: Any, paths: Any, **options: Any) -> Any:
    rngs = nnx.Rngs(2) if options.get("shuffle") else None
    return acme.AcmeParquet(acme.AcmeParquetConfig(paths=paths, **options), rngs=rngs)


def test_rows_and_states_are_those_of_local_files(acme: Any, bucket: Bucket, tmp_path: Path) -> None:
    files = write(tmp_path)
    for file in files:
        bucket.put(f"data/{file.name}", file.read_bytes())
    here = open_source(acme, list(map(str, files)), shuffle=True, shuffle_window=100)
    for paths in (f"{bucket.url}/data", f"{bucket.url}/data/part-*.parquet"):
        there = open_source(acme, paths, shuffle=True, shuffle_window=100, cache_dir=str(tmp_path / "cache"))
        one, other = (Pipeline(source=source, batch_size=64) for source in (there, here))
        for mine, theirs in zip(one, other, strict=True):
            assert mine["id"].tolist() == theirs["id"].tolist()
            assert mine["name"].tolist() == theirs["name"].tolist()
            assert mine["pixels"].tolist() == theirs["pixels"].tolist()
        mine, theirs = there.get_state(), here.get_state()
        theirs["fingerprint"].pop("config", None), mine["fingerprint"].pop("config", None)  # of these, `paths` differ
        assert mine == theirs


def test_only_the_columns_that_are_read_are_fetched_all_at_once(acme: Any, bucket: Bucket, tmp_path: Path) -> None:
    (file,) = write(tmp_path, files=1)
    source = open_source(acme, bucket.put("x.parquet", file.read_bytes()), columns=("id",))
    bucket.faults.requests.clear()
    assert source.get_records(np.array([120, 130]))["id"].tolist() == [120, 130]
    assert len(bucket.faults.reads()) == 1
    with ThreadPoolExecutor(6) as pool:
        parts = list(pool.map(lambda i: source.get_records(np.arange(i, ROWS, 6))["id"].tolist(), range(6)))
    assert parts == [list(range(i, ROWS, 6)) for i in range(6)]
    twin = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own
    assert twin.get_records(np.array([7]))["id"].tolist() == [7]


def test_mistakes_are_named(acme: Any, bucket: Bucket, tmp_path: Path) -> None:
    (file,) = write(tmp_path, files=1)
    address = bucket.put("x.parquet", file.read_bytes())
    source = open_source(acme, address)
    bucket.put("x.parquet", file.read_bytes()[:-1] + b"x")
    with pytest.raises(DataFileError, match=r"x.parquet changed while a source read it"):
        source.get_records(np.arange(3))
    with pytest.raises(DataFileError, match=r"x.parquet is no Parquet file, or is damaged"):
        open_source(acme, address)
    with pytest.raises(FileNotFoundError, match=r"y.parquet"):
        open_source(acme, f"{bucket.url}/y.parquet")
    with pytest.raises(ValueError, match="cache_dir has no use here, where no path is an address"):
        acme.AcmeParquetConfig(paths="x.parquet", cache_dir="kept")
