"""Speed of prepared TFDS data sets, loaded whole and streamed without TensorFlow, against TFDS's own readers."""

import json
import os
import struct
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import google_crc32c
import numpy as np
from _measure import LEAST, Row, against, limited, paired, resident_mib, row, seconds, timed

RECORDS, BATCH, SHARDS = 8_000, 256, 4
KINDS = ("png", "raw")
FORMATS = ("tfrecord", "array_record")
INDEX_BYTES, RECORD_BYTES = 1 << 30, (3072, 300)


def rows() -> list[Row]:
    """Measure eager loads, streams, the index of a large file, and memory; TensorFlow runs in its own process."""
    found = []
    with tempfile.TemporaryDirectory() as folder, _cache_in(folder):
        subprocess.run([sys.executable, __file__, "write", folder], check=True, capture_output=True)  # noqa: S603
        for kind in KINDS:
            found += _eager(folder, kind)
        for kind in KINDS:
            found += _streams(folder, kind)
        found += [_by_tensorflow(folder, kind) for kind in KINDS]
        for kind in KINDS:
            found.append(_iteration(folder, kind))
        for size in RECORD_BYTES:
            found += _index(Path(folder, f"records-of-{size}"), size)
        found += [_memory(folder, kind) for kind in KINDS]
    return found


def _data_dir(folder: str, file_format: str) -> str:
    return str(Path(folder, file_format))


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """Keep indices in the folder of the data set, so that they are deleted with it."""
    os.environ["DATARAX_CACHE_DIR"] = str(Path(folder, "cache"))
    yield
    del os.environ["DATARAX_CACHE_DIR"]


# -- eager ---------------------------------------------------------------------------------------------------------------


def _eager(folder: str, kind: str) -> Iterator[Row]:
    import tensorflow_datasets

    path = Path(_data_dir(folder, "array_record"), kind, "1.0.0")
    records = tensorflow_datasets.builder_from_directory(path).as_data_source("train")
    whole = list(range(RECORDS))
    for file_format in FORMATS:
        yield against(
            lambda: records.__getitems__(whole),
            lambda: _load(folder, file_format, kind),  # noqa: B023 - called at once
            records=RECORDS,
            what=f"eager, {kind}, {file_format}: against as_data_source's __getitems__",
            target=8 if kind == "png" else 3,
            runs=LEAST,
        )
    few, many = RECORDS // 8, RECORDS
    _load(folder, "tfrecord", kind)
    pairs = paired(*(timed(lambda count=count: _load(folder, "tfrecord", kind, count)) for count in (few, many)), LEAST)
    ratios = [(large / many) / (small / few) for small, large in pairs]
    yield row(f"eager, {kind}: time a record, {many} of them against {few}", ratios, 1.2, "at most")


def _load(folder: str, file_format: str, kind: str, records: int = RECORDS) -> Any:
    from datarax_tfds import TFDSEagerConfig, TFDSEagerSource

    data_dir = _data_dir(folder, file_format)
    config = TFDSEagerConfig(name=kind, split=f"train[:{records}]", data_dir=data_dir, placement="host")
    return TFDSEagerSource(config)


def _iteration(folder: str, kind: str) -> Row:
    """Measure shuffled batches through a pipeline, of the eager source and of a memory source over the same arrays."""
    from flax import nnx

    from datarax_core import Pipeline
    from datarax_memory import MemorySource, MemorySourceConfig
    from datarax_tfds import TFDSEagerConfig, TFDSEagerSource

    data_dir = _data_dir(folder, "tfrecord")
    config = TFDSEagerConfig(name=kind, split="train", data_dir=data_dir, placement="host", shuffle=True)
    eager = TFDSEagerSource(config, rngs=nnx.Rngs(0))
    settings = MemorySourceConfig(placement="host", shuffle=True)
    memory = MemorySource(settings, eager.data, rngs=nnx.Rngs(0))

    def served(source: Any) -> Callable[[], object]:
        pipeline = Pipeline(source=source, batch_size=BATCH)
        return lambda: deque(pipeline, maxlen=0)

    what = f"eager, {kind}: shuffled batches, against the memory source"
    return against(served(memory), served(eager), records=RECORDS, what=what, target=0.95)


# -- streams -------------------------------------------------------------------------------------------------------------


def _streams(folder: str, kind: str) -> Iterator[Row]:
    """Measure streams of both formats; tf.data reads TFRecord files, since it reads no others."""
    data_dir = _data_dir(folder, "tfrecord")
    with _Process("tf.data", data_dir, kind, "False") as reference:
        for file_format in FORMATS:
            yield against(
                reference.epoch,
                _stream(_data_dir(folder, file_format), kind),
                records=RECORDS // BATCH * BATCH,
                what=f"stream, {kind}, {file_format}: against tf.data's batches",
                target=3 if kind == "png" else 2.5,
                runs=9,
            )
    with _Process("tf.data", data_dir, kind, "True") as reference:
        yield against(
            reference.epoch,
            _stream(data_dir, kind, cacheable=True),
            records=RECORDS // BATCH * BATCH,
            what=f"stream, {kind}, tfrecord: second epoch, cacheable: against tf.data's, autocached",
            target=1.0,
            runs=9,
        )


def _by_tensorflow(folder: str, kind: str) -> Row:
    """Measure the stream with ``backend: tf.data`` against bare tf.data, each in a process of its own."""
    data_dir = _data_dir(folder, "tfrecord")
    with _Process("tf.data", data_dir, kind, "False") as reference, _Process("ours", data_dir, kind) as ours:
        return against(
            reference.epoch,
            ours.epoch,
            records=RECORDS // BATCH * BATCH,
            what=f"stream, {kind}, backend tf.data: against bare tf.data",
            target=0.9,
            runs=9,
        )


