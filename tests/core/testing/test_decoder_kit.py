"""The kit of decoders: each of its tests fails for the decoders that break its promise, and for no others."""

import inspect
import multiprocessing
import re
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import pytest
from kit_decoders import broken
from kit_decoders import conformances as made
from kit_decoders.healthy import Conformance, Packed
from kit_runs import docstrings_of, said_on_the_page, verdicts_of

from datarax_core.registry import Decoder
from datarax_core.testing import DecoderConformance
from datarax_core.testing.decoders.examiner import Damages, EndedError, Examiner
from datarax_core.testing.decoders.mutations import Mutation, mutations
from datarax_core.testing.decoders.subject import DecoderSubject

ALSO = {
    broken.Forgiving: ["test_its_schema_says_what_is_accepted"],
}
"""For decoders that break several promises at once: the tests that fail after the first."""

SLOW = {
    "test_a_damaged_record_is_refused_or_fits",
    "test_a_damaged_record_spoils_no_other",
    "test_errors_say_what_was_expected",
}
"""Run only for the decoders that break these promises, and for those that keep all."""


def expected_of(decoder: type[Any]) -> list[str]:
    own = [name for name, decoders in broken.BROKEN.items() if decoder in decoders]
    return [*own, *ALSO.get(decoder, [])]


def test_every_promise_has_a_decoder_that_breaks_it() -> None:
    promises = {name for name, _ in inspect.getmembers(DecoderConformance) if name.startswith("test_")}
    assert promises == broken.BROKEN.keys()


def test_each_broken_decoder_fails_the_test_of_its_promise_first_and_right_ones_fail_none() -> None:
    expected = {f"Test{decoder.__name__}": expected_of(decoder) for decoder in made.CONFORMANCES}
    verdicts = verdicts_of(
        made, expected, lambda cls, test: test not in SLOW or not expected[cls] or test in expected[cls]
    )
    assert {name: verdicts.failed[name] for name in expected} == expected, verdicts.messages
    assert verdicts.ran == broken.BROKEN.keys()
    for (cls, _), text in verdicts.messages.items():
        assert re.match(r"(the )?(decoder|schema|[A-Z]\w+).* (promises|refuses|accepts) ", text), text
        assert "During handling" not in text, cls


def test_the_page_of_the_kit_has_the_docstring_of_each_test() -> None:
    assert said_on_the_page("### The promises of a decoder") == docstrings_of(DecoderConformance)


def message_of(
    decoder: type[Decoder], test: str, tmp_path: Path, conformance: Any = Conformance, **declared: Any
) -> str:
    author = type("Author", (conformance,), {"decoder_class": decoder, **declared})()
    with pytest.raises(pytest.fail.Exception) as caught:
        getattr(author, test)(DecoderSubject(author, tmp_path))
    return str(caught.value)


class Typeless(Packed):
    def encode(self, batch: Any) -> list[bytes]:  # noqa: ARG002 - the signature of Decoder
        raise TypeError("no such thing")


@pytest.mark.parametrize(
    ("test", "declared", "message"),
    [
        ("test_it_is_built_from_its_config", {"config": None}, r"Author does not declare how its decoder is made; give it"),
        ("test_it_is_built_from_its_config", {"batch": None}, r"Author declares no records; give it batch = \{...\}"),
        ("test_it_is_built_from_its_config", {"batch": None, "records": [b"0" * 12]}, r"declares 1 record; give it 2 to 100"),
        ("test_it_is_built_from_its_config", {"batch": None, "records": ["x", "y"]}, r"records that are bytes, but found str"),
        ("test_it_is_built_from_its_config", {"config": {"type": "kitt"}}, r"(?s)validating its config fails: .*kitt"),
        ("test_records_are_the_expected_ones", {"expected_records": {99: {}}}, r"names record 99, and there are 6"),
        ("test_records_are_the_expected_ones", {"expected_records": {0: {"y": 1}}}, r"no field 'y'; its fields are label"),
        ("test_records_are_the_expected_ones", {"expected_records": {0: {"label": 4}}}, r"'label' is 3 where 4 is expected"),
        ("test_every_option_is_refused_or_has_an_effect", {"effective": {"bigg": 1}}, r"Packed has no field 'bigg'"),
        ("test_every_dtype_it_claims", {"dtypes": ["float16"]}, r"claims float16\[\] by dtypes, but refuses field 'label'"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_reported(test: str, declared: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert re.search(message, message_of(Packed, test, tmp_path, **declared))


def test_what_cannot_be_written_is_a_value_error(tmp_path: Path) -> None:
    records = Packed().encode(DecoderSubject(Conformance(), tmp_path).batch)
    found = message_of(Typeless, "test_what_it_writes_it_reads", tmp_path, records=records)
    assert re.search(r"promises to write the batch, but encode\(\) raises TypeError: no such thing", found)


def test_a_decoder_that_blocks_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = multiprocessing.Pipe()
    examiner = Examiner()
    monkeypatch.setattr(examiner, "_started", lambda: here)
    with pytest.raises(EndedError, match=r"did not end in 0\.05 s"):
        list(examiner.reports(int, seconds=0.05))  # type: ignore[arg-type]  # nobody calls it
    assert there.poll()


def test_mutations_are_the_same_in_every_run_and_the_simplest_come_first() -> None:
    records = [b"abcdefgh", b"ijkl"]
    found = mutations(records, 200)
    assert found == mutations(records, 200)
    assert len(found) == 200
    assert found[0].content == b""
    assert not {mutation.content for mutation in found} & set(records)


class Overflowing(Decoder):
    """Takes a length from the bytes, more memory than there is."""

    type: Literal["overflowing"] = "overflowing"

    def element_spec(self) -> Any:
        return {"x": jax.ShapeDtypeStruct((), np.dtype(np.uint8))}

    def decode_record(self, record: bytes) -> Any:
        if record != b"x":
            raise MemoryError("Unable to allocate 2.03 GiB")
        return {"x": np.uint8(1)}


def test_no_more_damage_is_tried_after_the_first_fault() -> None:
    decoder = Overflowing()
    tried = [Mutation(f"number {number}", bytes([number])) for number in range(50)]
    reports = list(Damages(decoder, b"x", decoder.element_spec(), tried, most_seconds=2.0)())
    assert len(reports) == 2
    assert "MemoryError" in reports[1].wrong
