"""Written files, read back without options."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import pytest
from array_records import TOTAL, record_of, write_files
from batches import assert_same, batches
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import datarax_arrayrecord
from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule
from datarax_core import DataSourceModule, Decoder, Pipeline, StreamingSourceBase, StructuralConfig, from_sequence
from datarax_memory import MemorySource, MemorySourceConfig


def numbers(count: int) -> dict[str, np.ndarray]:
    """Return numbered records with a 64-bit integer that no float can hold."""
    return {"id": np.arange(count) + 2**60, "image": np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2)}


def read_back(path: Path | str) -> Any:
    with ArrayRecordSourceModule(ArrayRecordSourceConfig(), str(path)) as source:
        return source.get_records(np.arange(len(source)))


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# -- round trips --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(batches(), st.sampled_from([None, "array", "example", "msgpack", "npz"]), st.integers(1, 3))
def test_every_dtype_of_jax_is_read_back_to_the_bit(data: dict[str, Any], decoder: str | None, shards: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        count = len(data["inner"]["id"])
        written = datarax_arrayrecord.write(Path(folder, "x.array_record"), data, decoder, shards=min(shards, count))
        assert written.num_records == count
        assert_same(read_back(folder), data)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=5) | st.just("a\0"), min_size=1, max_size=10))
def test_text_is_read_back(texts: list[str]) -> None:
    data = {"text": np.array(texts, object), "label": np.arange(len(texts))}
    with tempfile.TemporaryDirectory() as folder:
        datarax_arrayrecord.write(Path(folder, "x.array_record"), data)
        assert_same(read_back(folder), data)


def test_nested_fields_are_read_back(tmp_path: Path) -> None:
    data = {"pose": {"left": np.ones((3, 2)), "right": np.zeros((3, 2), np.float32)}, "id": np.arange(3)}
    datarax_arrayrecord.write(tmp_path / "x.array_record", data)
    assert_same(read_back(tmp_path), data)


def test_the_decoder_raw_writes_bytes_unchanged(tmp_path: Path) -> None:
    records = np.empty(3, object)
    records[:] = [b"", b"\0\1", b"three"]
    datarax_arrayrecord.write(tmp_path / "x.array_record", {"record": records}, "raw")
    source = ArrayRecordSourceModule(ArrayRecordSourceConfig(), tmp_path)
    assert source.get_batch_at(0, 3) == [b"", b"\0\1", b"three"]


def test_the_bytes_of_a_source_without_a_decoder_are_written_unchanged(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    files = write_files(tmp_path / "old")
    source = ArrayRecordSourceModule(ArrayRecordSourceConfig(), files)
    datarax_arrayrecord.write(tmp_path / "x.array_record", source, shards=3)
    again = ArrayRecordSourceModule(ArrayRecordSourceConfig(), f"{tmp_path}/x.array_record@3")
    assert again.get_batch_at(0, TOTAL) == source.get_batch_at(0, TOTAL)
    assert again.get_batch_at(0, 1) == [record_of(0)]


@pytest.mark.parametrize(
    "decoder",
    [
        {"type": "array"},
        {"type": "array", "fields": {"image": {"dtype": "uint8", "shape": [2, 2]}, "id": {"dtype": "int64"}}},
    ],
)
def test_a_decoder_is_fitted_to_the_fields_or_taken_with_its_settings(tmp_path: Path, decoder: dict[str, Any]) -> None:
    datarax_arrayrecord.write(tmp_path / "x.array_record", numbers(5), decoder)
    source = ArrayRecordSourceModule(ArrayRecordSourceConfig(), tmp_path)
    assert list(source.decoder.fields) == list(decoder.get("fields", ["id", "image"]))  # type: ignore[attr-defined]
    assert_same(read_back(tmp_path), numbers(5))


def test_numbers_are_written_as_array_and_fields_of_any_size_as_msgpack(tmp_path: Path) -> None:
    for name, data in {"numbers": numbers(2), "text": {"text": ["one", "three"]}}.items():
        datarax_arrayrecord.write(tmp_path / f"{name}.array_record", data)
    kinds = {path.name: json.loads(path.read_text())["decoder"]["type"] for path in tmp_path.glob("*.json")}
    assert kinds == {"numbers.array_record.json": "array", "text.array_record.json": "msgpack"}


# -- files --------------------------------------------------------------------------------------------------------------


def test_one_shard_is_one_file_with_a_sidecar_file(tmp_path: Path) -> None:
    written = datarax_arrayrecord.write(tmp_path / "new" / "x.array_record", numbers(10))
    path = str(tmp_path / "new" / "x.array_record")
    assert written.paths == (path,)
    assert written.config == ArrayRecordSourceConfig(paths=(path,))
    assert written.nbytes == Path(path).stat().st_size
    assert names(tmp_path / "new") == ["x.array_record", "x.array_record.json"]
    note = json.loads(Path(f"{path}.json").read_text())
    assert (note["num_records"], note["shards"]) == (10, 1)
    assert note["element_spec"] == {"id": "int64[]", "image": "uint8[2, 2]"}


@pytest.mark.parametrize("pattern", ["", "x.array_record*", "x.array_record@4", "x.array_record-?????-of-?????"])
def test_each_shard_holds_a_range_of_the_records(tmp_path: Path, pattern: str) -> None:
    written = datarax_arrayrecord.write(tmp_path / "x.array_record", numbers(10), shards=4)
    assert [Path(path).name for path in written.paths] == [f"x.array_record-{k:05d}-of-00004" for k in range(4)]
    assert [len(read_back(path)["id"]) for path in written.paths] == [2, 3, 2, 3]
    assert_same(read_back(tmp_path / pattern), numbers(10))


def test_the_result_of_write_is_a_config_that_reads_the_files(tmp_path: Path) -> None:
    written = datarax_arrayrecord.write(tmp_path / "x.array_record", numbers(10), shards=3)
    source = ArrayRecordSourceModule.from_config(written.config, lambda config: pytest.fail(str(config)))
    assert_same(source.get_records(np.arange(10)), numbers(10))


@pytest.mark.parametrize("compression", ["zstd", "zstd:9", "brotli", "brotli:4", "snappy", "uncompressed"])
def test_files_have_the_requested_compression(tmp_path: Path, compression: str) -> None:
    data = {"x": np.zeros((2000, 100))}
    written = datarax_arrayrecord.write(tmp_path / "x.array_record", data, compression=compression)
    assert (written.nbytes > data["x"].nbytes) == (compression == "uncompressed")
    assert_same(read_back(tmp_path), data)


def test_groups_are_written_on_request_and_read_with_a_warning(tmp_path: Path) -> None:
    datarax_arrayrecord.write(tmp_path / "x.array_record", numbers(100), group_size=10)
    with pytest.warns(UserWarning, match="written in groups of 10 records"):
        assert_same(read_back(tmp_path), numbers(100))


def test_overwriting_leaves_no_shard_of_another_count(tmp_path: Path) -> None:
    path = tmp_path / "x.array_record"
    (tmp_path / "x.array_record_notes.txt").touch()
    datarax_arrayrecord.write(path, numbers(10), shards=4)
    datarax_arrayrecord.write(path, numbers(6), shards=2, overwrite=True)
    assert len(names(tmp_path)) == 4
    assert_same(read_back(f"{path}@2"), numbers(6))
    datarax_arrayrecord.write(path, {"text": ["a"]}, overwrite=True)
    assert names(tmp_path) == ["x.array_record", "x.array_record.json", "x.array_record_notes.txt"]
    assert read_back(path)["text"].tolist() == ["a"]


# -- what is written ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3])
def test_batches_of_any_size_are_written_in_their_order(tmp_path: Path, shards: int) -> None:
    data = numbers(1000)
    batches = ({name: column[i : i + 70] for name, column in data.items()} for i in range(0, 1070, 70))
    assert datarax_arrayrecord.write(tmp_path / "x.array_record", batches, shards=shards).num_records == 1000
    assert_same(read_back(tmp_path), data)


def test_text_may_be_longer_in_a_later_batch(tmp_path: Path) -> None:
    batches = [{"text": np.array(["a", "bc"])}, {"text": np.array(["defgh"])}]
    datarax_arrayrecord.write(tmp_path / "x.array_record", batches)
    assert read_back(tmp_path)["text"].tolist() == ["a", "bc", "defgh"]


@pytest.mark.parametrize("placement", ["device", "host"])
def test_a_shuffled_source_is_written_in_the_order_of_its_indices(tmp_path: Path, placement: Any) -> None:
    data = numbers(300) | {"text": np.array([f"number {i}" for i in range(300)]), "day": np.arange(300).astype("M8[D]")}
    source = MemorySource(MemorySourceConfig(shuffle=True, placement=placement), data, rngs=nnx.Rngs(0))
    datarax_arrayrecord.write(tmp_path / "x.array_record", source, shards=2)
    assert_same(read_back(tmp_path), data)


def test_elements_are_written_through_a_source(tmp_path: Path) -> None:
    source = from_sequence([{"x": np.float32(i), "y": "even" if i % 2 == 0 else "odd"} for i in range(9)])
    datarax_arrayrecord.write(tmp_path / "x.array_record", source)
    found = read_back(tmp_path)
    assert found["x"].tolist() == list(range(9))
    assert found["y"].tolist()[:2] == ["even", "odd"]


def test_the_batches_of_a_pipeline_are_written_after_its_stages(tmp_path: Path) -> None:
    source = MemorySource(MemorySourceConfig(), {"x": np.arange(50, dtype=np.int32)})
    pipeline = Pipeline(source=source, stages=[_double], batch_size=8, rngs=nnx.Rngs(0))
    datarax_arrayrecord.write(tmp_path / "x.array_record", pipeline, shards=2)
    assert_same(read_back(tmp_path), {"x": np.arange(0, 100, 2, dtype=np.int32)})


def _double(batch: Any) -> Any:
    return {"x": batch["x"] * 2}


class Counting(StreamingSourceBase):
    """Stream of 100 numbers an epoch, without a length."""

    def element_spec(self) -> Any:
        return {"x": jax.ShapeDtypeStruct((), np.int64)}

    def records_from(self, epoch: int, start: int) -> Iterator[Any]:
        for i in range(start, 100):
            yield {"x": np.int64(1000 * epoch + i)}


class Sized(Counting):
    """The same stream with a length: it continues with the next epoch by itself."""

    def __len__(self) -> int:
        return 100


@pytest.mark.parametrize("kind", [Counting, Sized])
@pytest.mark.parametrize("shards", [1, 3])
def test_one_epoch_of_a_stream_is_written_from_any_position(
    tmp_path: Path, kind: type[DataSourceModule], shards: int
) -> None:
    source = kind(StructuralConfig())
    source.get_batch(30)
    datarax_arrayrecord.write(tmp_path / "x.array_record", source, shards=shards)
    assert_same(read_back(tmp_path), {"x": np.arange(100)})


def test_progress_is_called_as_records_are_written(tmp_path: Path) -> None:
    message: list[int] = []
    datarax_arrayrecord.write(tmp_path / "x.array_record", numbers(1000), progress=message.append)
    assert message == sorted(message)
    assert message[-1] == 1000
    assert len(message) > 1


# -- read back before anything is published -------------------------------------------------------------------------------


class AsJson(Decoder):
    """Decoder that keeps values and no dtypes, and with ``loses`` not all values."""

    type: Literal["as_json"] = "as_json"
    loses: Literal["", "values", "fields", "shape", "everything"] = ""

    def encode(self, batch: Any) -> list[bytes]:
        rows = [{name: column[row].tolist() for name, column in batch.items()} for row in range(len(batch["x"]))]
        for row in rows:
            if self.loses == "values":
                row["x"] += 1
            elif self.loses == "fields":
                del row["x"]
            elif self.loses == "shape":
                row["x"] = [row["x"]]
        return [json.dumps(row).encode() for row in rows]

    def decode_record(self, record: bytes) -> Any:
        if self.loses == "everything":
            raise ValueError("it is lost")
        return json.loads(record)


def test_a_decoder_that_changes_dtypes_and_keeps_values_is_announced(tmp_path: Path) -> None:
    data = {"x": np.arange(5, dtype=np.uint8), "half": np.full(5, 0.5, np.float16), "text": np.array(["ä"] * 5)}
    says = (
        r"field 'half' is float64\[\] where float16\[\] was written; field 'x' is int64\[\] where uint8\[\] was written"
    )
    with pytest.warns(UserWarning, match=says):
        written = datarax_arrayrecord.write(tmp_path / "x.array_record", data, AsJson(), shards=2)
    assert len(written.changes) == 2
    assert len(names(tmp_path)) == 3
    assert datarax_arrayrecord.write(tmp_path / "y.array_record", data, "msgpack").changes == ()


@pytest.mark.parametrize(
    ("loses", "message"),
    [
        (
            "values",
            r"the decoder 'as_json' does not keep the records: read back, field 'x' is int64\[\] where uint8\[\] was",
        ),
        ("fields", "read back, field 'x' is gone; choose another format"),
        ("shape", r"field 'x' is int64\[1\] where uint8\[\] was written"),
        ("everything", "the decoder 'as_json' cannot decode what it wrote: it is lost; choose another one"),
    ],
)
def test_a_decoder_that_loses_values_is_refused_and_leaves_nothing(tmp_path: Path, loses: Any, message: str) -> None:
    data = {"x": np.arange(5, dtype=np.uint8), "y": np.arange(5)}
    with pytest.raises(ValueError, match=message):
        datarax_arrayrecord.write(tmp_path / "x.array_record", data, AsJson(loses=loses))
    assert names(tmp_path) == []


# -- writes that were killed ----------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import numpy as np
import datarax_arrayrecord
def batches():
    yield {"x": np.arange(9)}
    print("begun", flush=True)
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
    yield {"x": np.arange(9)}
datarax_arrayrecord.write(sys.argv[1], batches())
"""


