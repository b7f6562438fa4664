"""Speed of the decoders against the least work on the same records: batches of 256 of 3 KB, or of 20 to 1,000 tokens."""

from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
from _measure import Row, against

from datarax_arrayrecord.decoders import ArrayDecoder, ExampleDecoder, MsgpackDecoder
from datarax_arrayrecord.decoders.example_wire import Example, SequenceExample, entries, record_of
from datarax_core.records import Ragged
from datarax_core.registry import Decoder

RECORDS, CALLS = 256, 3
IMAGE = {"dtype": "uint8", "shape": [32, 32, 3]}
LABEL = {"dtype": "int64"}


def batch(rng: np.random.Generator) -> dict[str, Any]:
    """Return images, and labels below 100."""
    return {
        "image": rng.integers(0, 255, (RECORDS, 32, 32, 3), np.uint8),
        "label": rng.integers(0, 100, RECORDS),
    }


def compared(
    what: str,
    decoder: Decoder,
    fields: dict[str, Any] | list[bytes],
    bare: Callable[[list[bytes]], Any],
    target: float,
) -> Row:
    """Return the row for a decoder against the function ``bare`` on the same records, which may be given as fields."""
    records = fields if isinstance(fields, list) else decoder.encode(fields)
    spec = decoder.element_spec()

    def often(work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(CALLS):
                work()

        return run

    return against(
        often(lambda: bare(records)),
        often(lambda: decoder.decode(records, spec)),
        records=len(records) * CALLS,
        what=what,
        target=target,
        runs=61,  # short runs, which a busy machine seldom interrupts
    )


def joined_and_sliced(records: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return the fields as views, which no device can take over."""
    whole = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), -1)
    return whole[:, :3072], whole[:, 3072:].copy().view(np.int64)


def copied(records: list[bytes]) -> tuple[np.ndarray, ...]:
    """Return the fields as arrays of their own, as a device needs them."""
    return tuple(np.ascontiguousarray(part) for part in joined_and_sliced(records))


def parsed_by_protobuf(records: list[bytes]) -> None:
    """Return parsed messages without reading their features."""
    for record in records:
        Example.FromString(record)


def read_by_protobuf(records: list[bytes]) -> dict[str, np.ndarray]:
    """Return the two features of parsed messages as arrays."""
    images, labels = np.empty((len(records), 32, 32, 3), np.uint8), np.empty(len(records), np.int64)
    for row, record in enumerate(records):
        feature = Example.FromString(record).features.feature
        images[row] = np.frombuffer(feature["image"].bytes_list.value[0], np.uint8).reshape(32, 32, 3)
        labels[row] = feature["label"].int64_list.value[0]
    return {"image": images, "label": labels}


def unpacked(records: list[bytes]) -> None:
    """Return unpacked maps without reading their arrays."""
    for record in records:
        msgpack.unpackb(record)


def joined_tokens(records: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return values and offsets of records that are the bytes of tokens."""
    values = np.frombuffer(b"".join(records), np.int32)
    return values, np.cumsum(np.fromiter(map(len, records), np.int64, len(records))) // 4


def tokens_by_protobuf(records: list[bytes]) -> list[np.ndarray]:
    """Return the tokens of parsed messages as an array each."""
    return [
        np.array(Example.FromString(record).features.feature["tokens"].int64_list.value, np.int32) for record in records
    ]


def steps_by_protobuf(records: list[bytes]) -> list[np.ndarray]:
    """Return the tokens of parsed SequenceExamples, which have a step each, as an array a record."""
    parsed = [SequenceExample.FromString(record).feature_lists.feature_list["tokens"].feature for record in records]
    return [np.array([step.int64_list.value[0] for step in steps], np.int32) for steps in parsed]


def unpacked_tokens(records: list[bytes]) -> tuple[np.ndarray, list[int]]:
    """Return the tokens of unpacked maps, and the lengths."""
    contents = [msgpack.unpackb(msgpack.unpackb(record)["tokens"].data, raw=True)[2] for record in records]
    return np.frombuffer(b"".join(contents), np.int32), list(map(len, contents))


def in_any_order(records: list[bytes], rng: np.random.Generator) -> list[bytes]:
    """Return Examples with the features of each in an order of its own, as writers with hash tables leave them."""
    shuffled = []
    for record in records:
        parts = [record[entry.start - len(entry.prefix) : entry.stop] for entry in entries(record) or ()]
        shuffled.append(record_of([parts[at] for at in rng.permutation(len(parts))]))
    return shuffled


def of_documents() -> list[Row]:
    """Measure documents of 20 to 1,000 tokens, read as ragged columns."""
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 50_000, rng.integers(20, 1000)).astype(np.int32) for _ in range(RECORDS)]
    fields = {"tokens": Ragged.from_list(documents)}
    declared = {"tokens": {"dtype": "int32", "shape": [None]}}
    lists, steps = [], []
    for document in documents:
        example, sequence = Example(), SequenceExample()
        example.features.feature["tokens"].int64_list.value.extend(document.tolist())
        for token in document.tolist():
            sequence.feature_lists.feature_list["tokens"].feature.add().int64_list.value.append(token)
        lists.append(example.SerializeToString())
        steps.append(sequence.SerializeToString())
    decoder, title = ExampleDecoder(fields=declared), "example, tokens as"
    return [
        compared("array, tokens, join alone", ArrayDecoder(fields=declared), fields, joined_tokens, 0.3),
        compared("msgpack, tokens, unpackb alone", MsgpackDecoder(fields=declared), fields, unpacked_tokens, 0.15),
        compared(f"{title} bytes, protobuf's parse alone", decoder, fields, parsed_by_protobuf, 0.2),
        compared(f"{title} int64_list, read through protobuf", decoder, lists, tokens_by_protobuf, 0.8),
        compared(f"{title} steps of a SequenceExample, protobuf", decoder, steps, steps_by_protobuf, 2.0),
    ]


