"""Reads that wait: many at once, against bare threads and Grain; and what looking for waits costs where there are none.

Reads of an object wait by ``time.sleep``. Reads of files wait in a library that is preloaded into a process of its own and
delays ``pread``; it is built here, and files are left out where there is no C compiler.
"""

import ctypes
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grain
import numpy as np
from _measure import Row, against
from flax import nnx

from datarax_core import Pipeline, from_sequence

DELAYS, BATCH, THREADS, RUNS = (0.001, 0.005, 0.020), 64, 16, 9
RECORDS, WIDTH = 8192, 3072
DECODER = {"type": "array", "fields": {"x": {"dtype": "uint8", "shape": [WIDTH]}}}

_DELAYED = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
static void wait_if_slow(int file) {
  const char *part = getenv("DELAYED_FILES"), *microseconds = getenv("DELAY_US");
  char link[64], path[4096];
  if (!part || !microseconds) return;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return;
  path[length] = 0;
  if (strstr(path, part)) usleep(atoi(microseconds));
}
#define DELAYED(name, offset_type) \
  ssize_t name(int file, void *buffer, size_t size, offset_type offset) { \
    static ssize_t (*real)(int, void *, size_t, offset_type); \
    if (!real) real = dlsym(RTLD_NEXT, #name); \
    wait_if_slow(file); \
    return real(file, buffer, size, offset); \
  }
DELAYED(pread, off_t)
DELAYED(pread64, off64_t)
"""


def rows() -> list[Row]:
    """Measure an object that waits, files that wait, and sources that do not."""
    return [*_objects(), *_files(), *_without_waits()]


# -- objects ----------------------------------------------------------------------------------------------------------------


class _Slow:
    """Records that are waited for."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return RECORDS

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.seconds:
            time.sleep(self.seconds)
        return {"x": np.full(64, index, np.float32), "y": index}


def _objects() -> Iterator[Row]:
    for delay in DELAYS:
        records = BATCH * max(16, int(0.4 / delay / BATCH) * THREADS)  # about half a second
        data, what = _Slow(delay), f"from_sequence, {delay * 1e3:.0f} ms a read"
        with ThreadPoolExecutor(THREADS) as pool:
            rows = np.arange(records) % RECORDS
            yield against(
                lambda pool=pool, data=data, rows=rows: deque(pool.map(data.__getitem__, rows.tolist()), maxlen=0),
                _served(
                    Pipeline(source=from_sequence(data), batch_size=BATCH, num_epochs=None, threads=THREADS), records
                ),
                records=records,
                what=f"{what}, {THREADS} threads: bare threads",
                target=0.9,
                runs=RUNS,
            )
        yield against(
            _grain(grain.MapDataset.source(data), records),
            _served(Pipeline(source=from_sequence(data), batch_size=BATCH, num_epochs=None), records),
            records=records,
            what=f"{what}, threads='auto': Grain's defaults",
            target=1.5,
            runs=RUNS,
        )


def _served(pipeline: Pipeline, records: int) -> Callable[[], object]:
    """Return a function that takes records from a new loop over a pipeline, which has found its number of threads before."""
    _take(iter(pipeline), 100)
    return lambda: _take(iter(pipeline), records // BATCH)


def _grain(data_set: Any, records: int) -> Callable[[], object]:
    batches = data_set.seed(0).shuffle().repeat().to_iter_dataset().batch(BATCH)
    return lambda: _take(iter(batches), records // BATCH)


def _take(loop: Any, batches: int) -> None:
    """Take batches of a loop, and drop what it has read ahead: nobody gains from what was read while another was measured."""
    deque((next(loop) for _ in range(batches)), maxlen=0)
    loop.close()


# -- files ------------------------------------------------------------------------------------------------------------------


def _files() -> list[Row]:
    """Measure files in a process in which reads of them are delayed."""
    if (compiler := shutil.which("cc")) is None:
        return []
    with tempfile.TemporaryDirectory(prefix="delayed-files-") as folder:
        code, library = Path(folder, "delayed.c"), Path(folder, "delayed.so")
        code.write_text(_DELAYED)
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, code, "-ldl"], check=True)  # noqa: S603 - ours
        delayed = {"LD_PRELOAD": str(library), "DELAYED_FILES": "delayed-files-"}
        found = subprocess.run(  # noqa: S603 - this script
            [sys.executable, __file__, folder],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **delayed},
        )
        return [Row(**row) for row in json.loads(found.stdout.splitlines()[-1])]


def _delay(seconds: float) -> None:
    ctypes.CDLL(None).setenv(b"DELAY_US", str(int(seconds * 1e6)).encode(), 1)