def test_the_next_write_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "x.array_record"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), "SIGKILL"], check=False, capture_output=True)  # noqa: S603 - our own program
    assert killed.stdout == b"begun\n"
    assert len(names(tmp_path)) == 1
    (tmp_path / ".y.array_record.aaaaaaaa.tmp").mkdir()  # of another data set
    (tmp_path / ".x.array_record.bbbbbbbb.tmp").mkdir()  # has no lock yet
    (tmp_path / ".x.array_record.cccccccc.tmp").mkdir()
    os.utime(tmp_path / ".x.array_record.cccccccc.tmp", (0, 0))
    datarax_arrayrecord.write(path, {"x": np.arange(3)})
    kept = [".x.array_record.bbbbbbbb.tmp", ".y.array_record.aaaaaaaa.tmp", path.name, f"{path.name}.json"]
    assert names(tmp_path) == kept


def test_the_folder_of_a_living_writer_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.array_record"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path), "SIGSTOP"], stdout=subprocess.PIPE) as stopped:  # noqa: S603 - as above
        assert stopped.stdout is not None
        assert stopped.stdout.readline() == b"begun\n"
        datarax_arrayrecord.write(path, {"x": np.arange(3)})
        assert len(names(tmp_path)) == 3
        stopped.send_signal(signal.SIGCONT)
        assert stopped.wait() == 1  # since the data set exists by now
    assert names(tmp_path) == [path.name, f"{path.name}.json"]
