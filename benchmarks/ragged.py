"""Ragged columns against NumPy's bare gather of the same values: batches of 256 documents out of 10 M tokens."""

from collections.abc import Callable

import numpy as np
from _measure import Row, against

from datarax_core import Ragged
from datarax_memory import MemorySource, MemorySourceConfig

TOKENS, BATCH, BATCHES = 10_000_000, 256, 20


def documents(shortest: int, longest: int) -> Ragged:
    """Return a column of 10 M tokens in documents of lengths that are drawn between the two."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(shortest, longest + 1, TOKENS // shortest)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    offsets = offsets[offsets <= TOKENS]
    return Ragged(rng.integers(0, 50_000, TOKENS, np.int32), offsets)


def rows_of(column: Ragged, records: np.ndarray) -> np.ndarray:
    """Return the rows of values of these records, one record after another."""
    starts, ends = column.offsets[records], column.offsets[records + 1]
    return np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)])


def in_a_loop(column: Ragged, records: np.ndarray) -> np.ndarray:
    """Return the values of these records, sliced one by one."""
    return np.concatenate([column.values[column.offsets[i] : column.offsets[i + 1]] for i in records])


def padded_in_a_loop(column: Ragged, records: np.ndarray) -> np.ndarray:
    """Return these records, padded one by one to the longest."""
    rows = [column.values[column.offsets[i] : column.offsets[i + 1]] for i in records]
    padded = np.zeros((len(rows), max(map(len, rows))), column.dtype)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded


def compared(
    what: str,
    column: Ragged,
    ours: Callable[[np.ndarray], object],
    target: float,
    bare: Callable[[Ragged, np.ndarray], object] | None = None,
) -> Row:
    """Return the row for work on batches of random records against ``bare``: by default NumPy's gather of their values."""
    rng = np.random.default_rng(1)
    batches = [rng.integers(0, len(column), BATCH) for _ in range(BATCHES)]
    chosen = [rows_of(column, records) for records in batches]
    gather = each(column.values.__getitem__, chosen)
    return against(
        gather if bare is None else each(lambda records: bare(column, records), batches),
        each(ours, batches),
        records=BATCH * BATCHES,
        what=what,
        target=target,
        runs=31,
    )


def each(work: Callable[[np.ndarray], object], items: list[np.ndarray]) -> Callable[[], None]:
    """Return a function that works on one item after another; results are dropped, as a loop drops its batches."""

    def run() -> None:
        for item in items:
            work(item)

    return run


def rows() -> list[Row]:
    """Return take, padding, and both of documents of a few tokens."""
    long, short = documents(20, 4000), documents(1, 30)
    source = MemorySource(MemorySourceConfig(placement="host"), {"tokens": long})
    return [
        compared("take, documents of 20 to 4,000 tokens", long, long.take, 0.7),
        compared("get_records of a memory source", long, source.get_records, 0.7),
        compared("take and pad to the longest", long, lambda records: long.take(records).to_padded(), 0.5),
        compared("take and pad to 4,000", long, lambda records: long.take(records).to_padded(4000), 0.5),
        compared("take, 1 to 30 tokens, against a loop", short, short.take, 2, in_a_loop),
        compared(
            "take and pad, 1 to 30 tokens, against a loop",
            short,
            lambda r: short.take(r).to_padded(),
            2,
            padded_in_a_loop,
        ),
    ]


if __name__ == "__main__":
    from _measure import report

    report(__doc__ or "", rows())
