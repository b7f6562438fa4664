"""Speed of reading ArrayRecord files, at random and in sequence, against the bare reader's loops and Grain."""

import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from _measure import Row, against, limited, resident_mib, seconds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from flax import nnx
from grain.sources import ArrayRecordDataSource

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule, write
from datarax_core import Pipeline, Ragged

RECORDS, BATCH, RUNS = 50_000, 256, 9
BATCHES = RECORDS // BATCH
GRAIN_BATCHES, CALLS = 10, 20
FIELDS = {"label": {"dtype": "int32", "shape": []}, "image": {"dtype": "uint8", "shape": [32, 32, 3]}}
DECODER = {"type": "array", "fields": FIELDS}
READER = {"options": "readahead_buffer_size:0,max_parallelism:0", "file_reader_buffer_size": 4096}
RANGES = {**READER, "options": "readahead_buffer_size:262144,max_parallelism:0"}
COMPRESSIONS = {"compressed": "group_size:1", "uncompressed": "group_size:1,uncompressed"}
FILES, SMALL_FILES = 8, 1000

Read = Callable[[list[list[tuple[ArrayRecordReader, list[int]]]]], None]


def rows() -> list[Row]:
    """Measure speed against the reader's quickest loop and against Grain as its docs advise, opening of files, and memory."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for compression, options in COMPRESSIONS.items():
            for shards in (1, FILES):
                paths = _write(Path(folder, f"{compression}-{shards}"), options, shards)
                what = f"{compression}, {shards} file{'s' * (shards > 1)}"
                found += [*_random(paths, what), *_alone(paths, what), *_sequential(paths, what)]
        found.append(_documents(Path(folder, "documents.array_record")))
        found.append(_opening(Path(folder, "small")))
        found.append(_memory(Path(folder)))
    return found


def _write(folder: Path, options: str, shards: int, records: int = RECORDS) -> list[str]:
    """Write files of 3 KB records that compress by half: six bits of each byte are random, of 256 different images."""
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 64, (256, 3072), np.uint8)
    paths, edges = [], np.linspace(0, records, shards + 1).astype(int).tolist()
    for shard, (start, stop) in enumerate(pairwise(edges)):
        paths.append(str(folder / f"x.array_record-{shard:05d}-of-{shards:05d}"))
        writer = ArrayRecordWriter(paths[-1], options)
        for record in range(start, stop):
            writer.write(np.int32(record).tobytes() + images[record % 256].tobytes())
        writer.close()
    return paths


def _source(paths: list[str], *, shuffle: bool) -> ArrayRecordSourceModule:
    config = ArrayRecordSourceConfig(decoder=DECODER, shuffle=shuffle)
    return ArrayRecordSourceModule(config, paths, rngs=nnx.Rngs(0))


def _served(source: ArrayRecordSourceModule, batches: int = BATCHES) -> Callable[[], object]:
    """Return a function that loops over an epoch from its start: what is read ahead of an endless loop would not be timed."""
    served = source if batches == BATCHES else source[: BATCH * batches]
    pipeline = Pipeline(source=served, batch_size=BATCH, drop_last=True)

    def serve() -> None:
        pipeline.reset()
        jax.block_until_ready(deque(pipeline, maxlen=1))

    return serve


def _random(paths: list[str], what: str) -> Iterator[Row]:
    source = _source(paths, shuffle=True)
    order = np.asarray(source.record_indices_at(0, BATCH * BATCHES, source.order_key_data())).reshape(BATCHES, BATCH)
    work = _by_file(paths, order)
    name = min(BARE, key=lambda name: _best(lambda: BARE[name](work)))
    yield against(
        lambda: BARE[name](work),
        _served(source),
        records=BATCH * BATCHES,
        what=f"shuffled, {what}: pipeline, decoded, against bare {name}",
        target=0.85,
        runs=RUNS,
    )
    yield against(
        _grain_loop(paths),
        _served(source, GRAIN_BATCHES),
        records=BATCH * GRAIN_BATCHES,
        what=f"shuffled, {what}: pipeline against Grain's shuffle, map, batch",
        target=15 if len(paths) == 1 else 10,
        runs=RUNS,
    )


def _alone(paths: list[str], what: str) -> Iterator[Row]:
    """Measure single calls of `get_records`, without a pipeline."""
    source, grain_source = _source(paths, shuffle=True), ArrayRecordDataSource(paths)
    order = np.random.default_rng(0).permutation(RECORDS)[: BATCH * CALLS].reshape(CALLS, BATCH)
    work = _by_file(paths, order)

    def ours() -> None:
        for indices in order:
            source.get_records(indices)

    def of_grain() -> None:
        for indices in order.tolist():
            grain_source.__getitems__(indices)

    for reference, told, target in (
        (lambda: _in_lists(work), "read([...])", 0.95),
        (of_grain, "Grain's __getitems__", 2),
    ):
        yield against(
            reference,
            ours,
            records=order.size,
            what=f"get_records, {what}: decoded, against {told}",
            target=target,
            runs=RUNS,
        )


def _documents(path: Path) -> Row:
    """Measure documents of 20 to 1,000 tokens, served as a ragged column, against the bare reader's bytes."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(20, 1000, RECORDS // 2))])
    tokens = Ragged(rng.integers(0, 50_000, int(offsets[-1]), np.uint16), offsets)
    written = write(path, {"tokens": tokens})
    source = ArrayRecordSourceModule(written.config, rngs=nnx.Rngs(0))
    order = rng.permutation(len(tokens))[: BATCH * 3 * CALLS].reshape(3 * CALLS, BATCH)
    work = _by_file([str(path)], order)
    name = min(BARE, key=lambda name: _best(lambda: BARE[name](work)))

    def served() -> None:
        for indices in order:
            source.get_records(indices)

    return against(
        lambda: BARE[name](work),
        served,
        records=order.size,
        what=f"documents at random, as ragged columns, against bare {name}",
        target=0.8,
        runs=RUNS,
    )


