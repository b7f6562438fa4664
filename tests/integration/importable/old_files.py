"""Sources over files that version 0.1.0 pickled, in old_files.json, with the files, and the records that each served next.

`python tests/integration/importable/old_files.py FILE` was run once, with tests/plugins/tfds/importable on the path, at the
commit before the plugins were divided into packages, and wrote that file.

A pickled source names its files by their absolute paths, and knows size, modification time and inode of each, since it refuses
files that were changed. `put_files` writes the same files with the same modification times elsewhere. The pickles hold the two
things that differ there, folder and inode, as persistent ids, and `load` fills in those of the new folder. All else is stored.
"""

import base64
import io
import json
import os
import pickle
import shutil
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

CHANGED_NS = 1_700_000_000_000_000_000
"""Modification time of all files, in nanoseconds."""


def served(subject: Any) -> Any:
    """Return the next two batches of three records of a source or pipeline, as plain values."""
    next_batch = subject.step if hasattr(subject, "step") else lambda: subject.get_batch(3)
    return json.loads(json.dumps([_plain(next_batch()) for _ in range(2)], default=lambda value: value.decode()))


def load(text: str, folder: Path) -> Any:
    """Return the object of a stored pickle, whose files `put_files` wrote into ``folder``."""
    return _Unpickler(zlib.decompress(base64.b64decode(text)), folder).load()


def load_state(text: str) -> Any:
    """Return a stored state."""
    return pickle.loads(zlib.decompress(base64.b64decode(text)))  # noqa: S301 - our own file


def put_files(contents: dict[str, str], folder: Path) -> None:
    """Write files, given as compressed text by their relative paths, with the modification time that they had."""
    for name, text in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zlib.decompress(base64.b64decode(text)))
        os.utime(path, ns=(CHANGED_NS, CHANGED_NS))


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, folder: Path) -> None:
        super().__init__(io.BytesIO(data))
        self._folder = folder

    def persistent_load(self, pid: Any) -> Any:
        kind, name = pid
        path = str(self._folder / name)
        return os.stat(path).st_ino if kind == "inode" else path  # noqa: PTH116 - the path is text here


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, folder: Path) -> None:
        super().__init__(file)
        self._folder = folder
        self._inodes = {path.stat().st_ino: path for path in folder.rglob("*") if path.is_file()}

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, str) and obj.startswith(str(self._folder)):
            return "path", os.path.relpath(obj, self._folder)
        if type(obj) is int and obj in self._inodes:
            return "inode", str(self._inodes[obj].relative_to(self._folder))
        return None


def _plain(value: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf).tolist() if hasattr(leaf, "dtype") else leaf, value)


