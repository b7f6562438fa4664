"""Preparation of data sets that are not on disk, by builders that need no download or from a bucket served by the test."""

import base64
import hashlib
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import tfds_made

from datarax_tfds import TFDSStreamingConfig, TFDSStreamingSource, from_tfds
from datarax_tfds.backends import NeedsTensorFlow
from datarax_tfds.dataset import DataSet
from datarax_tfds.dataset import bucket as bucket_module


def opened(data_dir: Path, name: str = "made_numbers", **options: Any) -> DataSet:
    return DataSet.open(TFDSStreamingConfig(name=name, split="train", data_dir=data_dir, **options), "source")


def test_a_data_set_that_is_not_on_disk_is_prepared_as_array_record(tmp_path: Path) -> None:
    made = opened(tmp_path)
    assert (made.full_name, made.folder) == ("made_numbers/1.2.0", str(tmp_path / "made_numbers/1.2.0"))
    assert (made.num_records, made.file_format) == (tfds_made.NUM_RECORDS, "array_record")
    assert not list(tmp_path.rglob("incomplete.*"))


def test_a_data_set_on_disk_is_not_prepared_again(tmp_path: Path) -> None:
    files = {part.path: Path(part.path).stat().st_mtime_ns for part in opened(tmp_path).parts}
    assert {part.path: Path(part.path).stat().st_mtime_ns for part in opened(tmp_path, try_gcs=True).parts} == files


def test_a_data_set_is_prepared_in_the_format_of_the_backend(tmp_path: Path) -> None:
    for backend in ("tfrecord", "tf.data"):
        assert opened(tmp_path / backend, backend=backend).file_format == "tfrecord"
    assert opened(tmp_path, "made_for_tensor_flow").file_format == "tfrecord"
    source = TFDSStreamingSource(TFDSStreamingConfig(name="made_for_tensor_flow", split="train", data_dir=tmp_path))
    assert source.data_set.backend == "tf.data"
    assert sorted(np.asarray(source.get_batch(tfds_made.NUM_RECORDS)["number"])) == list(range(1, 41))


def test_fields_that_only_tensorflow_decodes_are_read_by_tf_data_from_every_format(tmp_path: Path) -> None:
    array_record = {"file_format": "array_record"}
    opened(tmp_path, "made_for_tensor_flow", download_and_prepare_kwargs=array_record)
    source = from_tfds("made_for_tensor_flow", "train", data_dir=tmp_path)
    assert (source.data_set.file_format, source.data_set.backend) == ("array_record", "tf.data")
    assert sorted(np.asarray(source.get_batch(tfds_made.NUM_RECORDS)["number"])) == list(range(1, 41))
    config = TFDSStreamingConfig(name="made_for_tensor_flow", split="train", data_dir=tmp_path, backend="array_record")
    with pytest.raises(NeedsTensorFlow, match="field 'number' is decoded by TensorFlow only"):
        TFDSStreamingSource(config)


def test_a_data_set_is_prepared_with_the_arguments_of_download_and_prepare(tmp_path: Path) -> None:
    config = {"num_shards": 3, "max_examples_per_split": 10}
    arguments = {"file_format": "parquet", "download_config": config}
    made = opened(tmp_path / "data", download_and_prepare_kwargs={**arguments, "download_dir": tmp_path / "fetched"})
    assert (made.file_format, made.num_records, len(made.parts)) == ("parquet", 10, 3)
    assert (tmp_path / "fetched").is_dir()


def test_the_default_config_is_prepared_unless_one_is_named(tmp_path: Path) -> None:
    assert opened(tmp_path, "made_in_languages").full_name == "made_in_languages/english/3.0.0"
    assert opened(tmp_path, "made_in_languages/german").full_name == "made_in_languages/german/3.0.0"
    assert opened(tmp_path, "made_in_languages", local_files_only=True).full_name == "made_in_languages/english/3.0.0"


def test_concurrent_processes_prepare_a_data_set_once(tmp_path: Path) -> None:
    asked = [threading.Thread(target=opened, args=(tmp_path,)) for _ in range(4)]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()
    assert sorted(path.name for path in (tmp_path / "made_numbers").iterdir()) == ["1.2.0"]


def test_the_error_of_a_failed_preparation_names_the_data_set(tmp_path: Path) -> None:
    match = r"no more numbers(.|\n)*data set 'made_to_fail/1\.0\.0' was not in .*, and TFDS could not prepare it there"
    with pytest.raises(RuntimeError, match=match):
        opened(tmp_path, "made_to_fail")
    assert list((tmp_path / "made_to_fail").iterdir()) == []


def test_unknown_fields_are_refused_before_the_preparation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"include_keys names 'numbr', .* does not have; did you mean 'number'\?"):
        opened(tmp_path, include_keys=["numbr"])
    with pytest.raises(ValueError, match=r"as_supervised has no use for made_numbers/1\.2\.0"):
        opened(tmp_path, as_supervised=True)
    assert list((tmp_path / "made_numbers").iterdir()) == []


def test_workers_of_beam_are_refused_for_a_builder_that_uses_none(tmp_path: Path) -> None:
    match = r"beam_num_workers=2 has no use for data set 'made_numbers/1\.2\.0', which TFDS prepares without Beam"
    with pytest.raises(ValueError, match=match):
        opened(tmp_path, beam_num_workers=2)


