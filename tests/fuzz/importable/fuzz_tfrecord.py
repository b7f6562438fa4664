"""Plain TFRecord files, whole and compressed, the kept indices of them, and what is unpacked of compressed ones."""

import gzip
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import tfrecords
from fuzz_format import Format, OtherDataError, Served, change, difference_of, require_same
from mutation import mutated_bytes, place_of

from datarax_core import build_source

RECORDS = [f"record {number} ".encode() * (1 + number % 7) for number in range(40)]
NAME = "x.tfrecord"


def read(folder: Path, way: int, name: str = NAME) -> Served:
    """Read all records in one batch, or one after another behind a check of all."""
    os.environ["DATARAX_CACHE_DIR"] = str(folder / "cache")
    source = build_source({"type": "tfrecord", "paths": str(folder / name)})
    try:
        source.element_spec()
        indices = np.arange(len(source))
        if way % 2 == 0:
            return [*source.get_records(indices)["record"]]
        for error in source.verify_records(indices).errors:
            raise error
        return [source[int(index)]["record"] for index in indices]
    finally:
        source.close()


def read_gzip(folder: Path, way: int) -> Served:
    return read(folder, way, f"{NAME}.gz")


def make(folder: Path) -> None:
    tfrecords.write(folder / NAME, RECORDS)


def make_gzip(folder: Path) -> None:
    make(folder)
    content = (folder / NAME).read_bytes()
    (folder / NAME).unlink()
    (folder / f"{NAME}.gz").write_bytes(gzip.compress(content, mtime=0))


def change_data(folder: Path, number: int) -> str:
    (path,) = (path for path in folder.iterdir() if path.is_file())
    return change(path, number)


def change_kept(folder: Path, number: int) -> str:
    """Mutate a file that reading left in the cache folder."""
    read(folder, 0, next(path.name for path in folder.iterdir() if path.is_file()))
    kept = sorted(path for path in (folder / "cache").rglob("*") if path.is_file() and path.stat().st_size)
    path = random.Random(f"kept {number}").choice(kept)  # noqa: S311 - repeatable, not secret
    before = path.stat()
    content = path.read_bytes()
    mutant = mutated_bytes(content, number)
    path.chmod(0o600)
    path.write_bytes(mutant)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return f"{path.relative_to(folder)}, {place_of(content, mutant)}"


def require_beginning(served: Served, reference: Any, _number: int) -> None:
    """Raise if anything but the first records is served: a file that is cut off between two records is a whole one."""
    if difference_of(served, reference[: len(served)]):
        raise OtherDataError(f"serves other data: {difference_of(served, reference[: len(served)])}")


FORMATS: dict[str, Format] = {
    "tfrecord": Format(make, read, change_data, require_beginning),
    "tfrecord-gzip": Format(make_gzip, read_gzip, change_data, require_same),
    "tfrecord-index": Format(make, read, change_kept, require_same),
    "tfrecord-unpacked": Format(make_gzip, read_gzip, change_kept, require_beginning),
}
