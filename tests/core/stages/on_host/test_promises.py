"""Core's stages on the host keep the promises of every host stage, and what they make of a record depends on it alone."""

from typing import Any

import numpy as np

from datarax_core.records import Ragged
from datarax_core.stages import AsType, Lookup, Pad, Rename, Select, TokenizeBytes, Truncate, per_record
from datarax_core.testing import HostStageConformance, Shows, check_host_stage

LENGTHS = [0, 3, 11, 1, 0, 7, 20, 2, 5, 4]
IMAGES = [np.arange(h * w, dtype=np.uint8).reshape(h, w) for h, w in zip(range(1, 11), range(10, 0, -1), strict=True)]
TEXTS = ["", "a", "naïve", "日本語", "a longer text, of some words", "x", "yy", "zzz", "a", "b"]
RECORDS = {
    "tokens": [np.arange(length, dtype=np.int32) for length in LENGTHS],
    "images": Ragged.from_list(IMAGES),
    "text": TEXTS,
    "raw": [text.encode() for text in TEXTS],
    "name": ["cat", "dog", "cat", "owl", "owl", "dog", "cat", "cat", "owl", "dog"],
    "id": np.arange(10) * 2**20,
    "inner": {"x": np.linspace(0, 1, 10)},
}
LONG = {"tokens": np.arange(30, dtype=np.int32), "images": IMAGES[0], "text": "", "raw": b"", "name": "wolf", "id": 0}
DAMAGED = LONG | {"inner": {"x": 0.5}}


def conformance(config: Any, **declared: Any) -> type[HostStageConformance]:
    return type("Conformance", (HostStageConformance,), {"config": config, "records": RECORDS, **declared})


TestPad = conformance(
    Pad(field="tokens", length=24, mask_field="mask", length_field="length"),
    effective={"truncate": Shows(value="right", needs={"length": 8})},
    damaged=DAMAGED,
)
TestPadOnTheLeft = conformance(Pad(field="tokens", length=8, truncate="left", side="left", value=-1))
TestPadToSeveralLengths = conformance(
    Pad(field="tokens", lengths=(8, 24)), effective={"truncate": Shows(value="right", needs={"lengths": (2, 8)})}
)
TestPadImages = conformance(
    Pad(field="images", length=(12, 12)), effective={"truncate": Shows(value="right", needs={"length": (8, 8)})}
)
TestTruncate = conformance(
    Truncate(field="tokens", length=4), expected={"tokens": [np.arange(min(length, 4)) for length in LENGTHS]}
)
TestTokenizeBytes = conformance(TokenizeBytes(field="text", to="bytes", bos=256, eos=257))
TestTokenizeBytesOfOneLength = conformance(TokenizeBytes(field="raw", length=6, offset=3, dtype="uint16"))
TestLookup = conformance(Lookup(field="name", classes=("cat", "dog", "owl")), damaged=DAMAGED)
TestAsType = conformance(AsType(field="tokens", dtype="uint8", lossy=True))
TestAsTypeOfFloats = conformance(AsType(field="inner.x", dtype="float16", lossy=True))
TestSelect = conformance(Select(fields=("tokens", "inner.x")))
TestRename = conformance(Rename(fields={"tokens": "ids", "inner.x": "y"}), effective={"fields": {"id": "number"}})


def summed(record: Any) -> Any:
    return {"sum": record["tokens"].sum(), "length": len(record["text"])}


class TestPerRecord(HostStageConformance):
    records = RECORDS
    expected = {"length": [len(text) for text in TEXTS]}

    def make_stage(self, folder: Any) -> Any:  # noqa: ARG002 - of the kit
        return per_record(summed)


def test_the_check_takes_a_config() -> None:
    batch = {"tokens": Ragged.from_list(RECORDS["tokens"]), "id": RECORDS["id"]}  # type: ignore[arg-type]
    assert check_host_stage(Pad(field="tokens", length=24), batch)["tokens"].shape == (10, 24)
