"""Record ids of batches, and states through JSON, for tests of pipelines over streams."""

import json
from itertools import islice
from typing import Any

import numpy as np


def ids(batches: Any) -> list[list[int]]:
    """Return the field ``id`` of each batch."""
    return [np.asarray(batch["id"]).tolist() for batch in batches]


def first(count: int, batches: Any) -> list[list[int]]:
    """Return the field ``id`` of the first ``count`` batches."""
    return ids(islice(batches, count))


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as it is after it was written to JSON and read back."""
    back: dict[str, Any] = json.loads(json.dumps(state, allow_nan=False))
    return back
