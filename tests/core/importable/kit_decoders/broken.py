"""Decoders that break one promise each."""

import functools
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, PrivateAttr, field_validator

from datarax_core.records.elements import batch_of

from . import healthy
from .healthy import BATCH, Conformance, Json, JsonConformance, Packed

SCRATCH: dict[str, np.ndarray] = {}
OF_THIS_PROCESS = os.getpid()
WORDS: list[str] = []


class Unbuildable(Packed):
    def decode_record(self, record: bytes) -> Any:
        return {"label": {b"unknown": 1}[record]}


class Forgiving(Packed):
    model_config = ConfigDict(extra="ignore")


class Ignoring(Packed):
    level: int = 1


class Changeable(Packed):
    model_config = ConfigDict(frozen=False)


class Scaled(Packed):
    """Shifts labels by a number that grows each time it is validated."""

    shift: int = 0

    @field_validator("shift")
    @classmethod
    def _again(cls, shift: int) -> int:
        return shift + 1

    def decode_record(self, record: bytes) -> Any:
        found = super().decode_record(record)
        return {**found, "label": found["label"] ^ np.int32(self.shift)}

    def parts(self, label: Any, x: Any, word: Any) -> Any:
        return super().parts(label ^ np.int32(self.shift), x, word)


class ByText(Packed):
    case: Annotated[Literal["as", "upper"], BeforeValidator(lambda text: text.lower())] = "as"

    def decode_record(self, record: bytes) -> Any:
        found = super().decode_record(record)
        return found if self.case == "as" else {**found, "word": found["word"].upper()}


class Lenient(Packed):
    big: Annotated[bool, BeforeValidator(lambda value: value in (True, 1, "yes"))] = False


class WideFloats(Packed):
    """Decodes batches to another dtype than it says."""

    def decode(self, records: Sequence[bytes], spec: Any) -> Any:
        found = super().decode(records, spec)
        return {**found, "x": found["x"].astype(np.float64)}


class Uncovering(Json):
    """Says of the first record alone what all hold."""

    def covering(self, spec: Any, record: bytes) -> Any:  # noqa: ARG002 - the signature of Decoder
        return spec


class Contrary(Json):
    def difference(self, record: bytes, spec: Any) -> str:  # noqa: ARG002 - the signature of Decoder
        return "it has other fields"


class Swapped(Packed):
    def decode_record(self, record: bytes) -> Any:
        found = super().decode_record(record)
        return {**found, "x": found["x"][::-1]}

    def parts(self, label: Any, x: Any, word: Any) -> Any:
        return super().parts(label, x[:, ::-1], word)


class Deduplicating(Packed):
    def decode(self, records: Sequence[bytes], spec: Any) -> Any:
        return (
            super().decode(sorted(records), spec) if len(set(records)) < len(records) else super().decode(records, spec)
        )


class Apart(Packed):
    """Decodes one record otherwise than many."""

    def decode(self, records: Sequence[bytes], spec: Any) -> Any:
        return batch_of([Packed.decode_record(self, record) for record in records], spec, str)

    def decode_record(self, record: bytes) -> Any:
        found = super().decode_record(record)
        return {**found, "label": -found["label"]}


class Reusing(Packed):
    def decode(self, records: Sequence[bytes], spec: Any) -> Any:
        found = super().decode(records, spec)
        column = SCRATCH.setdefault(f"x{len(records)}", np.empty((len(records), 2), np.float32))
        column[...] = found["x"]
        return {**found, "x": column}


@functools.lru_cache(maxsize=1000)
def _word_of(record: bytes) -> str:
    return record[12:].decode()


class Caching(Packed):
    def decode_record(self, record: bytes) -> Any:
        found = super().decode_record(record)
        return {**found, "word": _word_of(record)}


class Guessing(Json):
    """Decodes what records hold, whatever else the spec says."""

    def decode(self, records: Sequence[bytes], spec: Any) -> Any:
        known = {name: leaf for name, leaf in spec.items() if name in self.decode_record(records[0])}
        return super().decode(records, known)


class Rounding(Packed):
    def parts(self, label: Any, x: Any, word: Any) -> Any:
        return super().parts(label, (x / 3).astype(np.float16).astype(np.float32) * 3, word)


class NoNegativeZero(Packed):
    def parts(self, label: Any, x: Any, word: Any) -> Any:
        return super().parts(label, x + np.float32(0.0), word)


class Raw(Packed):
    """Writes the memory of columns as it is."""

    def parts(self, label: Any, x: Any, word: Any) -> Any:
        return zip(
            [each.tobytes() for each in label],
            [each.tobytes() for each in x],
            [each.encode() for each in word],
            strict=True,
        )


class Unfitted(Packed):
    size: int

    def decode_record(self, record: bytes) -> Any:
        found = super().decode_record(record)
        return {**found, "word": found["word"][: self.size]}


class Narrowing(Packed):
    def encode(self, batch: Any) -> list[bytes]:
        if batch.get("label") is not None and batch["label"].dtype.kind in "iu" and batch["label"].ndim == 1:
            batch = {**batch, "label": batch["label"].astype(np.int32)}
        return super().encode(batch)


class Dropping(Packed):
    def encode(self, batch: Any) -> list[bytes]:
        return super().encode({name: batch[name] for name in ("label", "x", "word") if name in batch})