@pytest.mark.parametrize("workers", [None, 2])
def test_the_error_of_missing_beam_names_beam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int | None
) -> None:
    opened(tmp_path)  # imports all modules that a preparation needs
    monkeypatch.setattr(sys, "meta_path", [tfds_made.NotInstalled("apache_beam")])
    match = r"preparing data set 'made_by_beam/1\.0\.0' takes Beam, which is not installed; pip install apache-beam"
    with pytest.raises(ImportError, match=match):
        opened(tmp_path, "made_by_beam", beam_num_workers=workers)


class Bucket(BaseHTTPRequestHandler):
    """A server that answers as Google's bucket does: with the list of its objects in pages, and with their content."""

    root: ClassVar[Path]
    broken: ClassVar[str] = ""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if "prefix" not in query:
            content = (self.root / url.path.removeprefix("/media/")).read_bytes()
            self._answer(content[:-1] if self.broken and self.broken in url.path else content)
            return
        files = sorted((self.root / query["prefix"]).glob("*"))
        page = int(query.get("pageToken", 0))
        here: dict[str, Any] = {"items": [self._item(file) for file in files[page : page + 2]]}
        if page + 2 < len(files):
            here["nextPageToken"] = str(page + 2)
        self._answer(json.dumps(here if files else {}).encode())

    def _item(self, file: Path) -> dict[str, str]:
        digest = base64.b64encode(hashlib.md5(file.read_bytes()).digest()).decode()  # noqa: S324 - Google's bucket gives MD5
        name = str(file.relative_to(self.root))
        host, port = self.server.server_address[:2]
        return {"name": name, "mediaLink": f"http://{host!s}:{port}/media/{name}", "md5Hash": digest}

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        del format, args


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Bucket]]:
    """A bucket that holds the data set made_numbers in 5 shards."""
    root = tmp_path / "bucket"
    opened(root / "datasets", download_and_prepare_kwargs={"download_config": {"num_shards": 5}})
    serving = type("Serving", (Bucket,), {"root": root})
    with ThreadingHTTPServer(("127.0.0.1", 0), serving) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(bucket_module, "HOST", f"http://127.0.0.1:{server.server_port}")
        yield serving
        server.shutdown()
        thread.join()


def test_try_gcs_downloads_a_data_set_of_the_bucket(tmp_path: Path, bucket: type[Bucket]) -> None:
    fetched, there = opened(tmp_path / "here", try_gcs=True), bucket.root / "datasets/made_numbers/1.2.0"
    assert len(fetched.parts) == 5  # a preparation here would write one
    for file in there.iterdir():
        assert (Path(fetched.folder) / file.name).read_bytes() == file.read_bytes()
    assert [path.name for path in (tmp_path / "here/made_numbers").iterdir()] == ["1.2.0"]


def test_an_incomplete_download_from_the_bucket_is_refused(tmp_path: Path, bucket: type[Bucket]) -> None:
    bucket.broken = "test.array_record-00003"
    match = r"datasets/made_numbers/1\.2\.0/made_numbers-test\.array_record-00003-of-00005 of the bucket .* not arrive whole"
    with pytest.raises(OSError, match=match):
        opened(tmp_path / "here", try_gcs=True)
    assert list((tmp_path / "here/made_numbers").iterdir()) == []


@pytest.mark.usefixtures("bucket")
def test_a_data_set_that_is_not_in_the_bucket_is_prepared_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "datarax_tfds"):
        made = opened(tmp_path / "here", "made_in_languages", try_gcs=True)
    assert made.full_name == "made_in_languages/english/3.0.0"
    assert "try_gcs: made_in_languages/english/3.0.0 is not in the bucket tfds-data" in caplog.messages


OFFLINE = """
import socket, sys, tempfile

tried = []
def blocked(*arguments, **_):
    tried.append(arguments)
    raise OSError("no network here")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = blocked
import datarax_tfds
assert not {"tensorflow", "tensorflow_datasets", "requests"} & sys.modules.keys()
from datarax_tfds.dataset import DataSet
from datarax_tfds import TFDSStreamingConfig

def opened(name, **options):
    return DataSet.open(TFDSStreamingConfig(name=name, split="train", **options), "source")

for options in ({}, {"local_files_only": True}):
    assert opened("digits", data_dir=sys.argv[1], **options).num_records == 1500
for name in ("mnist", "no_such_set", "imagenet2012", "wikipedia"):
    try:
        opened(name, data_dir=sys.argv[1], local_files_only=True)
    except FileNotFoundError as error:
        assert f"missing: {sys.argv[1]}/{name}" in str(error), error
    else:
        raise AssertionError(name)
import tfds_made
with tempfile.TemporaryDirectory() as folder:
    assert opened("made_numbers", data_dir=folder).num_records == 40
    assert not tried, tried
with tempfile.TemporaryDirectory() as folder:
    assert opened("made_numbers", data_dir=folder, try_gcs=True).num_records == 40
    assert tried
assert "tensorflow" not in sys.modules
"""


def test_data_sets_are_read_and_prepared_without_network(data_dirs: Path) -> None:
    importable = str(Path(tfds_made.__file__).parent)
    command = [sys.executable, "-c", f"import sys; sys.path.append({importable!r})\n{OFFLINE}", data_dirs / "tfrecord"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert ran.returncode == 0, ran.stderr
