"""Real ArrayRecord files for tests: records of one layout, a number and an image of four pixels."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from record_files import write

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule

FIELDS = {"id": {"dtype": "int32", "shape": []}, "image": {"dtype": "uint8", "shape": [2, 2]}}
DECODER = {"type": "array", "fields": FIELDS}
LENGTHS = (7, 0, 20, 13)
TOTAL = sum(LENGTHS)


def record_of(number: int) -> bytes:
    """Return the bytes of a record."""
    return np.asarray(number, "<i4").tobytes() + bytes([number % 256, 1, 2, 3])


def write_files(
    folder: Path,
    lengths: tuple[int, ...] = LENGTHS,
    options: str = "group_size:1",
    record_of: Callable[[int], bytes] = record_of,
) -> list[str]:
    """Write shards of these lengths, with records numbered over all of them."""
    ends = [0, *np.cumsum(lengths).tolist()]
    return [
        write(folder / f"x.array_record-{shard:05d}-of-{len(lengths):05d}", [*map(record_of, range(*span))], options)
        for shard, span in enumerate(pairwise(ends))
    ]


def source_of(
    paths: Any, *, rngs: nnx.Rngs | None = None, name: str | None = None, **fields: Any
) -> ArrayRecordSourceModule:
    """Return a source with the decoder of these records."""
    return ArrayRecordSourceModule(
        ArrayRecordSourceConfig(**{"decoder": DECODER, **fields}), paths, rngs=rngs, name=name
    )
