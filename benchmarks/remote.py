"""Records at addresses, 20 ms an answer: against bare concurrent ranges of fsspec; from the cache against local files.

The reference reads the same ranges as one `cat_ranges` of s3fs, as many at once as it likes, on as many connections; the loop
also checks, decodes and hands over batches. The server of `_object_server` and the clients share the cores.
Arrays on this machine are mapped into memory, and rows of 3 KB in the cache are read by a call each (1.5 us, against 0.4):
the limit of their second epoch, which mapping the files of the cache would lift.
"""

import struct
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _measure import LEAST, Row, against
from _object_server import served
from flax import nnx

from datarax_core import Pipeline

SECONDS, WIDTH, FILES, RECORDS, BATCH, BATCHES = 0.020, 3072, 4, 8_000, 64, 8
DECODER = {"type": "array", "fields": {"x": {"dtype": "uint8", "shape": [WIDTH]}}}


def rows() -> list[Row]:
    """Measure TFRecord files and NumPy arrays, from the store and from the cache."""
    with tempfile.TemporaryDirectory(prefix="benchmark-remote-") as folder, _cache_folder(Path(folder, "indices")):
        root = Path(folder, "served", "bucket")
        root.mkdir(parents=True)
        tfrecords, offsets = _write_tfrecords(root)
        np.savez(root / "x.npz", x=np.random.default_rng(0).integers(0, 64, (RECORDS, WIDTH), np.uint8))
        with served(Path(folder, "served"), SECONDS):
            return [
                *_rows(
                    "TFRecord",
                    lambda **options: _tfrecord_source(tfrecords, **options),
                    _tfrecord_ranges(offsets),
                    folder,
                ),
                *_rows(
                    "memory, an .npz", lambda **options: _memory_source(root / "x.npz", **options), _npz_ranges, folder
                ),
            ]


def _rows(what: str, open_source: Callable[..., Any], ranges: Callable[..., Any], folder: str) -> Iterator[Row]:
    chosen = np.sort(np.random.default_rng(1).choice(RECORDS, BATCHES * BATCH, replace=False))
    sources = {
        "store": open_source()[chosen],  # a whole epoch of them: nothing is read ahead in vain
        "kept": (kept := open_source(cache_dir=f"{folder}/cache")),
        "local": open_source(is_local=True),
    }
    pipelines = {name: Pipeline(source=source, batch_size=BATCH) for name, source in sources.items()}
    for batch in Pipeline(source=kept.clone(), batch_size=1000):  # the first epoch
        del batch
    yield against(
        _bare(chosen, ranges),
        _epoch(pipelines["store"]),
        records=BATCHES * BATCH,
        what=f"{what}, {SECONDS * 1e3:.0f} ms an answer: bare cat_ranges",
        target=0.8,
        runs=LEAST,
    )
    yield against(
        _epoch(pipelines["local"]),
        _epoch(pipelines["kept"]),
        records=RECORDS,
        what=f"{what}, second epoch from the cache: local files",
        target=0.8,
        runs=LEAST,
    )
    for pipeline in pipelines.values():
        pipeline.close()


def _epoch(pipeline: Pipeline) -> Callable[[], object]:
    """Return a function that serves an epoch of a pipeline, which has found how many threads pay."""

    def serve() -> None:
        deque(pipeline, maxlen=0)

    serve()
    return serve


def _bare(chosen: np.ndarray, ranges: Callable[..., Any]) -> Callable[[], object]:
    """Return a function that reads the ranges of these records in a shuffled order."""
    import s3fs

    system, rng = (
        s3fs.S3FileSystem(config_kwargs={"max_pool_connections": 64}),
        np.random.default_rng(2),
    )  # 10 by default

    def read() -> None:
        paths, starts, ends = ranges(rng.permutation(chosen))
        system.cat_ranges(paths, starts.tolist(), ends.tolist())

    return read


def _cache_folder(folder: Path) -> Any:
    """Return a context in which indices of TFRecord files are kept in this folder."""
    from unittest.mock import patch

    return patch.dict("os.environ", {"DATARAX_CACHE_DIR": str(folder)})


def _write_tfrecords(folder: Path) -> tuple[list[str], np.ndarray]:
    """Write files; return their paths, and the offset of each record in its file, int64 (files, records + 1)."""
    from google_crc32c import value

    def masked(content: bytes) -> bytes:
        checksum = value(content)
        return struct.pack("<I", (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    images = np.random.default_rng(0).integers(0, 64, (256, WIDTH), np.uint8)
    length = struct.pack("<Q", WIDTH)
    records = [length + masked(length) + image.tobytes() + masked(image.tobytes()) for image in images]
    of_file = RECORDS // FILES
    for number in range(FILES):
        (folder / f"x-{number}.tfrecord").write_bytes(b"".join(records[row % 256] for row in range(of_file)))
    offsets = np.arange(of_file + 1) * len(records[0])
    return [str(folder / f"x-{number}.tfrecord") for number in range(FILES)], np.tile(offsets, (FILES, 1))


def _address(path: str) -> str:
    return f"s3://bucket/{Path(path).name}"


def _tfrecord_source(paths: list[str], *, is_local: bool = False, **options: Any) -> Any:
    from datarax_tfds import TFRecordSource, TFRecordSourceConfig

    paths = paths if is_local else list(map(_address, paths))
    config = TFRecordSourceConfig(paths=paths, decoder=DECODER, shuffle=True, **options)
    return TFRecordSource(config, rngs=nnx.Rngs(0))


def _memory_source(path: Path, *, is_local: bool = False, **options: Any) -> Any:
    from datarax_memory import MemorySource, MemorySourceConfig

    named = str(path) if is_local else _address(str(path))
    return MemorySource(MemorySourceConfig(path=named, placement="host", shuffle=True, **options), rngs=nnx.Rngs(0))


def _tfrecord_ranges(offsets: np.ndarray) -> Callable[[np.ndarray], tuple[list[str], np.ndarray, np.ndarray]]:
    def ranges(indices: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
        files, places = np.divmod(indices, RECORDS // FILES)
        return [f"bucket/x-{file}.tfrecord" for file in files], offsets[files, places], offsets[files, places + 1]

    return ranges


def _npz_ranges(indices: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
    starts = 200 + np.asarray(indices) * WIDTH
    return ["bucket/x.npz"] * len(starts), starts, starts + WIDTH
