"""Prepared data sets of TFDS: their two descriptions, and their data files; each is opened and read whole."""

import re
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import tfds_data
import tfrecords
from fuzz_format import Format, Served, change, require_same
from mutation import mutated_bytes, place_of

from datarax_core.errors import DataFileError
from datarax_tfds import TFDSEagerConfig, TFDSEagerSource, TFDSStreamingConfig, TFDSStreamingSource

REFUSALS = re.compile(
    "is decoded by TensorFlow only|has no split 'train'|of .* has no records|cannot hold fields of .* whose shape varies"
)
_KINDS = ("features.json", "dataset_info.json", "")


def make_all(folder: Path) -> None:
    """Write the data sets of all formats."""
    tfds_data.write_all(folder)


def change_data_set(folder: Path, number: int) -> str:
    """Mutate a description, a data file, or a record behind right checksums."""
    kind = _KINDS[number % len(_KINDS)]
    path = folder / "1.0.0" / kind
    if not kind:
        path = sorted(path.glob("*train.*"))[number // len(_KINDS) % 2]
    if kind or not path.name.count(".tfrecord") or number % 4 == 0:
        return change(path, number)
    content = path.read_bytes()
    records = list(_records(content))
    row = number % len(records)
    mutant = mutated_bytes(records[row], number)
    place = f"record {row}, {place_of(records[row], mutant)}"
    tfrecords.write(path, [*records[:row], mutant, *records[row + 1 :]])
    return place


def _records(content: bytes) -> Iterator[bytes]:
    while content:
        size = int.from_bytes(content[:8], "little")
        yield content[12 : 12 + size]
        content = content[16 + size :]


def require_same_of_files(served: Served, reference: Served, number: int) -> None:
    """Raise if a mutated data file, whose bytes have checksums, serves other data."""
    if number % len(_KINDS) == 2 and number % 4 == 0:
        require_same(served, reference, number)


class WithoutTensorFlow(PathFinder):
    """Finder by which TensorFlow is not installed: a mutant that makes TFDS import it would take seconds and gigabytes."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
        return None if fullname == "tensorflow" else super().find_spec(fullname, path, target)


def of_data_set(folder_of_files: str) -> Format:
    """Return the format of a data set."""
    name = Path(folder_of_files).name

    def read(folder: Path, way: int) -> Served:
        # in the child alone
        sys.meta_path[:] = [WithoutTensorFlow if finder is PathFinder else finder for finder in sys.meta_path]
        named = folder.rename(folder.parent / name)  # a data set has the name of its folder
        try:
            return _read(name, named.parent, eager=way % 2 == 1 and name != "captions")
        except ValueError as error:
            if REFUSALS.search(str(error)):  # what a user would be told of such a data set
                raise DataFileError(str(named), f"{named}: {error}") from error
            raise

    return Format(None, read, change_data_set, require_same_of_files, folder=folder_of_files)


def _read(name: str, data_dir: Path, *, eager: bool) -> Served:
    options: dict[str, Any] = {"name": name, "split": "train", "data_dir": str(data_dir), "local_files_only": True}
    source = (
        TFDSEagerSource(TFDSEagerConfig(**options)) if eager else TFDSStreamingSource(TFDSStreamingConfig(**options))
    )
    source.element_spec()
    source.get_dataset_info()
    starts = range(0, len(source), 64)
    return [source.get_records(np.arange(start, min(start + 64, len(source)))) for start in starts]


FORMATS: dict[str, Format] = {
    "tfds-captions": of_data_set("tfrecord/captions"),
    "tfds-nested": of_data_set("tfrecord/nested"),
    "tfds-pairs": of_data_set("array_record/pairs"),
}
