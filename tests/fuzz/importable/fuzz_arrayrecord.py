"""ArrayRecord: files, records of each decoder, sidecar notes, lists of bad records."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from fuzz_format import Format, Served, change, require_same
from mutation import mutated_bytes, place_of

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule, write
from datarax_arrayrecord.decoders.example_wire import SequenceExample
from datarax_core.errors import DataraxError
from datarax_core.records import Ragged

NUMBERS: dict[str, Any] = {
    "x": np.arange(24, dtype=np.int32).reshape(6, 4),
    "y": np.arange(6, dtype=np.float32),
    "f": np.array([True, False, True] * 2),
}
TEXT: dict[str, Any] = {
    "t": np.array(["ab", "cde", "ü", "", "x" * 30, "z"], object),
    "b": np.array([b"ab", b"c", b"dd", b"", b"\xff", b"e"], object),
}
ALL: dict[str, Any] = {
    **NUMBERS,
    **TEXT,
    "h": np.zeros((6, 2), ml_dtypes.bfloat16),
    "c": np.zeros((6, 2), np.complex64),
    "d": np.arange(6).astype("M8[s]"),
    "n": {"inner": np.arange(6.0)},
}
EXAMPLE = {
    "type": "example",
    "fields": {
        "x": {"dtype": "int32", "shape": [4]},
        "y": {"dtype": "float32"},
        "f": {"dtype": "bool"},
        "t": {"dtype": "str"},
        "b": {"dtype": "bytes"},
    },
}
VARYING: dict[str, Any] = {
    "y": np.arange(6, dtype=np.float32),
    "i": Ragged(np.arange(9, dtype=np.int32), [0, 2, 2, 5, 6, 6, 9]),
}
RAGGED: dict[str, Any] = {
    **VARYING,
    "boxes": Ragged(np.arange(20, dtype=np.float32).reshape(5, 4), [0, 0, 1, 3, 3, 4, 5]),
    "words": Ragged.from_list([["a", "ü"], [], ["", "x" * 30], ["z"], [], ["b"]], object, (None,)),
}
RAGGED_EXAMPLE = {
    "type": "example",
    "fields": {
        "y": {"dtype": "float32"},
        "i": {"dtype": "int32", "shape": [None]},
        "boxes": {"dtype": "float32", "shape": [None, 4]},
        "words": {"dtype": "str", "shape": [None]},
    },
}
NAME = "x.array_record"


def source_of(folder: Path, **options: Any) -> ArrayRecordSourceModule:
    return ArrayRecordSourceModule(ArrayRecordSourceConfig(**options), str(folder / NAME))


def read_all(folder: Path, way: int, **options: Any) -> Served:
    """Read all records in one batch, or one after another, behind a check of all of them."""
    source = source_of(folder, **options)
    source.element_spec()
    indices = np.arange(len(source))
    if way % 2 == 0:
        return source.get_records(indices)
    verified = source.verify_records(indices)
    for error in verified.errors:
        raise error
    return [source[int(index)] for index in indices]


def written(data: dict[str, Any], decoder: Any = None, **options: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        write(folder / NAME, data, decoder, **options)

    return make


def change_records(folder: Path, number: int) -> str:
    """Mutate one record, and write the file anew, so that its checksums are right."""
    path = str(folder / NAME)
    reader = ArrayRecordReader(path)
    records: list[bytes] = reader.read_all()
    reader.close()
    row = random.Random(f"record {number}").randrange(len(records))  # noqa: S311 - repeatable, not secret
    mutant = mutated_bytes(records[row], number)
    place = f"record {row}, {place_of(records[row], mutant)}"
    records[row] = mutant
    store(path, records)
    return place


def store(path: str, records: Sequence[bytes]) -> None:
    writer = ArrayRecordWriter(path, "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def of_records(data: dict[str, Any], decoder: Any, reader: Any = None, **more: Any) -> Format:
    """Return the format of the records of a decoder."""
    return Format(
        make=written(data, decoder),
        read=lambda folder, way: read_all(folder, way, **({} if reader is None else {"decoder": reader})),
        change=change_records,
        **more,
    )


def make_sequences(folder: Path) -> None:
    """Write SequenceExamples with steps of integers of many sizes, of floats, and of text."""
    store(str(folder / NAME), [sequence_example(row) for row in range(6)])


def sequence_example(row: int) -> bytes:
    message = SequenceExample()
    message.context.feature["y"].float_list.value.append(row)
    lists = message.feature_lists.feature_list
    for step in range(row):
        lists["i"].feature.add().int64_list.value.append(100**step)
        lists["boxes"].feature.add().float_list.value.extend([row, step, 0, 1])
        lists["words"].feature.add().bytes_list.value.append(b"w" * step)
    for name in ("i", "boxes", "words"):
        lists.get_or_create(name)
    return bytes(message.SerializeToString())


def read_sequences(folder: Path, way: int) -> Served:
    fields = {**RAGGED_EXAMPLE["fields"], "i": {"dtype": "int64", "shape": [None]}}  # type: ignore[dict-item]
    return read_all(folder, way, decoder={"type": "example", "fields": fields})


def change_data(folder: Path, number: int) -> str:
    return change(folder / NAME, number)


def change_sidecar(folder: Path, number: int) -> str:
    return change(folder / f"{NAME}.json", number)


def make_damaged(folder: Path) -> None:
    """Write a file of six records, of which two have the wrong length, and a list that names them."""
    store(str(folder / NAME), [bytes([row]) * (4 if row % 3 else 3) for row in range(6)])
    lines = [{"file": NAME, "record": row, "cause": "a record has 4 bytes"} for row in (0, 3)]
    (folder / "bad.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


SHORT = {"type": "array", "fields": {"x": {"dtype": "uint8", "shape": [4]}}}


def read_substituted(folder: Path, way: int) -> Served:
    listed = {"quarantine": str(folder / "bad.jsonl")}
    return read_all(folder, way * 2, decoder=SHORT, on_error="substitute", **listed)


def read_without(folder: Path, way: int) -> Served:
    return read_all(folder, way * 2, decoder=SHORT, exclude=str(folder / "bad.jsonl"))


def require_records(served: Served, _reference: Served, _number: int) -> None:
    """Raise if anything but some of the right records is served."""
    if not {tuple(row) for row in served["x"].tolist()} <= {(row,) * 4 for row in (1, 2, 4, 5)}:
        raise AssertionError(f"serves other records: {served}")


def change_list(folder: Path, number: int) -> str:
    return change(folder / "bad.jsonl", number)


FORMATS: dict[str, Format] = {
    "arrayrecord": Format(written(ALL, group_size=2), read_all, change_data, require_same),
    "arrayrecord-raw": Format(
        written(ALL, compression="uncompressed"),
        lambda folder, way: read_all(folder, way, decoder="raw"),
        change_data,
        require_same,
    ),
    "arrayrecord-array": of_records(NUMBERS, "array"),
    "arrayrecord-example": of_records({**NUMBERS, **TEXT}, EXAMPLE),
    "arrayrecord-example-learnt": of_records({**NUMBERS, **TEXT}, EXAMPLE, "example"),
    "arrayrecord-msgpack": of_records(ALL, "msgpack"),
    "arrayrecord-msgpack-learnt": of_records(ALL, "msgpack", "msgpack"),
    "arrayrecord-npz": of_records(ALL, "npz", check=require_same),
    "arrayrecord-npz-learnt": of_records({**NUMBERS, **TEXT}, "npz", "npz", check=require_same),
    "arrayrecord-array-ragged": of_records(VARYING, "array"),
    "arrayrecord-example-ragged": of_records(RAGGED, RAGGED_EXAMPLE),
    "arrayrecord-example-ragged-learnt": of_records(RAGGED, RAGGED_EXAMPLE, "example"),
    "arrayrecord-example-sequences": Format(make_sequences, read_sequences, change_records),
    "arrayrecord-msgpack-ragged": of_records(RAGGED, "msgpack"),
    "arrayrecord-msgpack-ragged-learnt": of_records(RAGGED, "msgpack", "msgpack"),
    "arrayrecord-npz-ragged": of_records(RAGGED, "npz", check=require_same),
    "arrayrecord-npz-ragged-learnt": of_records(RAGGED, "npz", "npz", check=require_same),
    "arrayrecord-sidecar": Format(written(ALL), read_all, change_sidecar),
    "arrayrecord-quarantine": Format(make_damaged, read_substituted, change_list, require_same, ways=1),
    "arrayrecord-exclude": Format(make_damaged, read_without, change_list, require_records, (DataraxError, OSError), 1),
}
