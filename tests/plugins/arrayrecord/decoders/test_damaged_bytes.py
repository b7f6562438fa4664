"""Damaged records: every decoder raises RecordError, called by hand too, quickly, and without much memory."""

import io
import random
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest

from datarax_arrayrecord.decoders import ArrayDecoder, ExampleDecoder, MsgpackDecoder, NpzDecoder
from datarax_core import Decoder, RecordError
from datarax_core.records import spec_of


def zipped(name: str, content: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr(name, content)
    return buffer.getvalue()


NUMBERS: dict[str, Any] = {
    "x": np.arange(12, dtype=np.int32).reshape(3, 4),
    "y": np.arange(3, dtype=np.float32),
    "f": np.array([True, False, True]),
}
TEXT = {"t": np.array(["ab", "cde", "ü"], object), "b": np.array([b"ab", b"c", b"dd"], object)}
ALL = {
    **NUMBERS,
    **TEXT,
    "h": np.zeros((3, 2), ml_dtypes.bfloat16),
    "c": np.zeros((3, 2), np.complex64),
    "d": np.array([1, 2, 3], "M8[s]"),
}
EXAMPLE = ExampleDecoder(
    fields={
        "x": {"dtype": "int32", "shape": [4]},
        "y": {"dtype": "float32"},
        "f": {"dtype": "bool"},
        "t": {"dtype": "str"},
        "b": {"dtype": "bytes"},
    }
)


def written(decoder: Any, batch: dict[str, Any], reader: Decoder | None = None) -> tuple[Decoder, list[bytes]]:
    fitted = decoder.for_spec(spec_of(batch)) if isinstance(decoder, type) else decoder
    return reader or fitted, fitted.encode(batch)


KINDS: dict[str, tuple[Decoder, list[bytes]]] = {
    "array": written(ArrayDecoder, NUMBERS),
    "example": written(EXAMPLE, {**NUMBERS, **TEXT}),
    "example without fields": written(EXAMPLE, {**NUMBERS, **TEXT}, ExampleDecoder()),
    "msgpack": written(MsgpackDecoder, ALL),
    "msgpack without fields": written(MsgpackDecoder, ALL, MsgpackDecoder()),
    "npz": written(NpzDecoder, ALL),
    "npz without fields": written(NpzDecoder, {**NUMBERS, **TEXT}, NpzDecoder()),
    "npz compressed": written(
        NpzDecoder(**{**NpzDecoder.for_spec(spec_of(ALL)).model_dump(), "compressed": True}), ALL
    ),
}


def mutated(record: bytes, chance: random.Random) -> bytes:
    changed = bytearray(record)
    for _ in range(chance.choice([1, 1, 2, 4])):
        at, way = chance.randrange(len(changed) or 1), chance.randrange(5)
        if way < 2 and changed:
            changed[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        elif way == 2:
            del changed[at : at + chance.randrange(1, 9)]
        elif way == 3:
            changed[at:at] = chance.randbytes(chance.randrange(1, 9))
        else:
            del changed[at + 1 :]
    return bytes(changed)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_are_a_record_error_or_other_values(kind: str) -> None:
    decoder, records = KINDS[kind]
    spec, chance = decoder.element_spec() or decoder.spec_from(records[0]), random.Random(7)  # noqa: S311 - a fixed seed
    calls: list[Callable[[bytes], Any]] = [
        decoder.spec_from,
        lambda record: decoder.decode([record], spec),
        lambda record: decoder.decode([*records, record], spec),
    ]
    refused = 0
    for _ in range(150):
        record = mutated(chance.choice(records), chance)
        for call in calls:
            try:
                call(record)
            except RecordError:
                refused += 1
    assert refused > 50


RAW: list[tuple[Decoder, bytes, str]] = [
    (MsgpackDecoder(), b"\x81\xa1a\x01\x02", "extra data"),
    (MsgpackDecoder(), b"\xc1", "it is not msgpack .FormatError"),
    (MsgpackDecoder(), b"\x81\xa1\xff\x01", "can't decode byte 0xff"),
    (MsgpackDecoder(), msgpack.packb({"x": msgpack.ExtType(1, b"\x93\x01")}), "an extension type in it is damaged"),
    (
        MsgpackDecoder(),
        msgpack.packb({"x": msgpack.ExtType(2, b"\x92\xa1a\x01")}),
        "a complex number in it has not two",
    ),
    (MsgpackDecoder(), msgpack.packb({"x": msgpack.ExtType(1, msgpack.packb(([2] * 90, "u1", b"")))}), "90 axes"),
    (MsgpackDecoder(), b"\x91" * 5000, "no map of msgpack's"),
    (NpzDecoder(), zipped("x.npy", b"\x93NUMPY\x01"), "'x' of the record is no .npy file"),
    (NpzDecoder(), zipped("x.npy", b"x" * 90)[:-30], "no .npz file"),
    (ExampleDecoder(), b"\x0a\xff", "no tf.train.Example"),
]


@pytest.mark.parametrize(("decoder", "record", "message"), RAW)
def test_errors_of_libraries_come_as_record_errors(decoder: Decoder, record: bytes, message: str) -> None:
    for call in (decoder.spec_from, lambda given: decoder.decode([given], {"x": spec_of(NUMBERS)["y"]})):
        with pytest.raises(RecordError, match=message):
            call(record)


def test_the_error_has_the_place_of_the_record() -> None:
    decoder, records = KINDS["msgpack"]
    with pytest.raises(RecordError, match="no map of msgpack's") as caught:
        decoder.decode([*records, b"\xc1", *records], decoder.element_spec())
    assert caught.value.record == 3


def test_a_decoder_of_a_third_party_raises_record_errors_too() -> None:
    class Third(Decoder):
        type: Any = "third"

        def decode_record(self, record: bytes) -> Any:
            if record == b"slow":
                raise TimeoutError
            return {"n": {b"a": 1}[record]}

    spec = Third().spec_from(b"a")
    with pytest.raises(RecordError, match="KeyError: b'b'") as caught:
        Third().decode([b"a", b"b"], spec)
    assert caught.value.record == 1
    with pytest.raises(TimeoutError):
        Third().decode([b"slow"], spec)


def header_of(dtype: str, shape: Sequence[int]) -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {tuple(shape)!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


DECLARED = NpzDecoder(fields={"x": {"dtype": "uint8", "shape": [4]}})
BOMB = zipped("x.npy", header_of("|u1", [50_000_000]) + bytes(50_000_000), 8)


@pytest.mark.parametrize(
    ("decoder", "record", "message"),
    [
        (NpzDecoder(), zipped("x.npy", header_of("|S0", [200_000_000]), 8), r"\|S0\[200000000\], which \d+ bytes do not hold"),
        (NpzDecoder(), zipped("x.npy", header_of("<U0", [30000, 30000]), 8), "bytes do not hold"),
        (DECLARED, BOMB, r"'x' unpacks to 5\d+ bytes where 65540 are expected at most"),
    ],
)  # fmt: skip
def test_what_a_record_declares_is_bounded_before_memory_is_taken(
    decoder: NpzDecoder, record: bytes, message: str
) -> None:
    began = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(RecordError, match=message):
        decoder.decode([record], DECLARED.element_spec())
    with pytest.raises(RecordError, match=message):
        NpzDecoder().decode([record], DECLARED.element_spec())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 << 20
    assert time.perf_counter() - began < 2


def test_few_items_without_bytes_are_read() -> None:
    record = zipped("x.npy", header_of("|S0", [3]))
    assert NpzDecoder().decode([record], NpzDecoder().spec_from(record))["x"].tolist() == [[b"", b"", b""]]
