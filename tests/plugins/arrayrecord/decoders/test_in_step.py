"""Records that are read in step, many at once: their values and errors are those of each record by itself."""

import random
import struct
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from batches import assert_same

from datarax_arrayrecord.decoders import ExampleDecoder, MsgpackDecoder
from datarax_arrayrecord.decoders import example_wire as wire
from datarax_core.records import Ragged
from datarax_core.registry import Decoder

INTEGERS = [0, 1, 127, 128, 255, 256, 2**14 - 1, 2**14, 2**31, 2**56, 2**63 - 1, -1, -33, -129, -(2**15) - 1, -(2**63)]
LENGTHS = [*range(140), *range(240, 270), 8000, 8180, 8190, 8192, 16370, 16384, 16400, 70_000]


def record_of(features: dict[str, list[Any]], order: list[str] | None = None) -> bytes:
    """Return an Example with its features in an order; what they hold says the kind of list."""
    parts = []
    for name in order or list(features):
        values = features[name]
        kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}[type(values[0])]
        message = wire.Example()
        getattr(message.features.feature[name], kind).value.extend(values)
        record = message.SerializeToString()
        parts.append(record[len(wire.header(len(record))) :])
    return wire.record_of(parts)


def outcome(decoder: Decoder, records: list[bytes], row: int = -1) -> Any:
    """Return the values of one row, or the error of all records."""
    try:
        batch = decoder.decode(records, decoder.element_spec())
    except ValueError as error:
        return str(error)
    return {name: column[row].tobytes() if column.dtype != object else column[row] for name, column in batch.items()}


def damaged(record: bytes, chance: random.Random) -> bytes:
    """Return a record with bytes that are flipped, cut off, swapped, taken out, or too many."""
    broken, at = bytearray(record), chance.randrange(min(len(record), chance.choice([8, 40, 10_000])))
    other = chance.randrange(len(record))
    match chance.randrange(6):
        case 0:
            broken[at] = chance.randrange(256)
        case 1:
            broken[at] ^= 1 << chance.randrange(8)
        case 2:
            del broken[at:]
        case 3:
            broken[at], broken[other] = broken[other], broken[at]
        case 4:
            del broken[at : at + chance.randint(1, 4)]
        case _:
            broken += bytes(chance.randrange(256) for _ in range(chance.randint(1, 4)))
    return bytes(broken)


# -- Examples -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 16, 256])
def test_texts_bytes_and_integers_of_every_width_are_read(count: int) -> None:
    chance = random.Random(count)  # noqa: S311 - draws records
    rows = [
        {
            "image": [bytes(chance.randrange(256) for _ in range(12))],
            "text": ["é".encode() + b"x" * chance.choice(LENGTHS)],
            "label": [chance.choice(INTEGERS)],
            "ids": [chance.choice(INTEGERS) for _ in range(3)],
            "raw": [bytes(chance.choice(LENGTHS))],
            "tokens": [chance.choice(INTEGERS) for _ in range(chance.randint(1, 40))],
        }
        for _ in range(count)
    ]
    fields = {
        "image": {"dtype": "uint8", "shape": [3, 4]},
        "text": {"dtype": "str"},
        "label": {"dtype": "int64"},
        "ids": {"dtype": "int64", "shape": [3]},
        "raw": {"dtype": "bytes"},
        "tokens": {"dtype": "int64", "shape": [None]},
    }
    decoder = ExampleDecoder(fields=fields)
    batch = decoder.decode([record_of(row) for row in rows], decoder.element_spec())
    assert batch["image"].tobytes() == b"".join(row["image"][0] for row in rows)
    assert batch["text"].tolist() == [row["text"][0].decode() for row in rows]
    assert batch["label"].tolist() == [row["label"][0] for row in rows]
    assert batch["ids"].tolist() == [row["ids"] for row in rows]
    assert batch["raw"].tolist() == [row["raw"][0] for row in rows]
    assert [tokens.tolist() for tokens in batch["tokens"]] == [row["tokens"] for row in rows]