class Shared(Packed):
    """Keeps the records of a call where all threads see them."""

    def decode(self, records: Sequence[bytes], spec: Any) -> Any:
        WORDS[:] = [record[12:].decode() for record in records]
        time.sleep(0.0005)
        found = super().decode(records, spec)
        words = np.empty(len(records), object)
        words[:] = (WORDS + [""] * len(records))[: len(records)]
        return {**found, "word": words}


class Locked(Packed):
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


class AtHome(Packed):
    """Decodes by a table of the process that imported it."""

    def decode_record(self, record: bytes) -> Any:
        if os.environ.get("KIT_PROCESS") != str(os.getpid()):
            raise ValueError("the table of words is empty, and three are expected")
        return super().decode_record(record)


class Homeless(Packed):
    """Its module can be imported in the process of the tests alone."""


if multiprocessing.parent_process() is None:
    Homeless.__module__ = "kit_home"
    sys.modules["kit_home"] = ModuleType("kit_home")
    vars(sys.modules["kit_home"])["Homeless"] = Homeless


class Crashing(Packed):
    def decode_record(self, record: bytes) -> Any:
        if not record:
            os.abort()
        return super().decode_record(record)


class Endless(Packed):
    def decode_record(self, record: bytes) -> Any:
        while not record:
            pass
        return super().decode_record(record)


class Sluggish(Packed):
    def decode_record(self, record: bytes) -> Any:
        began = time.process_time()
        while not record and time.process_time() - began < 0.15:
            pass
        return super().decode_record(record)


class Greedy(Packed):
    """Takes the memory that a damaged length asks for."""

    def decode_record(self, record: bytes) -> Any:
        if len(record) == 1:
            np.empty(400_000_000, np.uint8)
        return super().decode_record(record)


class Panic(BaseException):
    """An error such as those of Rust, which is no Exception."""


class Panicking(Packed):
    def decode_record(self, record: bytes) -> Any:
        if len(record) < 12:
            raise Panic("range end index 12 out of range")
        return super().decode_record(record)


class Skipping(Packed):
    """Leaves out records that it cannot decode."""

    def decode(self, records: Sequence[bytes], spec: Any) -> Any:
        return super().decode([record for record in records if len(record) >= 12] or [bytes(12)] * 2, spec)


class Padding(Packed):
    """Fills up short records, if they are in company."""

    def decode(self, records: Sequence[bytes], spec: Any) -> Any:
        if len(records) > 1:
            records = [record.ljust(12, b"\0") for record in records]
        return super().decode(records, spec)


class Terse(Packed):
    def decode_record(self, record: bytes) -> Any:
        record[11]
        return super().decode_record(record)


class UnfittedConformance(Conformance):
    config = {"type": "kit", "size": 9}
    shown_elsewhere = {"size": "test_sizes.py"}


class SwappedConformance(Conformance):
    def make_records(self, folder: Path) -> list[bytes]:  # noqa: ARG002 - the kit's signature
        return Packed().encode({**BATCH, "word": np.array(BATCH["word"], object)})


class EndlessConformance(Conformance):
    most_seconds = 0.1


class ByTextConformance(Conformance):
    config = {"type": "kit", "case": "AS"}


class AtHomeConformance(Conformance):
    @property
    def registry(self) -> Any:
        os.environ["KIT_PROCESS"] = str(os.getpid())
        return super().registry


BROKEN = {
    "test_it_is_built_from_its_config": [Unbuildable],
    "test_an_unknown_option_is_refused": [Forgiving],
    "test_every_option_is_refused_or_has_an_effect": [Ignoring],
    "test_a_config_never_changes": [Changeable],
    "test_a_config_survives_json": [Scaled],
    "test_its_schema_says_what_is_accepted": [ByText],
    "test_numbers_and_flags_are_strict": [Lenient],
    "test_the_spec_of_one_record_is_true_of_all": [WideFloats, Uncovering, Contrary],
    "test_records_are_the_expected_ones": [Swapped],
    "test_a_batch_is_its_records_in_any_order": [Deduplicating],
    "test_a_record_by_itself_is_its_row": [Apart],
    "test_a_batch_that_was_given_away_is_left_alone": [Reusing],
    "test_the_bytes_are_not_kept": [Caching],
    "test_a_record_that_differs_is_named": [Guessing],
    "test_what_it_writes_it_reads": [Rounding],
    "test_every_value_is_kept": [NoNegativeZero],
    "test_columns_of_any_layout_are_written_alike": [Raw],
    "test_for_spec_makes_one_that_fits": [Unfitted],
    "test_every_dtype_it_claims": [Narrowing],
    "test_a_batch_of_other_fields_is_refused": [Dropping],
    "test_threads_decode_at_once": [Shared],
    "test_a_copy_by_pickle_decodes_alike": [Locked],
    "test_it_decodes_in_a_spawned_process": [AtHome, Homeless],
    "test_a_damaged_record_is_refused_or_fits": [Sluggish, Greedy, Panicking, Skipping, Crashing, Endless],
    "test_a_damaged_record_spoils_no_other": [Padding],
    "test_errors_say_what_was_expected": [Terse],
}
"""For each promise, the decoders that break it."""

CONFORMANCES = {
    decoder: JsonConformance if issubclass(decoder, healthy.Json) else Conformance
    for decoders in BROKEN.values()
    for decoder in decoders
}
CONFORMANCES |= {
    Unfitted: UnfittedConformance,
    ByText: ByTextConformance,
    Swapped: SwappedConformance,
    Endless: EndlessConformance,
    Sluggish: EndlessConformance,
    AtHome: AtHomeConformance,
}
