"""The conformance tests of sources, for buckets that are padded, and for buckets of ragged columns."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datarax_core.records import Ragged
from datarax_core.testing import Shows, SourceConformance

LENGTH = 60
LENGTHS = np.random.default_rng(0).integers(1, 30, LENGTH)
DOCUMENTS = Ragged(np.arange(LENGTHS.sum(), dtype=np.int32), np.concatenate([[0], np.cumsum(LENGTHS)]))

_NEEDS_BUCKETS = {"bounds": None, "buckets": 3}
_NEEDS_TOKENS = {"batch_size": None, "tokens": 100}


class _OfFiles(SourceConformance):
    expected_length = LENGTH
    options: ClassVar[dict[str, Any]] = {}

    def make_config(self, folder: Path) -> dict[str, Any]:
        columns = {"tokens": DOCUMENTS.values, "tokens.offsets": DOCUMENTS.offsets, "id": np.arange(LENGTH)}
        np.savez(folder / "documents.npz", **columns)
        documents = {"type": "memory", "path": str(folder / "documents.npz"), "shuffle": True}
        return {
            "type": "bucket",
            "source": documents,
            "field": "tokens",
            "bounds": [8, 16, 32],
            "batch_size": 7,
            **self.options,
        }

    effective: ClassVar[Any] = {
        "bounds": [4, 32],
        "buckets": Shows(value=2, needs={"bounds": None}),
        "multiple_of": Shows(value=2, needs=_NEEDS_BUCKETS),
        "max_length": Shows(value=16, needs={**_NEEDS_BUCKETS, "too_long": "truncate"}),
        "tokens": Shows(value=64, needs={"batch_size": None}),
        "batch_multiple_of": Shows(value=2, needs=_NEEDS_TOKENS),
        "too_long": Shows(value="drop", needs={"bounds": [8, 16]}, at=lambda source: source.epoch_length),
        "remainder": Shows(value="drop", at=lambda source: source.epoch_length),
    }
    shown_elsewhere: ClassVar[Any] = {
        "source": "every test of this class",
        "field": "test_bucket.py::test_the_longest_field_of_a_record_decides_its_bucket",
        "length_field": "test_bucket.py::test_lengths_may_come_from_a_field",
        "lengths_as": "test_bucket.py::test_a_batch_is_padded_to_the_bound_of_its_bucket",
        "mask_field": "test_bucket.py::test_a_batch_is_padded_to_the_bound_of_its_bucket",
    }


class TestPadded(_OfFiles):
    options: ClassVar[dict[str, Any]] = {"mask_field": "is_token", "side": "left"}


class TestRaggedColumns(_OfFiles):
    options: ClassVar[dict[str, Any]] = {"pad": False}