@pytest.mark.parametrize("size", [10, 9000, 40_000])
@pytest.mark.parametrize("count", [8, 100])
def test_features_in_any_order_and_some_of_them_missing(size: int, count: int) -> None:
    chance = random.Random(size)  # noqa: S311 - shuffles features
    names = ["a", "image/encoded", "image/enclosed", "t", "x"]
    records, rows = [], []
    for at in range(count):
        row = {
            "a": [at * 1000],
            "image/encoded": [bytes(size + at % 3)],
            "image/enclosed": [b"%d" % at],
            "t": [float(at), 0.5],
            "x": [at, -1],
        }
        order = [name for name in names if chance.random() < 0.8] or names
        chance.shuffle(order)
        records.append(record_of(row, order))
        rows.append({name: row[name] for name in order})
    decoder = ExampleDecoder(
        fields={
            "a": {"dtype": "int32", "default": -7},
            "image/encoded": {"dtype": "bytes", "default": "none"},
            "t": {"dtype": "float32", "shape": [2], "default": 3},
            "x": {"dtype": "int64", "shape": [None], "default": []},
        }
    )
    batch = decoder.decode(records, decoder.element_spec())
    assert batch["a"].tolist() == [row.get("a", [-7])[0] for row in rows]
    assert batch["image/encoded"].tolist() == [row.get("image/encoded", [b"none"])[0] for row in rows]
    assert batch["t"].tolist() == [row.get("t", [3, 3]) for row in rows]
    assert [values.tolist() for values in batch["x"]] == [row.get("x", []) for row in rows]


def test_a_feature_that_some_records_lack_has_the_error_of_such_a_record_alone() -> None:
    chance = random.Random(0)  # noqa: S311 - shuffles features
    rows = [record_of({"a": [1], "b": [2], "c": [3]}, chance.sample("abc", 3)) for _ in range(40)]
    rows[23] = record_of({"a": [1], "c": [3]})
    decoder = ExampleDecoder(fields={"b": {"dtype": "int64"}})
    with pytest.raises(ValueError, match="the feature 'b' is missing; the record has 'a', 'c'") as error:
        decoder.decode(rows, decoder.element_spec())
    assert error.value.record == 23  # type: ignore[attr-defined]


def test_an_unknown_feature_in_another_order_is_refused_where_no_field_is_declared() -> None:
    chance = random.Random(0)  # noqa: S311 - shuffles features
    rows = [record_of({"a": [1], "b": [2]}, chance.sample("ab", 2)) for _ in range(40)]
    decoder = ExampleDecoder()
    spec = decoder.spec_from(rows[0])
    assert decoder.decode(rows, spec)["b"].tolist() == [2] * 40
    more = [record_of({"a": [1], "b": [2], "z": [3]}, chance.sample("abz", 3)) for _ in range(40)]
    with pytest.raises(ValueError, match="the record has the feature 'z', which the first record does not have"):
        decoder.decode([*rows, *more], spec)


def test_records_whose_lengths_differ_much_are_joined_without_padding() -> None:
    rows = [{"a": [bytes(100_000 if at == 5 else at)], "b": [at]} for at in range(60)]
    decoder = ExampleDecoder(fields={"a": {"dtype": "bytes"}, "b": {"dtype": "int64"}})
    batch = decoder.decode([record_of(row) for row in rows], decoder.element_spec())
    assert_same(batch, {"a": np.array([row["a"][0] for row in rows], object), "b": np.arange(60)})


def test_batches_of_more_bytes_than_are_read_at_once() -> None:
    rows = [{"a": [bytes([at % 251]) * 3000], "b": [at]} for at in range(4096)]
    decoder = ExampleDecoder(fields={"a": {"dtype": "uint8", "shape": [3000]}, "b": {"dtype": "int64"}})
    batch = decoder.decode([record_of(row) for row in rows], decoder.element_spec())
    assert batch["b"].tolist() == list(range(4096))
    assert (batch["a"] == (np.arange(4096) % 251)[:, None]).all()


