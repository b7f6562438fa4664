"""Host stages of core against the least work on the same records: 256 documents of 20 to 4,000 tokens a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from _measure import Row, against
from flax import nnx

from datarax_core import Lookup, Pad, TokenizeBytes, Truncate
from datarax_core.records import Ragged

TOKENS, RECORDS, BATCHES = 10_000_000, 256, 10
SHORTEST, LONGEST = 20, 4000


def documents(rng: np.random.Generator) -> Ragged:
    """Return documents with so many tokens in all."""
    lengths = rng.integers(SHORTEST, LONGEST + 1, 2 * TOKENS // (SHORTEST + LONGEST))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return Ragged(rng.integers(0, 50_000, offsets[-1], np.int32), offsets)


def compared(
    what: str, bare: Callable[[Any], object], ours: Callable[[Any], object], batches: Sequence[Any], target: float
) -> Row:
    """Return the row for a stage against the function ``bare``, both called with (batch, what bare needs besides)."""

    def each(work: Callable[[Any], object]) -> Callable[[], None]:
        def run() -> None:
            for batch in batches:
                work(batch)

        return run

    return against(each(bare), each(ours), records=RECORDS * len(batches), what=what, target=target)


def tokens_of(column: Ragged, records: np.ndarray) -> np.ndarray:
    """Return the places of all tokens of these records, for the bare gather."""
    return np.concatenate([np.arange(column.offsets[record], column.offsets[record + 1]) for record in records])


def rows() -> list[Row]:
    """Measure padding, cutting, tokens of bytes, and classes."""
    rng = np.random.default_rng(0)
    column = documents(rng)
    chosen = [rng.integers(0, len(column), RECORDS) for _ in range(BATCHES)]
    ragged = [({"tokens": column[records]}, tokens_of(column, records)) for records in chosen]
    texts = ["x" * int(length) for length in rng.integers(SHORTEST, LONGEST, RECORDS)]
    text_column = np.empty(RECORDS, object)
    text_column[:] = texts
    names = [f"class {number}" for number in range(1000)]
    of_classes = np.array([names[number] for number in rng.integers(0, len(names), RECORDS)], object)
    numbers = {name: number for number, name in enumerate(names)}
    lookup = Lookup(field="label", classes=tuple(names))
    classes = lookup.build({"label": jax.ShapeDtypeStruct((), np.dtype(np.str_))}, nnx.Rngs())

    def gathered(batch: Any) -> object:
        return column.values[batch[1]]

    def joined(batch: Any) -> object:
        return np.frombuffer(b"".join([text.encode() for text in batch["text"]]), np.uint8).astype(np.int32)

    def looked_up(batch: Any) -> object:
        return np.array([numbers[name] for name in batch["label"].tolist()], np.int32)

    stages = {
        "padded to 4,000, the gather of their tokens alone": (Pad(field="tokens", length=LONGEST), 0.5),
        "padded to the smallest of 2 lengths, the same": (Pad(field="tokens", lengths=(2000, LONGEST)), 0.5),
        "padded, with a mask, the same": (Pad(field="tokens", length=LONGEST, mask_field="mask"), 0.5),
        "cut to 2,000, the same": (Truncate(field="tokens", length=2000), 0.7),
    }
    return [
        *(compared(what, gathered, lambda batch, s=s: s(batch[0]), ragged, t) for what, (s, t) in stages.items()),
        compared(
            "bytes of text as tokens, encoded and joined alone",
            joined,
            TokenizeBytes(field="text", eos=256),
            [{"text": text_column}] * BATCHES,
            0.6,
        ),
        compared(
            "256 of 1,000 classes, looked up in a dict alone",
            looked_up,
            classes,
            [{"label": of_classes}] * BATCHES,
            0.5,
        ),
    ]
