"""Records that vary in length in files: written from any source and read back exactly, on every route, bad ones substituted."""

import json
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from array_record.python.array_record_module import ArrayRecordWriter
from flax import nnx

from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule, write
from datarax_arrayrecord.decoders import MsgpackDecoder
from datarax_core import Pipeline, RecordError, SpecError, from_sequence
from datarax_core.records import Ragged, describe
from datarax_core.registry import FunctionDecoder
from datarax_memory import MemorySource, MemorySourceConfig

COUNT = 60
TOKENS = [np.arange(row * 7 % 11, dtype=np.int32) * row for row in range(COUNT)]


def documents() -> dict[str, Any]:
    return {"id": np.arange(COUNT), "tokens": Ragged.from_list(TOKENS, np.int32, (None,))}


def many() -> dict[str, Any]:
    """Return fields that vary in several ways, one of them in a dict."""
    images = [np.full((row % 4, row % 3 + 1, 3), row, np.uint8) for row in range(COUNT)]
    boxes = [np.full((row % 5, 4), row / 8, np.float32) for row in range(COUNT)]
    words = [[f"w{n}" for n in range(row % 4)] for row in range(COUNT)]
    return {
        **documents(),
        "image": Ragged.from_list(images, np.uint8, (None, None, 3)),
        "seen": {"boxes": Ragged.from_list(boxes, np.float32, (None, 4))},
        "words": Ragged.from_list(words, object, (None,)),
    }