def _stream(data_dir: str, kind: str, **options: Any) -> Callable[[], None]:
    from datarax_tfds import TFDSStreamingConfig, TFDSStreamingSource

    config = TFDSStreamingConfig(name=kind, split="train", data_dir=data_dir, **options)
    source = TFDSStreamingSource(config)

    def epoch() -> None:
        source.reset()
        for _ in range(RECORDS // BATCH):
            source.get_batch(BATCH)

    return epoch


class _Process:
    """Process of this script that reads an epoch on request."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, __file__, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        self.epoch()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate("")

    def epoch(self) -> None:
        assert self._process.stdin is not None  # noqa: S101 - opened as a pipe above
        assert self._process.stdout is not None  # noqa: S101 - opened as a pipe above
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._process.stdout.readline()


def _serve_tf_data(data_dir: str, kind: str, cached: str) -> None:
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(try_autocache=cached == "True", interleave_cycle_length=1)
    builder = tfds.builder_from_directory(Path(data_dir, kind, "1.0.0"))
    batches = builder.as_dataset(split="train", read_config=config).batch(BATCH, drop_remainder=True).prefetch(2)
    for _ in sys.stdin:
        deque(tfds.as_numpy(batches), maxlen=0)
        print(flush=True)


def _serve_ours(data_dir: str, kind: str) -> None:
    epoch = _stream(data_dir, kind, backend="tf.data")
    for _ in sys.stdin:
        epoch()
        print(flush=True)


# -- the index -----------------------------------------------------------------------------------------------------------


def _index(path: Path, size: int) -> Iterator[Row]:
    """Measure the index of a gigabyte of records of one size: when it is made, and when it is read again."""
    from datarax_tfds.files import RecordFiles
    from datarax_tfds.splits import FilePart

    records = _write_records(path, size)
    part = FilePart(str(path), 0, records, records)
    name = f"index of 1 GiB, {records} records of {size} bytes"

    def opened() -> None:
        RecordFiles([part], "tfrecord", "a benchmark").close()

    def found() -> float:
        path.touch()  # a file of another time has no index yet
        return seconds(opened)

    yield limited([found() for _ in range(LEAST)], 5.0, what=f"{name}: found, of its limit")
    yield limited(opened, 0.1, what=f"{name}: opened again, of its limit")
    path.unlink()


def _write_records(path: Path, size: int) -> int:
    content = np.random.default_rng(0).bytes(size)
    header = struct.pack("<Q", size)
    checksums = [struct.pack("<I", _masked(google_crc32c.value(part))) for part in (header, content)]
    record = header + checksums[0] + content + checksums[1]
    count = INDEX_BYTES // len(record)
    block = record * 1024
    with path.open("wb") as file:
        for _ in range(count // 1024):
            file.write(block)
        file.write(record * (count % 1024))
    return count


def _masked(checksum: int) -> int:
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


# -- memory --------------------------------------------------------------------------------------------------------------


def _memory(folder: str, kind: str) -> Row:
    """Measure the peak memory of loading a data set, in a process of its own."""
    command = [sys.executable, __file__, "load", folder, kind]
    out = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    peak, arrays = json.loads(out.stdout)
    return Row(
        f"eager, {kind}: peak memory, of the arrays",
        f"{arrays:.0f} MiB",
        f"{peak:.0f} MiB",
        peak / arrays,
        1.3,
        "at most",
    )


def _measure_load(folder: str, kind: str) -> None:
    _load(folder, "tfrecord", kind, 64)
    before = resident_mib()
    source = _load(folder, "tfrecord", kind)
    print(json.dumps([_highest_mib() - before, source.columns.nbytes / 2**20]))


def _highest_mib() -> float:
    """Return the peak memory of this program; ``ru_maxrss`` would include the parent's memory at the start."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


# -- data ----------------------------------------------------------------------------------------------------------------


def images() -> np.ndarray:
    """Return uint8 (RECORDS, 32, 32, 3): handwritten digits, enlarged, coloured, with noise that makes PNG work."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    digits = np.resize(load_digits().images * 14, (RECORDS, 8, 8)).repeat(4, axis=1).repeat(4, axis=2)
    colours = rng.uniform(0.3, 1, (RECORDS, 1, 1, 3))
    whole: np.ndarray = (digits[..., None] * colours + rng.integers(0, 16, (RECORDS, 32, 32, 3))).astype(np.uint8)
    return whole


def _write(folder: str) -> None:
    import tensorflow_datasets as tfds

    shape = (32, 32, 3)
    features = {
        "png": tfds.features.Image(shape=shape, encoding_format="png"),
        "raw": tfds.features.Tensor(shape=shape, dtype=np.uint8),
    }
    pictures = images()
    for kind, image in features.items():
        for file_format in FORMATS:
            _store(_data_dir(folder, file_format), kind, file_format, image, pictures)


def _store(data_dir: str, name: str, file_format: str, image: Any, pictures: np.ndarray) -> None:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_builders.adhoc_builder import AdhocBuilder

    features = tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(num_classes=10)})
    builder = AdhocBuilder(
        name=name,
        version="1.0.0",
        features=features,
        split_datasets={"train": [(k, {"image": picture, "label": k % 10}) for k, picture in enumerate(pictures)]},
        data_dir=data_dir,
        disable_shuffling=True,
    )
    config = tfds.download.DownloadConfig(num_shards=SHARDS, try_download_gcs=False)
    builder.download_and_prepare(download_config=config, file_format=file_format)


if __name__ == "__main__":
    {"write": _write, "tf.data": _serve_tf_data, "ours": _serve_ours, "load": _measure_load}[sys.argv[1]](*sys.argv[2:])
