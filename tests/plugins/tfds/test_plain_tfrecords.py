"""Plain TFRecord files, gzip ones too: found by paths, decoded by named decoders, read by record index without TensorFlow."""

import gzip
import json
import pickle
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tfrecords
from flax import nnx
from tfds_records import example

from datarax_core import Pipeline, build_source
from datarax_core.errors import ConfigError, DataFileError, RecordError
from datarax_core.testing import Damaged, SourceConformance
from datarax_tfds import TFRecordSource, TFRecordSourceConfig

FIELDS = {"id": {"dtype": "int64", "shape": []}, "pair": {"dtype": "float32", "shape": [2]}}
FIELDS["tags"] = {"dtype": "int64", "shape": [None], "default": []}
DECODER = {"type": "example", "fields": FIELDS}
LENGTHS = (7, 0, 20, 13)
TOTAL = sum(LENGTHS)


def record_of(number: int) -> bytes:
    return example(id=[number], pair=[number * 0.5, float(number)], tags=[number] * (number % 4))


def write_files(folder: Path, lengths: tuple[int, ...] = LENGTHS, *, compress: Any = None) -> list[str]:
    """Write shards of these lengths, with records numbered over all of them."""
    paths, start = [], 0
    for shard, length in enumerate(lengths):
        suffix = ".gz" if compress else ""
        path = folder / f"train.tfrecord{suffix}-{shard:05d}-of-{len(lengths):05d}"
        tfrecords.write(path, [record_of(number) for number in range(start, start + length)])
        if compress:
            path.write_bytes(compress(path.read_bytes()))
        paths.append(str(path))
        start += length
    return paths


def source_of(paths: Any, **options: Any) -> TFRecordSource:
    return TFRecordSource(TFRecordSourceConfig(**{"paths": paths, "decoder": DECODER, **options}))


def ids(source: TFRecordSource) -> list[int]:
    return np.asarray(source.get_records(np.arange(len(source)))["id"]).tolist()


class TestShuffled(SourceConformance):
    expected_length = TOTAL
    expected_records = {0: {"id": 0, "pair": [0, 0], "tags": []}, 30: {"id": 30, "pair": [15, 30], "tags": [30, 30]}}
    shown_elsewhere = {
        **dict.fromkeys(("max_open_files", "max_errors", "quarantine", "on_error"), "test_plain_tfrecords.py"),
        **dict.fromkeys(
            ("cache_dir", "cache_bytes", "storage_options", "local_files_only"), "files/test_tfrecord_addresses.py"
        ),
    }

    def make_config(self, folder: Path) -> dict[str, Any]:
        paths = write_files(folder)
        excluded = folder / "bad.jsonl"
        excluded.write_text(json.dumps({"file": paths[0], "record": 3}) + "\n", encoding="utf-8")
        self.effective = {
            "decoder": {"type": "example", "fields": {"id": FIELDS["id"]}},
            "exclude": str(excluded),
        }
        return {"type": "tfrecord", "paths": paths, "decoder": DECODER, "shuffle": True}

    def make_damaged(self, folder: Path) -> Damaged:
        paths = write_files(folder, (8, 8))
        tfrecords.flip(paths[1], sum(len(tfrecords.record(record_of(number))) for number in (8, 9)) + 14)
        return Damaged(config=TFRecordSourceConfig(paths=paths, decoder=DECODER), record=10, path=paths[1])

    def make_sized_source(self, length: int, folder: Path) -> TFRecordSource:
        """Return a source of compressed files, one of them empty."""
        (folder / str(length)).mkdir()
        paths = write_files(folder / str(length), (length // 2, 0, length - length // 2), compress=gzip.compress)
        return TFRecordSource(TFRecordSourceConfig(paths=paths, decoder=DECODER, shuffle=True), rngs=nnx.Rngs(0))


def test_files_are_named_by_path_folder_glob_or_shards(tmp_path: Path) -> None:
    paths = write_files(tmp_path)
    for named in (paths, tmp_path, f"{tmp_path}/train*", f"{tmp_path}/train.tfrecord@4"):
        assert ids(source_of([str(named)] if isinstance(named, Path) else named)) == list(range(TOTAL))
    assert ids(source_of(paths[3])) == list(range(27, 40))


def two_members(content: bytes) -> bytes:
    return gzip.compress(content[:100]) + gzip.compress(content[100:]) + bytes(512)


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, two_members])
def test_compressed_files_serve_the_same_records(tmp_path: Path, cache_dir: Path, compress: Any) -> None:
    paths = write_files(tmp_path, compress=compress)
    source = source_of(str(tmp_path), shuffle=True)
    plain = tmp_path / "plain"
    plain.mkdir()
    same = source_of(write_files(plain), shuffle=True)
    assert ids(source) == list(range(TOTAL))
    batches = zip(Pipeline(source=source, batch_size=8), Pipeline(source=same, batch_size=8), strict=True)
    assert all((np.asarray(one["id"]) == np.asarray(other["id"])).all() for one, other in batches)
    shutil.rmtree(cache_dir / "tfrecord")  # and it is found anew by the next source, and by this one
    source.close()
    assert ids(source) == ids(source_of(paths)) == list(range(TOTAL))


