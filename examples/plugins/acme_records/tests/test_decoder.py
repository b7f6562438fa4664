"""Packets, samples of one number, and what is refused."""

import re
from typing import Any

import jax
import numpy as np
import pytest

from acme_records import AcmeRecords
from datarax_core import DecoderRegistry

BATCH = {
    "sensor": np.array([7, 8], np.uint32),
    "second": np.array([1, 2], np.uint32),
    "samples": np.array([[0.5, 1.5], [2.5, -1]], np.float32),
}


def packet(**fields: Any) -> bytes:
    return AcmeRecords(num_samples=2).encode({**BATCH, **fields})[0]


def test_it_is_found_by_its_name() -> None:
    assert DecoderRegistry.from_environment().get("acme_records") is AcmeRecords


def test_a_packet_is_these_bytes() -> None:
    assert packet().hex(" ", 4) == "41430100 07000000 01000000 02000000 0000003f 0000c03f c66dc59d"


def test_samples_of_one_number_are_an_array() -> None:
    decoder = AcmeRecords(num_samples=2)
    read = decoder.decode(decoder.encode(BATCH), decoder.element_spec())
    assert read["samples"].tolist() == [[0.5, 1.5], [2.5, -1]]
    assert read["samples"].dtype == np.float32


def test_another_number_of_samples_is_refused() -> None:
    decoder = AcmeRecords(num_samples=3)
    with pytest.raises(ValueError, match="the packet has 2 samples where num_samples is 3; leave that out"):
        decoder.decode([packet()], decoder.element_spec())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:12], "the record has 12 bytes where a packet has 20 at least"),
        (lambda content: b"XX" + content[2:], "the record begins with b'XX' where a packet begins with b'AC'"),
        (
            lambda content: content[:2] + b"\2" + content[3:],
            "the packet has version 2, and this decoder reads version 1",
        ),
        (lambda content: content[:-4], "the record has 24 bytes where its 2 samples make 28"),
        (lambda content: content[:20] + b"\1" + content[21:], "the checksum of the packet is 0x"),
    ],
)
def test_a_record_that_is_no_packet_is_refused(damage: Any, message: str) -> None:
    decoder = AcmeRecords()
    with pytest.raises(ValueError, match=re.escape(message)):
        decoder.decode([packet(), damage(packet())], decoder.element_spec())


def test_a_batch_with_other_fields_is_refused() -> None:
    for other in ({"x": np.zeros(2)}, {**BATCH, "second": np.array([1, -1])}, {**BATCH, "samples": np.zeros((2, 2))}):
        with pytest.raises(ValueError, match=r"a packet cannot hold this batch: .*field"):
            AcmeRecords(num_samples=2).encode(other)


@pytest.mark.parametrize("num_samples", [None, 5])
def test_the_decoder_for_a_spec_has_that_spec(num_samples: int | None) -> None:
    spec = AcmeRecords(num_samples=num_samples).element_spec()
    assert AcmeRecords.for_spec(spec) == AcmeRecords(num_samples=num_samples)


@pytest.mark.parametrize(
    "samples",
    [
        jax.ShapeDtypeStruct((3,), np.dtype(np.float64)),
        jax.ShapeDtypeStruct((3, 2), np.dtype(np.float32)),
        jax.ShapeDtypeStruct((), np.dtype(np.float32)),
    ],
)
def test_no_decoder_is_made_for_other_records(samples: jax.ShapeDtypeStruct) -> None:
    spec = {**AcmeRecords().element_spec(), "samples": samples}
    with pytest.raises(ValueError, match=r"a packet is .*, and the records are"):
        AcmeRecords.for_spec(spec)
