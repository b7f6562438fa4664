"""Buckets against one length for all: padding of the same documents, records a second, and plans of 10^7 documents."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from _measure import LEAST, Row, against, limited
from flax import nnx

from datarax_core import Pipeline, Ragged
from datarax_core.stages import Pad
from datarax_memory import MemorySource, MemorySourceConfig
from datarax_views import BucketView, BucketViewConfig
from datarax_views.sequences.bucketing.planned import Planned

LONGEST, BATCH, BUCKETS = 512, 64, 8
SERVED, PLANNED = 20_000, 10_000_000


def lengths_of_documents(count: int) -> np.ndarray:
    """Return lengths up to LONGEST, of which 38% are missing where all are padded to the longest."""
    return np.ceil(np.random.default_rng(0).beta(2.0, 1.23, count) * LONGEST).astype(np.int64)


def documents(count: int) -> MemorySource:
    """Return a shuffled source of documents in memory."""
    offsets = np.cumsum([0, *lengths_of_documents(count)])
    column = Ragged(np.random.default_rng(1).integers(1, 50_000, offsets[-1], np.int32), offsets)
    return MemorySource(MemorySourceConfig(shuffle=True), {"tokens": column}, rngs=nnx.Rngs(0))


def bucketed(source: MemorySource, **options: Any) -> BucketView:
    """Return a view of buckets with the least padding."""
    given = {"buckets": BUCKETS, "batch_size": BATCH, "mask_field": "is_token", "remainder": "drop", **options}
    return BucketView(BucketViewConfig(field="tokens", **given), source)


def padded(source: MemorySource) -> Pipeline:
    """Return a pipeline that pads all documents to one length."""
    pad = Pad(field="tokens", length=LONGEST, mask_field="is_token")
    return Pipeline(source=source, stages=[pad], batch_size=BATCH, num_epochs=None, rngs=nnx.Rngs(0))


def served(pipeline: Pipeline, count: int) -> Callable[[], None]:
    """Return a function that serves so many records, and waits for the last batch."""

    def run() -> None:
        left = count
        for batch in pipeline:
            left -= len(batch["tokens"])
            if left <= 0:
                jax.block_until_ready(batch)
                return

    return run


def rows() -> list[Row]:
    """Return padding, speed, and the cost of plans and tables."""
    source = documents(SERVED)
    view = bucketed(source)
    plan = view.planned
    found = [batch["is_token"] for batch in Pipeline(source=view, batch_size=None)]
    share = 1 - sum(int(np.asarray(mask).sum()) for mask in found) / sum(mask.size for mask in found)
    by_bucket = Pipeline(source=view, batch_size=None, num_epochs=None, rngs=nnx.Rngs(0))
    many = lengths_of_documents(PLANNED)
    order = planned(many)
    epochs = iter(range(LEAST))
    return [
        Row(
            f"padding of batches in {BUCKETS} buckets, against one shape",
            f"{plan.padding_of_one:.1%}",
            f"{share:.1%}",
            ratio=share,
            target=0.12,
            bound="at most",
        ),
        against(
            served(padded(source), SERVED // 2),
            served(by_bucket, SERVED // 2),
            records=SERVED // 2,
            what="records/s of a loop, against padding to one length",
            target=0.9,
        ),
        limited(lambda: planned(many), 2.0, what="plan of 10^7 documents, of its limit"),
        limited(
            lambda: order.shuffled(np.array([1, 2], np.uint32), next(epochs)),
            0.5,
            what=f"table of an epoch of {order.num_batches:,} batches, of its limit",
        ),
    ]


def planned(lengths: np.ndarray) -> Any:
    """Return the order of batches of records of these lengths."""
    config = BucketViewConfig(field="tokens", buckets=BUCKETS, batch_size=10)
    return Planned.of(lengths, config.settings(), "documents", "field 'tokens'").order
