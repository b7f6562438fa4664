"""Speed of the decoders against the least work on the same records: batches of 256 records of 3 KB."""

from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
from _measure import Row, against

from datarax_arrayrecord.decoders import ArrayDecoder, ExampleDecoder, MsgpackDecoder
from datarax_arrayrecord.decoders.example_wire import Example
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
    what: str, decoder: Decoder, fields: dict[str, Any], bare: Callable[[list[bytes]], Any], target: float
) -> Row:
    """Return the row for a decoder against the function ``bare`` on the same records."""
    records, spec = decoder.encode(fields), decoder.element_spec()

    def often(work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(CALLS):
                work()

        return run

    return against(
        often(lambda: bare(records)),
        often(lambda: decoder.decode(records, spec)),
        records=RECORDS * CALLS,
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


def rows() -> list[Row]:
    """Measure each decoder that has a bare counterpart."""
    rng = np.random.default_rng(0)
    fields, of_fields = batch(rng), {"image": IMAGE, "label": LABEL}
    varying = {**fields, "label": rng.integers(0, 300, RECORDS)}
    lengths = rng.integers(0, 500, RECORDS)
    text = {**varying, "name": np.array(["x" * int(length) for length in lengths], object)}
    array, example = ArrayDecoder(fields=of_fields), ExampleDecoder(fields=of_fields)
    example_text = ExampleDecoder(fields={**of_fields, "name": {"dtype": "str"}})
    return [
        compared("array, views of one join", array, fields, joined_and_sliced, 0.3),
        compared("array, arrays of their own", array, fields, copied, 0.5),
        compared("example of one layout, protobuf's parse alone", example, fields, parsed_by_protobuf, 0.83),
        compared("example of one layout, read through protobuf", example, fields, read_by_protobuf, 3.0),
        compared("example of two layouts, protobuf's parse alone", example, varying, parsed_by_protobuf, 0.83),
        compared("example with text of any length, parse alone", example_text, text, parsed_by_protobuf, 0.83),
        compared("msgpack, unpackb alone", MsgpackDecoder(fields=of_fields), fields, unpacked, 0.25),
    ]
