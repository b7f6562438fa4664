"""Stores in forks, spawned processes and interrupted threads: each process has connections of its own."""

import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest
from forks import in_fork

from datarax_core.storage import RangeReader, Stamp, ranges, stamp_of
from datarax_core.storage.stores import systems

if TYPE_CHECKING:
    from remote_servers import Bucket, HttpServer

    Place = HttpServer | Bucket

CONTENT = bytes(range(256)) * 100


def read(reader: RangeReader, address: str, stamp: Stamp) -> list[bytes]:
    return reader.ranges([address] * 2, [300, 0], [303, 2], [stamp] * 2)


WANTED = [CONTENT[300:303], CONTENT[:2]]


def test_a_fork_reads_by_connections_of_its_own(place: "Place") -> None:
    address = place.put("x", CONTENT)
    stamp = stamp_of(address)
    assert read(RangeReader(), address, stamp) == WANTED
    for _ in range(2):
        found = in_fork(lambda: [part.decode("latin-1") for part in read(RangeReader(), address, stamp)])
        assert [part.encode("latin-1") for part in found] == WANTED
        assert read(RangeReader(), address, stamp) == WANTED, "those of the parent are as they were"


def test_a_fork_while_another_thread_reads(http_server: "HttpServer") -> None:
    address = http_server.put("x", CONTENT)
    stamp = stamp_of(address)
    http_server.faults.delay = 0.2
    reading = threading.Thread(target=ranges, args=([address], [0], [9]))
    reading.start()
    found = in_fork(lambda: [part.decode("latin-1") for part in read(RangeReader(), address, stamp)])
    assert [part.encode("latin-1") for part in found] == WANTED
    reading.join(20)
    assert not reading.is_alive()


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_a_spawned_process_reads(place: "Place") -> None:
    address = place.put("x", CONTENT)
    reader, stamp = pickle.loads(pickle.dumps((RangeReader(), stamp_of(address))))  # noqa: S301 - ours
    assert read(reader, address, stamp) == WANTED
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(read, reader, address, stamp).result(60) == WANTED


def test_new_credentials_of_the_environment_are_used(bucket: "Bucket", monkeypatch: pytest.MonkeyPatch) -> None:
    address = bucket.put("x", CONTENT)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "expired")
    with pytest.raises(PermissionError):
        stamp_of(address)
    monkeypatch.undo()
    for name, value in bucket.server.environment.items():
        monkeypatch.setenv(name, value)
    assert stamp_of(address).size == len(CONTENT)


def test_a_store_is_opened_once_for_its_options(http_server: "HttpServer") -> None:
    address = http_server.put("x", CONTENT)
    options = {"client_kwargs": {"timeout": 7}}
    assert systems.store_of(address, options) is systems.store_of(address, {"client_kwargs": {"timeout": 7}})
    assert systems.store_of(address) is not systems.store_of(address, options)
    assert os.getpid() == systems.store_of(address).system._pid
