"""Places of objects: real servers on the loopback."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from datarax_core.storage.stores import failures, stores, systems

if TYPE_CHECKING:
    from remote_servers import Bucket, HttpServer


@pytest.fixture
def quick_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a hundredth as long before a request is sent again."""
    monkeypatch.setattr(failures, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(failures, "LONGEST_WAIT", 0.01)


@pytest.fixture(params=["http", "s3", "any"])
def place(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, quick_tries: None
) -> Iterator["HttpServer | Bucket"]:
    """Return a server with ``put``, ``remove``, ``faults`` and ``url``; "any" is S3 read as any other file system of fsspec."""
    del quick_tries
    if request.param == "any":
        monkeypatch.setattr(systems, "S3Store", stores.Store)
        monkeypatch.setattr(systems._stores, "made", {})
    return request.getfixturevalue("http_server" if request.param == "http" else "bucket")
