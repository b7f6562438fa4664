"""The decoder npz: exchange with NumPy, and errors of invalid records."""

import io
import struct
import zipfile
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from batches import assert_same

from datarax_arrayrecord.decoders import NpzDecoder
from datarax_core.records.spec import spec_of

BATCH = {"x": np.arange(12, dtype=np.float32).reshape(2, 2, 3), "y": np.array([True, False])}


def saved(*, compressed: bool = False, **arrays: Any) -> bytes:
    """Return the bytes of a file that np.savez writes."""
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def zipped(name: str, content: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr(name, content)
    return buffer.getvalue()


def npy(array: Any, **changed: bytes) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array))
    content = buffer.getvalue()
    for old, new in ((key.encode(), value) for key, value in changed.items()):
        content = content.replace(old, new)
    return content


def read(*records: bytes, **fields: Any) -> Any:
    decoder = NpzDecoder(fields=fields or None)
    return decoder.decode(records, decoder.element_spec() or decoder.spec_from(records[0]))


@pytest.mark.parametrize("compressed", [False, True])
def test_records_written_by_numpy_are_read(compressed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    records = [saved(compressed=compressed, x=BATCH["x"][row], y=BATCH["y"][row]) for row in (0, 1)]
    assert_same(read(*records), BATCH)


@pytest.mark.parametrize("compressed", [False, True])
def test_numpy_reads_written_records_and_equal_rows_give_equal_bytes(compressed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    decoder = NpzDecoder.for_spec(spec_of(BATCH)).model_copy(update={"compressed": compressed})
    records = decoder.encode(BATCH)
    assert records == decoder.encode(BATCH)
    with np.load(io.BytesIO(records[1]), allow_pickle=False) as arrays:
        assert {name: arrays[name].tolist() for name in arrays} == {"x": BATCH["x"][1].tolist(), "y": False}
    with zipfile.ZipFile(io.BytesIO(records[0])) as file:
        assert {info.compress_type for info in file.infolist()} == {
            zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
        }


def test_arrays_in_fortran_order_and_of_another_byte_order_are_read() -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    record = saved(x=np.asfortranarray(array), y=array.astype(">i4"))
    assert_same(read(record), {"x": array[None], "y": array[None]})


def test_bfloat16_that_numpy_saved_is_read_where_it_is_declared() -> None:
    array = np.ones((2, 3), ml_dtypes.bfloat16)
    record = saved(x=array)
    assert_same(read(record, x={"dtype": "bfloat16", "shape": [2, 3]}), {"x": array[None]})
    with pytest.raises(ValueError, match=r"'x' is stored as V2, .* fields: \{x: \{dtype: bfloat16, shape: \[2, 3\]"):
        read(record)
    with pytest.raises(ValueError, match=r"field 'x' is .*V2.* where float8_e5m2\[2, 3\] is expected"):
        read(record, x={"dtype": "float8_e5m2", "shape": [2, 3]})


def test_text_and_bytes_are_objects() -> None:
    batch = {"t": np.array(["a", "bcd"], object), "b": np.array([[b"a", b""], [b"xyz", b"b"]], object)}
    decoder = NpzDecoder.for_spec(spec_of(batch))
    records = decoder.encode(batch)
    assert_same(decoder.decode(records, decoder.element_spec()), batch)
    assert_same(read(*records), batch)


def test_undeclared_arrays_are_skipped() -> None:
    assert read(saved(x=np.int8(1), bad=np.array([None])), x={"dtype": "int8"})["x"].tolist() == [1]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"", "the record is no .npz file: "),
        (saved(x=np.zeros(3))[:-30], "the record is no .npz file: "),
        (saved(x=np.zeros(3)).replace(bytes(24), b"1" * 24), "the record is no .npz file: Bad CRC-32"),
        (saved(x=np.array([None])), "field 'x' holds Python objects, which are never unpickled"),
        (saved(), "the record is a .npz file without arrays"),
        (zipped("x.txt", b"abc"), "the record holds 'x.txt', which is no array"),
        (
            zipped("x.npy", npy(1), zipfile.ZIP_BZIP2),
            "the record holds 'x.npy', which is no array that np.savez writes",
        ),
        (zipped("x.npy", b"abc"), "field 'x' of the record is no .npy file"),
        (zipped("x.npy", b""), "field 'x' of the record is no .npy file"),
        (zipped("x.npy", npy([1.0, 2.0])[:-1]), r"field 'x' has 15 bytes where float64\[2\] has 16"),
        (zipped("x.npy", npy([1.0, 2.0], descr=b"decsr")), "field 'x' of the record is no .npy file"),
        (zipped("x.npy", npy([1, 2]).replace(b"(2,)", b"(-2,)")), "field 'x' of the record is no .npy file"),
        (saved(x=np.frombuffer(b"\2", bool)), "a byte of it is 2, which is no bool"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",  # not the bytes: the time of day is in them
)
def test_a_record_that_is_no_file_of_arrays_is_an_error(record: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(record)


def test_a_record_that_unpacks_to_more_than_the_limit_is_refused() -> None:
    record = bytearray(zipped("x.npy", bytes(1000), zipfile.ZIP_DEFLATED))
    at = record.index(b"PK\x01\x02") + 24
    record[at : at + 4] = struct.pack("<I", 2**32 - 2)
    with pytest.raises(ValueError, match="the record unpacks to more than 2147483647 bytes"):
        read(bytes(record))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.int8(1)}, "field 'x' is missing; the record has none"),
        ({"x": np.int16(1)}, r"field 'x' is int16\[\] \(.*\) where int8\[\] is expected"),
        ({"x": np.zeros(2, np.int8)}, r"field 'x' is int8\[2\] where int8\[\] is expected"),
    ],
)
def test_an_array_that_differs_from_its_declaration_is_an_error(arrays: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(saved(**arrays), x={"dtype": "int8"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a\0"], "has a value that ends with zeros, which npy drops"),
        ([b"a\0"], "has a value that ends with zeros, which npy drops"),
        ([1], "is of objects, and the decoder 'npz' writes text or bytes of them, not 1"),
    ],
)
def test_objects_that_npy_would_change_are_not_written(values: list[Any], message: str) -> None:
    batch = {"x": np.array(values, object)}
    with pytest.raises(ValueError, match=message):
        NpzDecoder.for_spec(spec_of(batch)).encode(batch)


def test_a_decoder_without_fields_does_not_write() -> None:
    with pytest.raises(ValueError, match="the decoder 'npz' writes declared fields only"):
        NpzDecoder().encode(BATCH)