def _delayed_rows(folder: str) -> Iterator[Row]:
    _delay(0)
    array_records = _write_array_records(Path(folder))
    tfrecord, offsets = _write_tfrecord(Path(folder))
    for delay in DELAYS:
        records = BATCH * max(32, int(1.2 / delay / 8))
        what = f"{delay * 1e3:.0f} ms a read"
        _delay(0)
        bare = _bare_lists(array_records, records)
        source = _array_record_source(array_records)
        _delay(delay)
        pipeline = Pipeline(source=source, batch_size=BATCH, num_epochs=None, threads=THREADS)
        yield against(
            bare,
            _served(pipeline, records),
            records=records,
            what=f"ArrayRecord, {what}, {THREADS} threads: bare read([...])",
            target=0.9,
            runs=RUNS,
        )
        pipeline.close()
        pipeline = Pipeline(source=source, batch_size=BATCH, num_epochs=None)
        yield against(
            _grain(grain.MapDataset.source(grain.sources.ArrayRecordDataSource(array_records)), records),
            _served(pipeline, records),
            records=records,
            what=f"ArrayRecord, {what}, threads='auto': Grain's defaults",
            target=1.5,
            runs=RUNS,
        )
        pipeline.close()
        pipeline = Pipeline(source=_tfrecord_source(tfrecord), batch_size=BATCH, num_epochs=None, threads=THREADS)
        records = BATCH * max(16, int(0.4 / delay / BATCH) * THREADS)
        yield against(
            _bare_preads(tfrecord, offsets, records),
            _served(pipeline, records),
            records=records,
            what=f"TFRecord, {what}, {THREADS} threads: bare pread",
            target=0.9,
            runs=RUNS,
        )
        pipeline.close()


def _write_array_records(folder: Path) -> list[str]:
    from array_record.python.array_record_module import ArrayRecordWriter

    path = str(folder / "x.array_record")
    writer = ArrayRecordWriter(path, "group_size:1")
    for record in _contents():
        writer.write(record)
    writer.close()
    return [path]


def _contents() -> Iterator[bytes]:
    images = np.random.default_rng(0).integers(0, 64, (256, WIDTH), np.uint8)
    return (images[number % 256].tobytes() for number in range(RECORDS))


def _write_tfrecord(folder: Path) -> tuple[str, np.ndarray]:
    from google_crc32c import value

    def masked(content: bytes) -> bytes:
        checksum = value(content)
        return struct.pack("<I", (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    path, offsets = folder / "x.tfrecord", [0]
    with path.open("wb") as file:
        for record in _contents():
            length = struct.pack("<Q", len(record))
            file.write(length + masked(length) + record + masked(record))
            offsets.append(file.tell())
    return str(path), np.array(offsets)


def _array_record_source(paths: list[str]) -> Any:
    from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule

    config = ArrayRecordSourceConfig(decoder=DECODER, shuffle=True)
    return ArrayRecordSourceModule(config, paths, rngs=nnx.Rngs(0))


def _tfrecord_source(path: str) -> Any:
    from datarax_tfds import TFRecordSource, TFRecordSourceConfig

    return TFRecordSource(TFRecordSourceConfig(paths=path, decoder=DECODER, shuffle=True), rngs=nnx.Rngs(0))


def _bare_lists(paths: list[str], records: int) -> Callable[[], object]:
    """Return a function that reads lists of shuffled records on threads, each of which has a reader of its own."""
    from array_record.python.array_record_module import ArrayRecordReader

    readers: SimpleQueue[Any] = SimpleQueue()
    for _ in range(THREADS):
        readers.put(
            ArrayRecordReader(
                paths[0], options="readahead_buffer_size:0,max_parallelism:0", file_reader_buffer_size=4096
            )
        )
    pool, random = ThreadPoolExecutor(THREADS), np.random.default_rng(0)

    def read(rows: list[int]) -> Any:
        reader = readers.get()
        try:
            return reader.read(rows)
        finally:
            readers.put(reader)

    work = [random.integers(0, RECORDS, BATCH).tolist() for _ in range(records // BATCH)]
    return lambda: deque(pool.map(read, work), maxlen=0)


def _bare_preads(path: str, offsets: np.ndarray, records: int) -> Callable[[], object]:
    file, pool = os.open(path, os.O_RDONLY), ThreadPoolExecutor(THREADS)
    rows = np.random.default_rng(0).integers(0, RECORDS, records).tolist()
    sizes = np.diff(offsets)
    return lambda: deque(pool.map(lambda row: os.pread(file, int(sizes[row]), int(offsets[row])), rows), maxlen=0)


# -- without waits ----------------------------------------------------------------------------------------------------------


def _without_waits() -> Iterator[Row]:
    """Measure the defaults against one thread and two batches ahead, as they were."""
    with tempfile.TemporaryDirectory() as folder:
        tfrecord, _ = _write_tfrecord(Path(folder))
        sources = {
            "from_sequence": from_sequence([_Slow(0)[number] for number in range(RECORDS)]),
            "ArrayRecord": _array_record_source(_write_array_records(Path(folder))),
            "TFRecord": _tfrecord_source(tfrecord),
        }
        for name, source in sources.items():
            records = BATCH * 400
            before = Pipeline(source=source.clone(), batch_size=BATCH, num_epochs=None, threads=1, prefetch=2)
            now = Pipeline(source=source.clone(), batch_size=BATCH, num_epochs=None, prefetch=2)
            yield against(
                _served(before, records),
                _served(now, records),
                records=records,
                what=f"{name} without waits, threads='auto': one thread",
                target=0.95,
                runs=RUNS,
            )


if __name__ == "__main__":
    print(json.dumps([asdict(row) for row in _delayed_rows(sys.argv[1])]))