@pytest.mark.parametrize("shuffles", [False, True])
def test_a_damaged_example_is_read_alike_alone_and_among_others(*, shuffles: bool) -> None:
    chance = random.Random(int(shuffles))  # noqa: S311 - damages records
    decoder = ExampleDecoder(
        fields={
            "label": {"dtype": "int64"},
            "image": {"dtype": "uint8", "shape": [20]},
            "text": {"dtype": "str"},
            "v": {"dtype": "float32", "shape": [2]},
        }
    )
    names = ["image", "label", "text", "v"]
    good = [
        record_of(
            {
                "image": [bytes(chance.randrange(256) for _ in range(20))],
                "label": [chance.choice(INTEGERS)],
                "text": [b"x" * chance.choice(LENGTHS[:160])],
                "v": [float(at), -0.0],
            },
            chance.sample(names, 4) if shuffles else None,
        )
        for at in range(60)
    ]
    seen: set[type] = set()
    for number in range(400):
        broken = damaged(good[number % 60], chance)
        alone, among = outcome(decoder, [broken]), outcome(decoder, [*good[:20], broken])
        is_error = isinstance(alone, str) and isinstance(among, str)
        assert among == alone or (shuffles and is_error), broken  # which of two mistakes is told may differ there
        seen.add(type(alone))
        try:
            wire.SequenceExample.FromString(broken)
        except Exception:  # noqa: BLE001 - protobuf's own error
            assert isinstance(alone, str), broken
    assert seen == {str, dict}


# -- msgpack --------------------------------------------------------------------------------------------------------------

MSGPACK_FIELDS = {
    "image": {"dtype": "uint8", "shape": [4, 3]},
    "label": {"dtype": "int64"},
    "in": {"x.y": {"dtype": "float64"}, "is": {"dtype": "bool"}, "scalar": {"dtype": "int16"}},
    "text": {"dtype": "object"},
    "raw": {"dtype": "object"},
}


def array(value: np.ndarray, code: int = 1) -> msgpack.ExtType:
    """Return an array as flax.serialization writes it."""
    return msgpack.ExtType(code, msgpack.packb((value.shape, value.dtype.name, value.tobytes()), use_bin_type=True))


def values_of(chance: random.Random) -> dict[str, Any]:
    """Draw the values of a record, with some that no field declares."""
    return {
        "image": np.frombuffer(bytes(chance.randrange(256) for _ in range(12)), np.uint8).reshape(4, 3),
        "label": chance.choice([*INTEGERS, 2**32 - 1, 2**32, -(2**31), 3, 77]),
        "skipped": "z" * chance.choice([0, 31, 32, 255, 256, 70_000]),
        "in": {"x.y": chance.choice([0.5, -0.0, 1e300]), "is": chance.random() < 0.5, "scalar": chance.randrange(99)},
        "text": "é" * chance.choice([0, 1, 15, 16, 127, 128, 40_000]),
        "raw": bytes(chance.choice([0, 1, 31, 32, 255, 256, 70_000])),
    }


def packed(values: dict[str, Any]) -> bytes:
    """Return a record of `values_of`, in the order of its names."""
    inner = {**values["in"], "scalar": array(np.int16(values["in"]["scalar"]), 3)}
    record: bytes = msgpack.packb({**values, "image": array(values["image"]), "in": inner}, use_bin_type=True)
    return record


@pytest.mark.parametrize("declares", [True, False])
@pytest.mark.parametrize("count", [1, 30, 256])
def test_values_of_every_width_are_those_of_msgpack(count: int, *, declares: bool) -> None:
    chance = random.Random(count)  # noqa: S311 - draws records
    rows = [values_of(chance) for _ in range(count)]
    records = [packed(dict(reversed(row.items())) if chance.random() < 0.2 else row) for row in rows]
    decoder = MsgpackDecoder(fields=MSGPACK_FIELDS if declares else None)
    batch = decoder.decode(records, decoder.element_spec() if declares else decoder.spec_from(records[0]))
    assert ("skipped" in batch) != declares
    assert batch["image"].tobytes() == b"".join(row["image"].tobytes() for row in rows)
    for name in ("label", "text", "raw"):
        assert batch[name].tolist() == [row[name] for row in rows]
    for name in ("x.y", "is", "scalar"):
        assert batch["in"][name].tolist() == [row["in"][name] for row in rows]
    assert [batch[name].dtype for name in ("label", "text", "raw")] == [np.int64, object, object]
    assert (batch["in"]["scalar"].dtype, batch["in"]["is"].dtype) == (np.int16, np.bool_)