def _by_file(paths: list[str], order: np.ndarray) -> list[list[tuple[ArrayRecordReader, list[int]]]]:
    """Return for each batch the rows of each file, which the loop over bare readers does not have to compute."""
    readers = [ArrayRecordReader(path, **READER) for path in paths]
    ends = np.cumsum([reader.num_records() for reader in readers])
    batches = []
    for records in order:
        files = np.searchsorted(ends, records, side="right")
        starts = np.concatenate([[0], ends])[files]
        batches.append([(readers[file], (records - starts)[files == file].tolist()) for file in np.unique(files)])
    return batches


def _one_by_one(batches: list[list[tuple[ArrayRecordReader, list[int]]]]) -> None:
    for batch in batches:
        records = []
        for reader, wanted in batch:
            for row in wanted:
                reader.seek(row)
                records.append(reader.read())


def _in_lists(batches: list[list[tuple[ArrayRecordReader, list[int]]]]) -> None:
    for batch in batches:
        for reader, wanted in batch:
            reader.read(wanted)


BARE: dict[str, Read] = {"seek and read": _one_by_one, "read([...])": _in_lists}


def _best(work: Callable[[], object]) -> float:
    return min(seconds(work) for _ in range(3))


def _grain_loop(paths: list[str]) -> Callable[[], object]:
    def decode(record: bytes) -> dict[str, np.ndarray]:
        return {
            "label": np.frombuffer(record, np.int32, 1)[0],
            "image": np.frombuffer(record, np.uint8, 3072, 4).reshape(32, 32, 3),
        }

    data = grain.MapDataset.source(ArrayRecordDataSource(paths)).shuffle(seed=0).map(decode).batch(BATCH)
    return lambda: deque((data[i] for i in range(GRAIN_BATCHES)), maxlen=1)


def _sequential(paths: list[str], what: str) -> Iterator[Row]:
    """Measure ranges: of a reader opened for single rows, and of one with tasks of 256 KiB."""

    def bare(options: dict[str, Any], step: int) -> Callable[[], object]:
        readers = [ArrayRecordReader(path, **options) for path in paths]

        def read() -> None:
            for reader in readers:
                for start in range(0, reader.num_records(), step):
                    reader.read(start, min(start + step, reader.num_records()))

        return read

    for options, told in ((READER, ""), (RANGES, ", tasks of 256 KiB")):
        step = min((256, 1024), key=lambda step: _best(bare(options, step)))
        yield against(
            bare(options, step),
            _served(_source(paths, shuffle=False)),
            records=BATCH * BATCHES,
            what=f"in sequence, {what}: pipeline, decoded, against bare read(start, start + {step}){told}",
            target=0.85,
            runs=RUNS,
        )


def _opening(folder: Path) -> Row:
    paths = _write(folder, COMPRESSIONS["compressed"], SMALL_FILES, records=20 * SMALL_FILES)
    return limited(lambda: _source(paths, shuffle=True), 2.0, what=f"opening {SMALL_FILES} files, of its limit")


def _memory(folder: Path) -> Row:
    """Compare the memory that a loop over 16 files adds to a process with that of a loop over a sixteenth of the records."""
    few = _write(folder / "few", COMPRESSIONS["uncompressed"], 1, records=5_000)
    many = _write(folder / "many", COMPRESSIONS["uncompressed"], 16, records=80_000)
    added = [_added_in_process(paths) for paths in (few, many)]
    what = "memory that a shuffled loop adds to a process: 240 MB of records less 15 MB"
    return Row(what, f"{added[0]:.0f} MiB", f"{added[1]:.0f} MiB", added[1] - added[0], 32, "at most")


def _added_in_process(paths: list[str]) -> float:
    out = subprocess.run([sys.executable, __file__, *paths], capture_output=True, text=True, check=True)  # noqa: S603
    return float(out.stdout)


def _added(paths: list[str]) -> float:
    """Return the MiB that a loop over all records adds to the imports and the first batch."""
    batches = iter(Pipeline(source=_source(paths, shuffle=True), batch_size=BATCH))
    next(batches)
    before = resident_mib()
    deque(batches, maxlen=1)
    return resident_mib() - before


if __name__ == "__main__":
    print(_added(sys.argv[1:]))
