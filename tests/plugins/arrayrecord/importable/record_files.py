"""Real ArrayRecord files of numbered records, and ways to damage them, for tests and the processes that they start."""

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

import jax
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule
from datarax_core.registry.decoders import Decoder

LAYOUT = np.dtype([("id", "<i4"), ("x", "<f4", (3,))])
SPEC = {"id": jax.ShapeDtypeStruct((), np.dtype(np.int32)), "x": jax.ShapeDtypeStruct((3,), np.dtype(np.float32))}
FINDABLE = "group_size:1,uncompressed"
"""Writer options of files that contain the bytes of their records unchanged."""


class Numbers(Decoder):
    """Decoder of records with one fixed layout; with ``learns``, its spec is that of the first record."""

    type: Literal["numbers"] = "numbers"
    learns: bool = False

    def element_spec(self) -> Any:
        return None if self.learns else SPEC

    def spec_from(self, record: bytes) -> Any:
        self.decode([record], SPEC)
        return SPEC

    def decode(self, records: Sequence[bytes], spec: Any) -> Any:  # noqa: ARG002 - Decoder's signature
        for record in records:
            if len(record) != LAYOUT.itemsize:
                raise ValueError(f"a record has {LAYOUT.itemsize} bytes, not {len(record)}")
        rows = np.frombuffer(b"".join(records), LAYOUT)
        return {"id": rows["id"].copy(), "x": rows["x"].copy()}


class Stubborn(Numbers):
    """Decoder that raises LookupError for the records in ``refuses``."""

    type: Literal["stubborn"] = "stubborn"
    refuses: tuple[int, ...] = ()

    def decode(self, records: Sequence[bytes], spec: Any) -> Any:
        batch = super().decode(records, spec)
        if found := set(batch["id"].tolist()) & set(self.refuses):
            raise LookupError(f"nothing is known of {min(found)}")
        return batch


def record(number: int) -> bytes:
    """Return the record with this number: 16 bytes that no other record has."""
    return np.array([(number, (number * 0.5, -number, 7.25))], LAYOUT).tobytes()


def write(path: Path, records: Iterable[bytes], options: str = FINDABLE) -> str:
    """Write a file of these records, and return its path."""
    writer = ArrayRecordWriter(str(path), options)
    for each in records:
        writer.write(each)
    writer.close()
    return str(path)


def write_numbers(folder: Path, counts: Sequence[int], options: str = FINDABLE) -> list[str]:
    """Write files with so many records each, numbered over all files; return their paths."""
    starts = np.cumsum([0, *counts])
    return [
        write(folder / f"part-{file:02d}.array_record", map(record, range(start, start + count)), options)
        for file, (start, count) in enumerate(zip(starts, counts, strict=False))
    ]


def damage(path: str, *numbers: int) -> None:
    """Flip a byte of each of these records in the file."""
    content = bytearray(Path(path).read_bytes())
    for number in numbers:
        content[content.index(record(number)) + 5] ^= 0xFF
    Path(path).write_bytes(content)


def source_of(paths: Any, /, *, rngs: Any = None, name: str | None = None, **config: Any) -> ArrayRecordSourceModule:
    """Return a source of files of numbered records; ``decoder=None`` leaves them undecoded."""
    return ArrayRecordSourceModule(
        ArrayRecordSourceConfig(**{"decoder": Numbers(), **config}), paths, rngs=rngs, name=name
    )


def ids(batch: Any) -> list[int]:
    """Return the numbers of the records of a batch, after checking that each record is complete."""
    numbers = np.asarray(batch["id"])
    np.testing.assert_array_equal(np.asarray(batch["x"])[..., 0], numbers * np.float32(0.5))
    np.testing.assert_array_equal(np.asarray(batch["x"])[..., 1], -numbers)
    return [int(number) for number in numbers]


def in_child(code: str, *arguments: str, seconds: int = 100) -> str:
    """Return the output of a Python process that runs ``code``; raise if it fails, crashes or does not end."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(  # noqa: S603 - the code of tests
        [sys.executable, "-c", dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
