"""Mutants of prepared data sets: of their two descriptions, and of their data files; each is opened and read whole."""

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tfrecords
from mutation import mutated_bytes, mutated_json
from tfds_made import NotInstalled

from datarax_core.errors import DataFileError, RecordError
from datarax_tfds import TFDSEagerConfig, TFDSEagerSource, TFDSStreamingConfig, TFDSStreamingSource

EXPECTED = (DataFileError, RecordError, FileNotFoundError)
sys.meta_path.insert(
    0, NotInstalled("tensorflow")
)  # a feature that only it decodes would import it, which takes seconds
REFUSALS = re.compile(
    "is decoded by TensorFlow only|has no split 'train'|of .* has no records|cannot hold fields of .* whose shape varies"
)
KINDS = ("features.json", "dataset_info.json", "")


def read_mutant(data_set: str, number: int) -> None:
    """Read mutant ``number`` of a data set (``data_dir/name``), every third of which has another kind of file changed.

    Raises:
        An error that names the folder of the data set, or a file in it, or a record; or a raw one, which is what is looked for.
    """
    source = Path(data_set)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / source.name / "1.0.0"
        shutil.copytree(source / "1.0.0", folder)
        if number >= 0:
            _mutate(folder, number)
        try:
            _read(source.name, scratch, eager=number % 2 == 1)
        except ValueError as error:
            if REFUSALS.search(str(error)):  # what a user would be told of such a data set
                raise DataFileError(scratch, str(error)) from error
            raise
        except EXPECTED as error:
            if scratch not in str(error):
                raise RuntimeError(f"names no file: {type(error).__name__}: {error}") from error
            raise


def _mutate(folder: Path, number: int) -> None:
    kind = KINDS[number % len(KINDS)]
    path = folder / kind if kind else sorted(folder.glob("*train.*"))[number // len(KINDS) % 2]
    content = path.read_bytes()
    if kind:
        path.write_bytes(mutated_json(content, number))
    elif path.name.count(".tfrecord") and number % 4:  # the records behind right checksums
        changed = number % 7
        tfrecords.write(
            path,
            [
                mutated_bytes(record, number) if row % 7 == changed else record
                for row, record in enumerate(_records(content))
            ],
        )
    else:
        path.write_bytes(mutated_bytes(content, number))


def _records(content: bytes) -> Iterator[bytes]:
    while content:
        size = int.from_bytes(content[:8], "little")
        yield content[12 : 12 + size]
        content = content[16 + size :]


def _read(name: str, data_dir: str, *, eager: bool) -> None:
    options = {"name": name, "split": "train", "data_dir": data_dir, "local_files_only": True, "backend": "auto"}
    if eager and name != "captions":
        source = TFDSEagerSource(TFDSEagerConfig(**options))
    else:
        source = TFDSStreamingSource(TFDSStreamingConfig(**options))
    source.element_spec()
    source.get_dataset_info()
    for start in range(0, len(source), 64):
        source.get_records(np.arange(start, min(start + 64, len(source))))
