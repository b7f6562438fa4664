"""Hooks are called once for each bad record, in every route, and may raise instead of substituting."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from record_files import Stubborn, ids, source_of, write_numbers

from datarax_arrayrecord import ArrayRecordSourceModule
from datarax_core import Pipeline, RecordError, default_hooks, hookimpl

if TYPE_CHECKING:
    from conftest import Site

BAD = (3, 4, 12)


class Listener:
    def __init__(self, answer: str | None = None) -> None:
        self.answer = answer
        self.heard: list[tuple[Any, int, str]] = []

    @hookimpl
    def datarax_record_failed(self, source: Any, index: int, error: RecordError) -> str | None:
        self.heard.append((source, index, error.reason))
        return self.answer


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    with default_hooks().registered(listener):
        yield listener


@pytest.fixture
def source(tmp_path: Path) -> ArrayRecordSourceModule:
    files = write_numbers(tmp_path, [10, 10])
    return source_of(
        files, decoder=Stubborn(refuses=BAD), on_error="substitute", quarantine=tmp_path / "bad.jsonl", name="train"
    )


@pytest.mark.parametrize("route", ["loop", "step", "scan", "elements"])
def test_hooks_are_called_once_for_each_bad_record(
    source: ArrayRecordSourceModule, listener: Listener, route: str
) -> None:
    pipeline = Pipeline(source=source, batch_size=5, num_epochs=2)
    if route == "loop":
        list(pipeline)
    elif route == "step":
        for _ in range(8):
            pipeline.step()
    elif route == "scan":
        pipeline.scan(lambda batch: batch["id"], length=8)
    else:
        for index in [*range(20), *range(20)]:
            source[index]
    assert sorted(index for _, index, _ in listener.heard) == list(BAD)
    assert all(one is source or one.name == "train" for one, _, _ in listener.heard)
    assert "nothing is known of" in listener.heard[0][2]


def test_a_hook_may_raise_for_a_record_and_is_called_again(
    source: ArrayRecordSourceModule, listener: Listener, tmp_path: Path
) -> None:
    listener.answer = "raise"
    for _ in range(2):
        with pytest.raises(RecordError, match=r"record 3 of .*\(record 3 of ArrayRecordSourceModule 'train'\)"):
            source.get_batch_at(0, 5)
    assert [index for _, index, _ in listener.heard] == [3, 3]
    assert not (tmp_path / "bad.jsonl").exists()
    listener.answer = "substitute"
    assert ids(source.get_batch_at(0, 5)) == [0, 1, 2, 5, 5]
    assert [index for _, index, _ in listener.heard] == [3, 3, 3, 4]


def test_a_hook_may_read_other_records(source: ArrayRecordSourceModule) -> None:
    found: list[int] = []

    class Looks:
        @hookimpl
        def datarax_record_failed(self, source: ArrayRecordSourceModule, index: int) -> None:
            found.extend(ids(source.get_batch_at((index + 9) % 20, 1)))

    with default_hooks().registered(Looks()):
        assert ids(source.get_batch_at(0, 5)) == [0, 1, 2, 5, 5]
    assert found == [1, 13, 13]  # during the call for 12, found while reading for 3; for 3; for 4


def test_worker_processes_call_installed_hook_plugins(
    source: ArrayRecordSourceModule, site: "Site", listener: Listener
) -> None:
    code = """
        from pathlib import Path

        from datarax_core import hookimpl

        @hookimpl
        def datarax_record_failed(source, index):
            with Path(__file__).with_name("heard.txt").open("a") as file:
                print(source.name, index, file=file)
    """
    site.install("acme-heard", {"acme_heard": "acme_heard"}, code=code, group="datarax.hooks")
    list(Pipeline(source=source, batch_size=5, num_epochs=2, workers=1))
    heard = (site.folder / "acme_heard" / "heard.txt").read_text().splitlines()
    assert sorted(heard) == ["train 12", "train 3", "train 4"]
    assert listener.heard == []


def test_no_hook_is_called_where_a_bad_record_is_an_error(tmp_path: Path, listener: Listener) -> None:
    source = source_of(write_numbers(tmp_path, [10]), decoder=Stubborn(refuses=BAD))
    with pytest.raises(RecordError, match="record 3 of"):
        source.get_batch_at(0, 5)
    assert listener.heard == []
