"""Core's stages on the host keep the promises of every host stage, and what they make of a record depends on it alone."""

from typing import Any

import numpy as np
import pytest

from datarax_core import Stage
from datarax_core.records import Ragged
from datarax_core.stages import AsType, Lookup, Pad, Rename, Select, TokenizeBytes, Truncate, per_record
from datarax_core.testing import check_host_stage

LENGTHS = [0, 3, 11, 1, 0, 7, 20, 2, 5, 4]
IMAGES = [np.arange(h * w, dtype=np.uint8).reshape(h, w) for h, w in zip(range(1, 11), range(10, 0, -1), strict=True)]
TEXTS = ["", "a", "naïve", "日本語", "a longer text, of some words", "x", "yy", "zzz", "a", "b"]


def column(values: list[Any]) -> np.ndarray:
    made = np.empty(len(values), object)
    made[:] = values
    return made


BATCH = {
    "tokens": Ragged.from_list([np.arange(length, dtype=np.int32) for length in LENGTHS]),
    "images": Ragged.from_list(IMAGES),
    "text": column(TEXTS),
    "raw": column([text.encode() for text in TEXTS]),
    "name": column(["cat", "dog", "cat", "owl", "owl", "dog", "cat", "cat", "owl", "dog"]),
    "id": np.arange(10) * 2**40,
    "inner": {"x": np.linspace(0, 1, 10)},
}


def summed(record: Any) -> Any:
    return {"sum": record["tokens"].sum(), "length": len(record["text"])}


@pytest.mark.parametrize(
    "stage",
    [
        Pad(field="tokens", length=24, mask_field="mask", length_field="length"),
        Pad(field="tokens", length=8, truncate="left", side="left", value=-1),
        Pad(field="tokens", lengths=(8, 24)),
        Pad(field="images", length=(12, 12)),
        Pad(field="tokens", length=24),
        Truncate(field="tokens", length=4),
        TokenizeBytes(field="text", to="bytes", bos=256, eos=257),
        TokenizeBytes(field="raw", length=6, offset=3, dtype="uint16"),
        Lookup(field="name", classes=("cat", "dog", "owl")),
        AsType(field="tokens", dtype="uint8", lossy=True),
        AsType(field="inner.x", dtype="float16", lossy=True),
        Select(fields=("tokens", "inner.x")),
        Rename(fields={"tokens": "ids", "inner.x": "y"}),
        per_record(summed),
    ],
    ids=lambda stage: stage.type if isinstance(stage, Stage) else stage.name,
)
def test_a_stage_keeps_its_promises(stage: Any) -> None:
    check_host_stage(stage, BATCH)