def _text(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def _write_array_records(folder: Path) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter  # noqa: PLC0415

    from datarax_arrayrecord import write  # noqa: PLC0415
    from datarax_core import from_sequence  # noqa: PLC0415

    elements = [{"x": np.asarray([n, -n], np.float32), "label": np.int64(n % 3)} for n in range(12)]
    for decoder in ("array", "example", "msgpack", "npz"):
        write(str(folder / f"{decoder}.array_record"), from_sequence(elements), decoder, shards=2)
    raw = [b"record %d" % n for n in range(12)]
    bad = [b"?" if n % 5 == 1 else np.asarray(n, "<i4").tobytes() for n in range(12)]
    for name, records in {"raw": raw, "bad": bad}.items():
        writer = ArrayRecordWriter(str(folder / f"{name}.array_record"), "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()


def _write_tfds(folder: Path) -> None:
    import tfds_data  # type: ignore[import-not-found]  # noqa: PLC0415 - of the tests of the plugin

    with tempfile.TemporaryDirectory() as made:
        tfds_data.write_all(Path(made))
        for file_format in tfds_data.FORMATS:
            shutil.copytree(Path(made) / file_format / "nested", folder / file_format / "nested")


def _array_record_subjects(folder: Path) -> dict[str, Any]:
    from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule  # noqa: PLC0415

    def source(name: str, **options: Any) -> Any:
        config = ArrayRecordSourceConfig(paths=str(folder / name), **options)
        return ArrayRecordSourceModule(config, rngs=nnx.Rngs(1) if config.stochastic else None)

    number = {"type": "array", "fields": {"x": {"dtype": "int32", "shape": []}}}
    quarantine = str(folder / "quarantine.jsonl")
    substituting = source(
        "bad.array_record", shuffle=True, decoder=number, on_error="substitute", max_errors=5, quarantine=quarantine
    )
    by_index = substituting.get_records(np.arange(12))  # fills the quarantine file, which is excluded below
    assert len(by_index["x"]) == 12
    looped = source("array.array_record@2")
    next(iter(looped))
    return {
        **{
            f"arrayrecord {decoder}": source(f"{decoder}.array_record@2", shuffle=True)
            for decoder in ("array", "example", "msgpack", "npz")
        },
        "arrayrecord shuffled files": source("array.array_record@2", shuffle_files=True, seed=7),
        "arrayrecord raw": source("raw.array_record", shuffle=True),
        "arrayrecord cacheable": source("array.array_record@2", shuffle=True, cacheable=True),
        "arrayrecord in a loop": looped,
        "arrayrecord substitute": substituting,
        "arrayrecord exclude": source("bad.array_record", decoder=number, exclude=quarantine),
        "arrayrecord subset": source("array.array_record@2", shuffle=True)[2:9],
        "pipeline over arrayrecord": _pipeline(source("array.array_record@2", shuffle=True)),
        "pipeline over arrayrecord raw": _pipeline(source("raw.array_record", shuffle=True)),
    }


def _tfds_subjects(folder: Path) -> dict[str, Any]:
    from datarax_tfds import (  # noqa: PLC0415
        TFDSEagerConfig,
        TFDSEagerSource,
        TFDSStreamingConfig,
        TFDSStreamingSource,
    )

    subjects: dict[str, Any] = {}
    for file_format in ("tfrecord", "array_record"):
        data = {"name": "nested", "split": "train[3:50]", "data_dir": str(folder / file_format), "shuffle": True}
        subjects[f"tfds eager {file_format}"] = TFDSEagerSource(TFDSEagerConfig(**data))
        for backend in (file_format, "tf.data"):
            config = TFDSStreamingConfig(**data, backend=backend)
            subjects[f"tfds streaming {file_format} by {backend}"] = TFDSStreamingSource(config)
        config = TFDSStreamingConfig(**data, backend=file_format)
        subjects[f"pipeline over tfds {file_format}"] = _pipeline(TFDSStreamingSource(config))
    config = TFDSStreamingConfig(**data, backend="tf.data")
    subjects["pipeline over tfds by tf.data"] = _pipeline(TFDSStreamingSource(config))
    return subjects


def _pipeline(source: Any) -> Any:
    from datarax_core import Pipeline  # noqa: PLC0415

    return Pipeline(source=source, stages=[], batch_size=3, rngs=nnx.Rngs(0), num_epochs=None)


def write(path: Path, folder: Path) -> None:
    """Write the files and, of each subject in the middle of an epoch, pickle, state, and the records that its twin serves."""
    _write_array_records(folder)
    _write_tfds(folder)
    files = {str(file.relative_to(folder)): _text(file.read_bytes()) for file in folder.rglob("*") if file.is_file()}
    put_files(files, folder)
    pickles = {}
    for name, subject in {**_array_record_subjects(folder), **_tfds_subjects(folder)}.items():
        served(subject)
        file = io.BytesIO()
        _Pickler(file, folder).dump(subject)
        assert str(folder).encode() not in file.getvalue()
        text = _text(file.getvalue())
        state = _text(pickle.dumps(subject.get_state()))
        pickles[name] = {"pickle": text, "state": state, "served": served(load(text, folder))}
    entries = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in pickles.items()]
    path.write_text(
        '{"files": {\n' + json.dumps(files, indent=0)[2:-2] + '\n},\n"pickles": {\n' + ",\n".join(entries) + "\n}}\n"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        write(Path(sys.argv[1]), Path(made))