def test_a_compressed_file_that_changed_is_unpacked_anew(tmp_path: Path, cache_dir: Path) -> None:
    (path,) = write_files(tmp_path, (5,), compress=gzip.compress)
    assert ids(source_of(path)) == list(range(5))
    write_files(tmp_path, (6,), compress=gzip.compress)
    assert ids(source_of(path)) == list(range(6))
    kept = [
        entry
        for entry in (cache_dir / "tfrecord/unpacked").iterdir()
        if str(Path(path).stat().st_mtime_ns) in entry.name
    ]
    assert len(kept) == 1


def test_a_damaged_unpacked_copy_is_made_anew_or_named(tmp_path: Path, cache_dir: Path) -> None:
    (path,) = write_files(tmp_path, (5,), compress=gzip.compress)
    assert ids(source_of(path)) == list(range(5))
    (copy,) = (cache_dir / "tfrecord/unpacked").glob(f"*-{Path(path).stat().st_mtime_ns}-*")
    content = copy.read_bytes()
    copy.write_bytes(content[:-7])  # as a machine leaves it that stopped
    assert ids(source_of(path)) == list(range(5))
    assert copy.read_bytes() == content
    copy.write_bytes(bytes(len(content)))
    with pytest.raises(RecordError, match=rf"record 0 of {path} cannot be read: .*, in {copy}, its unpacked copy; if"):
        ids(source_of(path))


def test_a_compressed_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    (path,) = write_files(tmp_path, (5,), compress=gzip.compress)
    source = source_of(path)
    write_files(tmp_path, (6,), compress=gzip.compress)
    with pytest.raises(DataFileError, match=r"-00000-of-00001 changed while a source read it"):
        source.get_records([0])


def cut_off(content: bytes) -> bytes:
    return gzip.compress(content)[:-20]


def flipped(content: bytes) -> bytes:
    made = bytearray(gzip.compress(content))
    made[-5] ^= 1  # of its checksum
    return bytes(made)


BROKEN = [(cut_off, r"is cut off: its compressed data has no end"), (flipped, r"is damaged: it does not inflate")]


@pytest.mark.parametrize(("compress", "match"), BROKEN)
def test_a_damaged_compressed_file_is_named(tmp_path: Path, compress: Any, match: str) -> None:
    paths = write_files(tmp_path, (50,), compress=compress)
    with pytest.raises(DataFileError, match=match):
        source_of(paths)


def test_a_cache_folder_that_cannot_be_written_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("DATARAX_CACHE_DIR", str(tmp_path / "no folder"))
    paths = write_files(tmp_path, (5,), compress=gzip.compress)
    with pytest.raises(
        OSError, match=r"is compressed, and cannot be unpacked in .*: set DATARAX_CACHE_DIR to a folder that has"
    ):
        source_of(paths)


def test_without_a_decoder_records_are_bytes(tmp_path: Path) -> None:
    source = source_of(write_files(tmp_path), decoder=None)
    assert source.get_records([3, 1])["record"].tolist() == [record_of(3), record_of(1)]
    assert (
        source.get_records([3])["record"].tolist()
        == source_of(str(tmp_path), decoder="raw").get_records([3])["record"].tolist()
    )


def test_fields_may_come_from_the_first_record(tmp_path: Path) -> None:
    batch = source_of(write_files(tmp_path), decoder="example").get_records([5])
    assert batch["id"].tolist() == [5]
    assert batch["pair"].tolist() == [[2.5, 5]]