def test_bytes_for_an_array_are_read_in_step() -> None:
    rows = [np.full(4, at, np.int32) for at in range(40)]
    decoder = MsgpackDecoder(fields={"x": {"dtype": "int32", "shape": [4]}})
    records = [msgpack.packb({"x": row.tobytes()}) for row in rows]
    assert_same(decoder.decode(records, decoder.element_spec()), {"x": np.stack(rows)})
    records[17] = msgpack.packb({"x": bytes(15)})
    with pytest.raises(ValueError, match=r"field 'x' has 15 bytes where the 16 of int32\[4\] are expected"):
        decoder.decode(records, decoder.element_spec())


@pytest.mark.parametrize(
    "odd",
    [
        b"\x83\xa1a\x05\xa1b\xa1x\xa1a\x07",  # a name twice: the last one counts
        b"\xde\x00\x02\xa1b\xa1y\xa1a\xd3" + struct.pack(">q", -5),  # wider than necessary, in another order
        b"\x82\xd9\x01a\xcc\x09\xc4\x01b\xa1z",  # a name as bytes
        b"\x82\xa1a\xcf" + struct.pack(">Q", 2**63) + b"\xa1b\xa1x",  # more than int64 holds
        b"\x82\xa1a\xca\x00\x00\x00\x00\xa1b\xa1x",  # a float
        b"\x82\xa1a\x05\xa1b\xa1\xff",  # no UTF-8
        b"\x83\xa1a\x05\xa1b\xa1x\xa1c\xa1\xff",  # no UTF-8 in what is skipped
        b"\x83\xa1a\x05\xa1b\xa1x\xa1c\xd6\xff\x00\x00\x00\x00",  # a timestamp in what is skipped
        b"\x83\xa1a\x05\xa1b\xa1x\xa1c\x90",  # a list in what is skipped
        b"\x82\xa1a\x05\xa1b\xa1x\x00",  # a byte too many
        b"\x82\xa1a\x05\xa1b\xdb\xff\xff\xff\xff",  # a length past the end
        b"\x81" * 2000,
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_a_record_of_another_form_is_read_alike_alone_and_among_others(odd: bytes, *, first: bool) -> None:
    decoder = MsgpackDecoder(fields={"a": {"dtype": "int64"}, "b": {"dtype": "object"}})
    good = [msgpack.packb({"a": at * 50, "b": "x" * at}) for at in range(40)]
    records = [odd, *good] if first else [*good, odd]
    assert outcome(decoder, records, 0 if first else -1) == outcome(decoder, [odd])


def test_a_damaged_map_is_read_alike_alone_and_among_others() -> None:
    chance = random.Random(0)  # noqa: S311 - damages records
    decoder = MsgpackDecoder(
        fields={"image": MSGPACK_FIELDS["image"], "label": {"dtype": "int64"}, "text": {"dtype": "object"}}
    )
    rows = [values_of(chance) for _ in range(40)]
    good = [packed({**row, "text": row["text"][:200], "raw": b"", "skipped": "s"}) for row in rows]
    seen: set[type] = set()
    for number in range(400):
        broken = damaged(good[number % 40], chance)
        alone = outcome(decoder, [broken])
        assert outcome(decoder, [*good[:30], broken]) == alone, broken
        seen.add(type(alone))
    assert seen == {str, dict}


@pytest.mark.parametrize("made", [ExampleDecoder, MsgpackDecoder])
def test_what_a_decoder_writes_is_read_back_in_any_number(made: Callable[..., Decoder]) -> None:
    rng = np.random.default_rng(0)
    for count in (1, 7, 24, 300):
        batch = {
            "x": rng.standard_normal((count, 3)).astype(np.float32),
            "n": rng.integers(0, 2, (count, 2)) > 0,
            "label": rng.integers(-300, 300, count),
            "tokens": Ragged.from_list([rng.integers(0, 9, at % 5).astype(np.int32) for at in range(count)]),
        }
        for columns in (batch, {name: column for name, column in batch.items() if name != "tokens"}):
            fields = {name: {"dtype": c.dtype, "shape": c.shape[1:]} for name, c in columns.items()}
            decoder = made(fields=fields)
            found = decoder.decode(decoder.encode(columns), decoder.element_spec())
            for name, column in columns.items():
                if isinstance(column, Ragged):
                    assert [row.tolist() for row in found[name]] == [row.tolist() for row in column]
                else:
                    assert_same(found[name], column)