def assert_equal(found: Any, expected: Any, rows: Any) -> None:
    """Assert that a batch has these rows of the expected one, to the dtype and the shape of each record."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for column, whole in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        wanted = whole[np.asarray(rows, np.int64)]
        assert type(column) is type(wanted)
        assert (column.dtype, column.shape) == (wanted.dtype, wanted.shape)
        for row, other in zip(column, wanted, strict=True):
            np.testing.assert_array_equal(row, other, strict=isinstance(row, np.ndarray))


def opened(path: Path, **config: Any) -> ArrayRecordSourceModule:
    rngs = nnx.Rngs(3) if config.get("shuffle") else None
    return ArrayRecordSourceModule(ArrayRecordSourceConfig(**config), str(path), rngs=rngs)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.array_record"


def rows_of(batch: Any) -> list[Any]:
    return [jax.tree.map(lambda column: column[row], batch) for row in range(COUNT)]  # noqa: B023 - called at once


def batches() -> Iterator[dict[str, Any]]:
    """Yield batches, in some of which all records have one length."""
    whole = documents()
    for start, stop in ((0, 20), (20, 21), (21, 22), (22, COUNT)):
        yield {
            "id": whole["id"][start:stop],
            "tokens": np.stack(TOKENS[start:stop]) if stop - start == 1 else whole["tokens"][start:stop],
        }


@pytest.mark.parametrize(
    ("made", "decoder"),
    [
        (documents, "array"),
        (many, "msgpack"),
        (lambda: MemorySource(MemorySourceConfig(), documents()), "array"),
        (lambda: from_sequence(rows_of(documents())), "array"),
        (batches, "array"),
        (lambda: Pipeline(source=from_sequence(rows_of(many())), batch_size=7), "msgpack"),
    ],
    ids=["dict", "dict of many", "memory", "sequence", "batches", "pipeline"],
)
@pytest.mark.parametrize("shards", [1, 3])
def test_what_is_written_is_read_back_exactly(made: Any, decoder: str, shards: int, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        data = made()
        written = write(path, data, shards=shards)
    source = ArrayRecordSourceModule(written.config)
    assert (source.decoder.type, len(source)) == (decoder, COUNT)
    expected = many() if decoder == "msgpack" else documents()
    if isinstance(data, Pipeline):
        expected["id"] = expected["id"].astype(np.int32)  # as devices have it
    rows = [59, 0, 7, 7, 33]
    assert_equal(source.get_records(rows), expected, rows)
    assert_equal(source.get_records(range(COUNT)), expected, range(COUNT))
    assert_equal(source.get_records([]), expected, [])
    note = json.loads(Path(f"{path}.json").read_text())
    assert note["element_spec"] == describe(source.element_spec())
    assert note["element_spec"]["tokens"] == "int32[None]"


def test_every_route_serves_the_records_alike(path: Path) -> None:
    write(path, many())

    def served(**options: Any) -> list[Any]:
        source = opened(path, shuffle=True)
        return [
            (int(number), tokens.tolist(), image.shape, boxes.tolist(), words.tolist())
            for batch in Pipeline(source=source, batch_size=13, **options)
            for number, tokens, image, boxes, words in zip(
                batch["id"], batch["tokens"], batch["image"], batch["seen"]["boxes"], batch["words"], strict=True
            )
        ]

    found = served()
    assert sorted(number for number, *_ in found) == list(range(COUNT))
    for number, tokens, shape, _, words in found:
        assert tokens == TOKENS[number].tolist()
        assert shape == (number % 4, number % 3 + 1, 3)
        assert words == [f"w{n}" for n in range(number % 4)]
    assert served(workers=1) == served(threads=3) == served(prefetch=0) == found
    element = next(iter(opened(path, shuffle=True)))
    assert element["tokens"].tolist() == found[0][1]
    assert pickle.loads(pickle.dumps(opened(path))).get_records([3])["tokens"][0].tolist() == TOKENS[3].tolist()  # noqa: S301 - our own


def test_kept_records_are_the_same(path: Path) -> None:
    write(path, many())
    source = opened(path, cacheable=True)
    for _ in range(2):
        assert_equal(source.fetch(np.array([5, 1, 5, 40])), many(), [5, 1, 5, 40])


# -- without declared fields ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["msgpack", "npz", "example", MsgpackDecoder()])
def test_lengths_that_differ_among_the_first_records_looked_at_make_a_field_ragged(decoder: Any, path: Path) -> None:
    data = {"id": np.arange(COUNT), "x": Ragged.from_list([np.ones(1 + row % 3, np.float32) for row in range(COUNT)])}
    write(path, data, "example" if decoder == "example" else decoder if isinstance(decoder, str) else "msgpack")
    Path(f"{path}.json").unlink()
    source = opened(path, decoder=decoder)
    assert describe(source.element_spec()) == {"id": "int64[]", "x": "float32[None]"}
    assert_equal(source.get_records([2, 0]), data, [2, 0])
    assert source.verify_records(np.arange(COUNT)).errors == ()


def test_a_function_gives_ragged_columns(path: Path) -> None:
    write(path, {"record": np.array([b"a b", b"", b"ccc"], object)})
    split = opened(
        path, decoder=lambda record: {"words": record.decode().split(), "bytes": np.frombuffer(record, "u1")}
    )
    assert describe(split.element_spec()) == {"words": "object[None]", "bytes": "uint8[None]"}
    assert [row.tolist() for row in split.get_records([0, 1, 2])["words"]] == [["a", "b"], [], ["ccc"]]
    assert split.get_records([2, 0])["bytes"].lengths.tolist() == [3, 3]


def test_a_length_that_first_differs_later_is_an_error_that_says_how_to_declare_it(path: Path) -> None:
    lengths = [2] * 1000
    lengths[501] = 3
    write(path, {"x": Ragged.from_list([np.ones(n, np.int32) for n in lengths])}, "msgpack")
    Path(f"{path}.json").unlink()
    source = opened(path, decoder="msgpack")
    assert describe(source.element_spec()) == {"x": "int32[2]"}
    match = (
        r"record 501 .* cannot be decoded as 'msgpack': .*field 'x' is int32\[3\] where int32\[2\] is expected; if it "
        r"varies from record to record, say so .* or in the fields of the decoder, shape: \[null\], which makes a ragged"
    )
    with pytest.raises(RecordError, match=match):
        source.get_records([500, 501])
    declared = opened(path, decoder={"type": "msgpack", "fields": {"x": {"dtype": "int32", "shape": [None]}}})
    assert declared.get_records([500, 501])["x"].lengths.tolist() == [2, 3]
    spec = {"x": jax.ShapeDtypeStruct((None,), np.dtype(np.int32))}
    function = opened(path, decoder=FunctionDecoder(function=MsgpackDecoder().decode_record, spec=spec))
    assert function.get_records([500, 501])["x"].lengths.tolist() == [2, 3]


# -- bad records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["array", "msgpack", "example"])
def test_bad_records_are_substituted_by_records_of_any_length(kind: str, path: Path, tmp_path: Path) -> None:
    write(path, documents(), kind)
    decoder = opened(path).decoder
    records = decoder.encode(documents())
    for bad in (3, 4, 59):
        records[bad] = b"\xff" * 13
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()
    listed = tmp_path / "bad.jsonl"
    source = opened(path, on_error="substitute", quarantine=listed)
    assert_equal(source.get_records([2, 3, 4, 59, 1]), documents(), [2, 5, 5, 0, 1])
    assert source.get_operation_stats()["skipped_count"] == 3
    assert [json.loads(line)["record"] for line in listed.read_text().splitlines()] == [3, 4, 59]
    left = opened(path, exclude=listed)
    kept = [row for row in range(COUNT) if row not in (3, 4, 59)]
    assert_equal(left.get_records(range(len(kept))), documents(), kept)
    with pytest.raises(RecordError, match=r"record 3 of .*x.array_record"):
        opened(path).get_records([2, 3])
    assert [error.record for error in opened(path).verify_records(np.arange(COUNT)).errors] == [3, 4, 59]


# -- mistakes -------------------------------------------------------------------------------------------------------------


def test_batches_that_vary_after_others_that_do_not_are_refused(path: Path) -> None:
    found = [{"x": np.ones((2, 3), np.int32)}, {"x": Ragged.from_list([[1], [2, 3]], np.int32)}]
    match = (
        r"from number 2 on are not like the first ones: field 'x' is int32\[None\] where int32\[3\] is expected; .* "
        r"element spec: give columns that vary in length as Ragged.from_list\(records\) in each batch"
    )
    with pytest.raises(SpecError, match=match):
        write(path, iter(found))
    assert not path.exists()


def test_columns_of_other_numbers_of_records_are_refused(path: Path) -> None:
    with pytest.raises(
        ValueError, match="the fields of the data to write differ in length: 'id' has 3, 'tokens' has 60"
    ):
        write(path, {"id": np.arange(3), "tokens": documents()["tokens"]})


@pytest.mark.parametrize(
    ("decoder", "match"), [("array", "put it last, or keep records of several fields that vary as")]
)
def test_a_decoder_that_cannot_hold_the_fields_says_so(decoder: str, match: str, path: Path) -> None:
    data = {"a": documents()["tokens"], "b": documents()["tokens"]}
    with pytest.raises(ValueError, match=match):
        write(path, data, decoder)


# -- drx convert ----------------------------------------------------------------------------------------------------------


def test_records_whose_rows_have_no_values_are_written_with_their_lengths(path: Path) -> None:
    column = Ragged.from_list([np.empty((n, 0), np.int32) for n in (2, 0, 1)])
    (read,) = ArrayRecordSourceModule(write(path, {"x": column}).config).get_records([0, 1, 2]).values()
    assert read == column


def test_convert_writes_ragged_columns_and_prints_the_config_that_reads_them(tmp_path: Path) -> None:
    write(tmp_path / "in.array_record", documents(), "msgpack")
    config = tmp_path / "in.yaml"
    config.write_text("batch_size: 8\nsource: {type: arrayrecord, paths: in.array_record}\n")
    command = [
        sys.executable,
        "-m",
        "datarax_core",
        "convert",
        str(config),
        str(tmp_path / "out.array_record"),
        "--json",
    ]
    for more in ([], ["--decoder", "npz", "--overwrite", "--shards", "2"]):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=True)  # noqa: S603 - our command
        told = json.loads(done.stdout)
        assert (told["records"], told["changes"]) == (COUNT, [])
        reading = yaml.safe_load(yaml.safe_dump(told["source"]))
        paths = [str(tmp_path / name) for name in reading["paths"]]
        source = ArrayRecordSourceModule(ArrayRecordSourceConfig(**{**reading, "paths": paths}))
        assert source.decoder.type == ("npz" if more else "array")
        assert_equal(source.get_records(range(COUNT)), documents(), range(COUNT))
