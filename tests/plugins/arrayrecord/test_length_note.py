"""The note of lengths beside files: what `write` leaves, and what a source makes of it."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datarax_arrayrecord
from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule
from datarax_core.records import Ragged

LENGTHS = np.random.default_rng(0).integers(0, 300, 50)


def documents(lengths: np.ndarray = LENGTHS) -> dict[str, Any]:
    return {
        "id": np.arange(len(lengths)),
        "tokens": Ragged.from_list([np.arange(n, dtype=np.uint16) for n in lengths]),
        "seen": {"box.es": Ragged.from_list([np.zeros((n % 5, 4), np.int16) for n in lengths])},
        "image": Ragged.from_list([np.zeros((n % 3, n % 4 + 1), np.uint8) for n in lengths]),
        "left": Ragged.from_list([np.zeros((3, n % 4), np.uint8) for n in lengths]),
    }


def opened(*paths: Path | str, **options: Any) -> ArrayRecordSourceModule:
    return ArrayRecordSourceModule(ArrayRecordSourceConfig(**options), [str(path) for path in paths])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.array_record"


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("given", [lambda data: data, lambda data: iter([data])], ids=["counted", "uncounted"])
def test_a_source_knows_the_lengths_that_write_noted(path: Path, shards: int, given: Any) -> None:
    datarax_arrayrecord.write(path, given(documents()), shards=shards)
    source = opened(path.parent)
    assert source.record_lengths("tokens").tolist() == LENGTHS.tolist()
    assert source.record_lengths(r"seen.box\.es").tolist() == (LENGTHS % 5).tolist()
    assert source.record_lengths("image").tolist() == (LENGTHS % 3).tolist()
    assert source.record_lengths("left").tolist() == [3] * 50
    assert source.record_lengths("id") is None
    assert source[5:20].record_lengths("tokens").tolist() == LENGTHS[5:20].tolist()


def test_single_shards_and_several_data_sets_are_known_too(path: Path) -> None:
    datarax_arrayrecord.write(path, documents(), shards=3)
    other = path.with_name("more.array_record")
    datarax_arrayrecord.write(other, documents(LENGTHS[:7] + 1000))
    found = opened(f"{path}-00002-of-00003", other, f"{path}-00000-of-00003").record_lengths("tokens")
    assert found.tolist() == [*LENGTHS[33:], *(LENGTHS[:7] + 1000), *LENGTHS[:16]]


def test_the_note_is_small_and_patterns_pass_over_it(path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 4000, 10_000)
    tokens = Ragged(np.zeros(lengths.sum(), np.uint16), np.cumsum([0, *lengths]))
    datarax_arrayrecord.write(path, {"tokens": tokens}, compression="zstd:1")
    assert Path(f"{path}.lengths.npz").stat().st_size < 2.1 * 10_000
    assert opened(f"{path}*").record_lengths("tokens").tolist() == lengths.tolist()
    datarax_arrayrecord.write(path, {"x": np.zeros(3)}, overwrite=True)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.json"]


def test_excluded_records_are_left_out(path: Path, tmp_path: Path) -> None:
    datarax_arrayrecord.write(path, documents())
    (tmp_path / "bad.jsonl").write_text(
        "".join(json.dumps({"file": str(path), "record": row}) + "\n" for row in (3, 40))
    )
    source = opened(path, exclude=str(tmp_path / "bad.jsonl"))
    assert source.record_lengths("tokens").tolist() == np.delete(LENGTHS, [3, 40]).tolist()


def test_lengths_of_files_without_a_note_or_read_otherwise_are_unknown(path: Path) -> None:
    datarax_arrayrecord.write(path, documents())
    assert opened(path, on_error="substitute").record_lengths("tokens") is None
    fields = {"tokens": {"dtype": "uint16", "shape": [None]}}
    datarax_arrayrecord.write(path, {"tokens": documents()["tokens"]}, overwrite=True)
    assert opened(path, decoder={"type": "array", "fields": fields}).record_lengths("tokens") is not None
    fields = {"tokens": {"dtype": "uint8", "shape": [None]}}
    assert opened(path, decoder={"type": "array", "fields": fields}).record_lengths("tokens") is None

    class Doubled(ArrayRecordSourceModule):
        def get_records(self, indices: Any) -> Any:
            return super().get_records(indices)

    assert Doubled(ArrayRecordSourceConfig(), str(path)).record_lengths("tokens") is None
    Path(f"{path}.lengths.npz").unlink()
    assert opened(path).record_lengths("tokens") is None


def test_a_note_of_other_files_is_ignored_with_the_reason(path: Path, tmp_path: Path) -> None:
    datarax_arrayrecord.write(path, documents())
    note = Path(f"{path}.lengths.npz")
    content = note.read_bytes()
    other = tmp_path / "other" / path.name
    datarax_arrayrecord.write(other, documents(LENGTHS[:20]))
    Path(f"{other}.lengths.npz").write_bytes(content)
    match = rf"the note of lengths {other}.lengths.npz is ignored: it notes 50 records in \d+ bytes for {other}, which has 20"
    with pytest.warns(UserWarning, match=match):
        assert opened(other).record_lengths("tokens") is None
    sharded = tmp_path / "sharded" / path.name
    datarax_arrayrecord.write(sharded, documents(), shards=2)
    Path(f"{sharded}.lengths.npz").write_bytes(content)
    with pytest.warns(UserWarning, match=r"ignored: it is of a data set in 1 files, and .*-00000-of-00002 is one of 2"):
        assert opened(sharded.parent).record_lengths("tokens") is None


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nonsense", 100, 400])
def test_a_damaged_note_is_ignored(path: Path, damage: bytes | int) -> None:
    datarax_arrayrecord.write(path, documents())
    note = Path(f"{path}.lengths.npz")
    note.write_bytes(damage if isinstance(damage, bytes) else note.read_bytes()[:-damage])
    with pytest.warns(
        UserWarning, match=r"is ignored: it cannot be read: .*; remove the note, or write the data set anew"
    ):
        assert opened(path).record_lengths("tokens") is None


def test_a_note_of_a_later_version_or_of_something_else_is_ignored(path: Path) -> None:
    datarax_arrayrecord.write(path, documents())
    note = Path(f"{path}.lengths.npz")
    with np.load(note) as saved:
        arrays = dict(saved)
    about = json.loads(arrays["about"].tobytes())

    def rewrite(**changes: Any) -> None:
        text = json.dumps({**about, **changes}).encode()
        np.savez(note, **{**arrays, "about": np.frombuffer(text, np.uint8)})

    rewrite(version=2)
    with pytest.warns(UserWarning, match=r"it has version 2, and this datarax-arrayrecord reads 1"):
        assert opened(path).record_lengths("tokens") is None
    rewrite(counts=[49])
    with pytest.warns(UserWarning, match=r"it cannot be read: it has 50 lengths for 49 records"):
        assert opened(path).record_lengths("tokens") is None
    with warnings.catch_warnings(action="error"):
        rewrite(format="something else")
        assert opened(path).record_lengths("tokens") is None
