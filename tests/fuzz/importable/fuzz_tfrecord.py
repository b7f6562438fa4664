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
from pydantic import TypeAdapter

from datarax_core import build_source
from datarax_core.records import Ragged
from datarax_core.registry import AnyDecoder, Decoder

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


EXAMPLES = {
    "i": Ragged(np.arange(40, dtype=np.int64) ** 6, np.cumsum([0, *range(8), 12])),
    "y": np.arange(9, dtype=np.float32),
}
DECODER = {"type": "example", "fields": {"i": {"dtype": "int64", "shape": [None]}, "y": {"dtype": "float32"}}}


def make_examples(folder: Path) -> None:
    decoder: Decoder = TypeAdapter(AnyDecoder).validate_python(DECODER)
    tfrecords.write(folder / NAME, decoder.encode(EXAMPLES))


def change_record(folder: Path, number: int) -> str:
    """Mutate one record, and write the file anew, so that its checksums are right."""
    decoder: Decoder = TypeAdapter(AnyDecoder).validate_python(DECODER)
    records = decoder.encode(EXAMPLES)
    row = random.Random(f"record {number}").randrange(len(records))  # noqa: S311 - repeatable, not secret
    mutant = mutated_bytes(records[row], number)
    place = f"record {row}, {place_of(records[row], mutant)}"
    records[row] = mutant
    tfrecords.write(folder / NAME, records)
    return place


def read_examples(folder: Path, way: int) -> Served:
    """Read all records in one batch, or one after another."""
    os.environ["DATARAX_CACHE_DIR"] = str(folder / "cache")
    source = build_source({"type": "tfrecord", "paths": str(folder / NAME), "decoder": DECODER})
    try:
        indices = np.arange(len(source))
        if way % 2:
            return [source[int(index)] for index in indices]
        batch = source.get_records(indices)
        return [{name: column[row] for name, column in batch.items()} for row in range(len(indices))]
    finally:
        source.close()


def require_beginning(served: Served, reference: Any, _number: int) -> None:
    """Raise if anything but the first records is served: a file that is cut off between two records is a whole one."""
    if difference_of(served, reference[: len(served)]):
        raise OtherDataError(f"serves other data: {difference_of(served, reference[: len(served)])}")


FORMATS: dict[str, Format] = {
    "tfrecord": Format(make, read, change_data, require_beginning),
    "tfrecord-example-ragged": Format(make_examples, read_examples, change_data, require_beginning),
    "tfrecord-example-ragged-record": Format(make_examples, read_examples, change_record),
    "tfrecord-gzip": Format(make_gzip, read_gzip, change_data, require_same),
    "tfrecord-index": Format(make, read, change_kept, require_same),
    "tfrecord-unpacked": Format(make_gzip, read_gzip, change_kept, require_beginning),
}
