"""Host stages that worker processes can import, and the values that they make, computed record by record."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from datarax_core import Pipeline
from datarax_core.records import Ragged
from datarax_core.stages import per_record

Batch = dict[str, Any]
OBJECT = np.dtype(object)


class Tokens:
    """Makes tokens of varying length and text of an id: record i has i % 5 tokens i, i + 1, ..."""

    on_host = True

    def element_spec(self, spec: Any) -> Any:
        return {**spec, "tokens": jax.ShapeDtypeStruct((None,), np.int64), "text": jax.ShapeDtypeStruct((), OBJECT)}

    def __call__(self, batch: Batch) -> Batch:
        ids = np.asarray(batch["id"]).tolist()
        tokens = Ragged.from_list([np.arange(i, i + i % 5) for i in ids], np.int64, (None,))
        text = np.empty(len(ids), object)
        text[:] = [f"record {i}" for i in ids]
        return {**batch, "tokens": tokens, "text": text}


class Dense:
    """Pads the tokens to four, and leaves the text out; it says nothing of its spec."""

    on_host = True

    def __call__(self, batch: Batch) -> Batch:
        kept = {name: batch[name] for name in ("id", "draws", "mark", "sum") if name in batch}
        return {**kept, "tokens": batch["tokens"].to_padded(4, -1)}


class Draws:
    """Adds a number that is drawn for each record, and its record index."""

    on_host = True
    stochastic = True
    takes_record_indices = True

    def element_spec(self, spec: Any) -> Any:
        return {**spec, "draws": jax.ShapeDtypeStruct((2,), np.float64)}

    def __call__(self, batch: Batch, rngs: Sequence[np.random.Generator], indices: np.ndarray) -> Batch:
        draws = [[rng.random(), index] for rng, index in zip(rngs, indices.tolist(), strict=True)]
        return {**batch, "draws": np.array(draws, np.float64).reshape(-1, 2)}


def draw_by_hand(pipeline: Pipeline, stage: int, epoch: int, index: int) -> float:
    """Return the first number of a record's generator, by the rule of the page on host stages."""
    low, high = (int(part) for part in np.asarray(pipeline._stage_keys.raw_key_data))
    key = np.array([high << 32 | low, stage], np.uint64)
    counter = np.array([0, 0, epoch, index], np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key)).random()


def tokens_by_hand(index: int) -> list[int]:
    count = index % 5
    return [*range(index, index + count), *[-1] * (4 - count)]


def shouted(record: Batch) -> Batch:
    return {**record, "text": record["text"].upper()}


def noisy(record: Batch, rng: np.random.Generator, index: int) -> Batch:
    return {"id": record["id"], "x": record["x"] + rng.normal(), "index": index}


SHOUTED, NOISY = per_record(shouted), per_record(noisy, stochastic=True, takes_record_indices=True)


def noisy_tokens(record: Batch) -> Batch:
    return {**record, "sum": int(record["tokens"].sum())}


def drawn(record: Batch, rng: np.random.Generator) -> Batch:
    return {**record, "draws": np.array([rng.random(), 0.0])}


def doubled(batch: Batch) -> Batch:
    return {**batch, "id": batch["id"] * 2}


def halved(record: Batch, rng: np.random.Generator) -> Batch:
    return {**record, "draws": np.array([rng.random() / 2, 0.0])}


def marked(record: Batch, rng: np.random.Generator) -> Batch:
    return {**record, "mark": rng.random()}


MARKED, STREAM_DRAWS = per_record(marked, stochastic=True), per_record(drawn, stochastic=True)
HALVED = per_record(halved, stochastic=True)