def rows() -> list[Row]:
    """Measure each decoder that has a bare counterpart."""
    rng = np.random.default_rng(0)
    fields, of_fields = batch(rng), {"image": IMAGE, "label": LABEL}
    varying = {**fields, "label": rng.integers(0, 300, RECORDS)}
    lengths = rng.integers(0, 500, RECORDS)
    text = {**varying, "name": np.array(["x" * int(length) for length in lengths], object)}
    array, example = ArrayDecoder(fields=of_fields), ExampleDecoder(fields=of_fields)
    example_text = ExampleDecoder(fields={**of_fields, "name": {"dtype": "str"}})
    with_text = example_text.encode(text)
    msgpack_text = MsgpackDecoder(fields={**of_fields, "name": {"dtype": "object"}})
    return [
        compared("array, views of one join", array, fields, joined_and_sliced, 0.3),
        compared("array, arrays of their own", array, fields, copied, 0.5),
        compared("example of one layout, protobuf's parse alone", example, fields, parsed_by_protobuf, 0.83),
        compared("example of one layout, read through protobuf", example, fields, read_by_protobuf, 3.0),
        compared("example of two layouts, protobuf's parse alone", example, varying, parsed_by_protobuf, 0.85),
        compared("example with text of any length, parse alone", example_text, with_text, parsed_by_protobuf, 0.8),
        compared("the same, 2,048 records a batch", example_text, with_text * 8, parsed_by_protobuf, 0.8),
        compared(
            "the same, features in any order", example_text, in_any_order(with_text, rng), parsed_by_protobuf, 0.2
        ),
        compared("msgpack, unpackb alone", MsgpackDecoder(fields=of_fields), fields, unpacked, 0.8),
        compared("msgpack with text of any length, unpackb alone", msgpack_text, text, unpacked, 0.6),
        *of_documents(),
    ]