def test_bad_records_are_substituted_listed_and_excluded(tmp_path: Path) -> None:
    paths = write_files(tmp_path)
    tfrecords.flip(paths[2], 14)
    with pytest.raises(
        RecordError, match=r"record 0 of .*-00002-of-00004 cannot be read: its content does not have the checksum"
    ):
        ids(source_of(paths))
    listed = tmp_path / "bad.jsonl"
    lenient = source_of(paths, on_error="substitute", quarantine=str(listed), max_errors=1)
    assert ids(lenient) == [*range(7), 8, *range(8, TOTAL)]
    assert json.loads(listed.read_text())["record"] == 0
    assert ids(source_of(paths, exclude=str(listed))) == [*range(7), *range(8, TOTAL)]
    with pytest.raises(RecordError, match=r"max_errors=0 allows 0 of 40"):
        ids(source_of(paths, on_error="substitute", max_errors=0))
    verified = source_of(paths).verify_records(np.arange(TOTAL))
    assert [(error.path, error.row) for error in verified.errors] == [(paths[2], 0)]


def test_a_run_is_resumed_exactly_and_only_on_the_same_files(tmp_path: Path) -> None:
    paths = write_files(tmp_path)
    pipeline = Pipeline(source=source_of(paths, shuffle=True), batch_size=8, num_epochs=2)
    loop = iter(pipeline)
    next(loop)
    state, rest = json.loads(json.dumps(pipeline.get_state())), [np.asarray(batch["id"]).tolist() for batch in loop]
    again = Pipeline(source=pickle.loads(pickle.dumps(source_of(paths, shuffle=True))), batch_size=8, num_epochs=2)  # noqa: S301
    again.set_state(state)
    assert [np.asarray(batch["id"]).tolist() for batch in again] == rest
    tfrecords.write(Path(paths[0]), [record_of(number + 4) for number in range(7)])  # of the same size
    with pytest.raises(ValueError, match="content"):
        Pipeline(source=source_of(paths, shuffle=True), batch_size=8, num_epochs=2).set_state(state)


def test_few_files_stay_open(tmp_path: Path) -> None:
    source = source_of(write_files(tmp_path, (3,) * 6), max_open_files=2)
    assert ids(source) == list(range(18))
    opened = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert len([path for path in opened if path.is_relative_to(tmp_path)]) == 2


WRONG = [
    ({"paths": "gs://bucket/a.tfrecord"}, ValueError, r"gs://bucket/a\.tfrecord"),
    (
        {"paths": "{}/none.tfrecord"},
        FileNotFoundError,
        r"no such file or folder: .*none\.tfrecord; 'paths' names TFRecord files",
    ),
    ({"paths": "{}/empty"}, FileNotFoundError, r"has no TFRecord files: none whose name ends with \.tfrecord, "),
    ({"paths": "{}/text.tfrecord"}, DataFileError, r"text\.tfrecord is no TFRecord file: it begins with b'hello wo'"),
    ({"paths": []}, ValueError, r"at least 1 item"),
    ({"decoder": "exmple"}, ValueError, r"did you mean 'example'"),
    ({"quarantine": "bad.jsonl"}, ValueError, r"quarantine has no use without on_error='substitute'"),
]


@pytest.mark.parametrize(("options", "error", "match"), WRONG)
def test_mistakes_are_refused(tmp_path: Path, options: dict[str, Any], error: type[Exception], match: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tfrecord").write_text("hello world, this is no record")
    write_files(tmp_path)
    if isinstance(options.get("paths"), str):
        options = {"paths": options["paths"].format(tmp_path)}
    with pytest.raises(error, match=match):
        source_of(**{"paths": str(tmp_path / "train*"), **options})


def test_a_config_names_its_files_relative_to_itself_and_tensorflow_is_not_imported(tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / "train.yaml").write_text(
        "batch_size: 8\nsource: {type: tfrecord, paths: train.tfrecord*, decoder: example, shuffle: true}\n"
    )
    code = (
        "import sys; from datarax_core import Pipeline\n"
        f"assert sum(len(batch['id']) for batch in Pipeline.from_config({str(tmp_path / 'train.yaml')!r})) == {TOTAL}\n"
        "assert not {'tensorflow', 'tensorflow_datasets', 'datarax_mix'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


def test_a_source_without_paths_is_refused() -> None:
    with pytest.raises(ConfigError, match="paths"):
        build_source({"type": "tfrecord"})


def test_an_arrayrecord_source_names_the_type_that_reads_such_files(tmp_path: Path) -> None:
    for compress, match in (
        (None, r"it is a TFRecord file, which type: tfrecord of"),
        (gzip.compress, "compressed by gzip: type"),
    ):
        paths = write_files(tmp_path, (5,), compress=compress)
        with pytest.raises(DataFileError, match=match):
            build_source({"type": "arrayrecord", "paths": paths})
