"""A file that changed since the source was built is an error in every route."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from record_files import Numbers, ids, in_child, record, source_of, write, write_numbers

from datarax_core import DataFileError, Pipeline, StateError

CHANGED = """
    import os, pickle, shutil, sys
    from pathlib import Path
    import numpy as np
    from datarax_core import DataFileError, Pipeline
    from record_files import ids, record, source_of, write, write_numbers

    folder = Path(sys.argv[1])

    def other(number):  # as large as the first, to the byte
        return write(folder / f"other-{number}", map(record, range(1000 + number, 1400 + number)))

    def shrink(path, number): os.truncate(path, os.path.getsize(path) // 2)
    def cut_to_a_block(path, number): os.truncate(path, 1 << 16)
    def empty(path, number): os.truncate(path, 0)
    def grow(path, number): open(path, "ab").write(bytes(1 << 16))
    def write_over(path, number): Path(path).write_bytes(Path(other(number)).read_bytes())
    def replace(path, number): os.replace(other(number), path)
    def remove(path, number): os.remove(path)
    def move(path, number): os.rename(path, path + ".moved")
    def make_a_folder(path, number): os.remove(path); os.mkdir(path)
    def link_to_another(path, number): os.remove(path); os.symlink(other(number), path)

    def total(batch): return batch["id"].sum()

    def records(source): source.get_records([5, 150, 290])
    def many(source): source.get_records(np.arange(0, 400, 2))
    def neighbours(source): source.get_records(np.arange(16, 32))
    def batch_at(source): source.get_batch_at(0, 200)
    def element(source): source[399]
    def elements(source): [element for element, _ in zip(source, range(40))]
    def loop(source): [batch for batch in Pipeline(source=source, batch_size=100, prefetch=2)]
    def step(source): Pipeline(source=source, batch_size=100).step()
    def scan(source): Pipeline(source=source, batch_size=100).scan(total, length=3)
    def unpickled(source): pickle.loads(pickle.dumps(source)).get_records([1])
    def workers(source): [batch for batch in Pipeline(source=source, batch_size=100, workers=2)]

    CHANGES = [shrink, cut_to_a_block, empty, grow, write_over, replace, remove, move, make_a_folder, link_to_another]
    READS = [records, many, neighbours, batch_at, element, elements, loop, step, scan, unpickled]
    number = 0
    for change in CHANGES:
        for read in READS + [workers] * (change is replace):
            for opened in (False, True):
                number += 1
                (path,) = write_numbers(folder, [400])
                source = source_of(path, on_error="substitute" if number % 3 == 0 else "raise")
                if opened:
                    source.get_records([0])  # read by the call for single records, whose reader stays open
                    source.get_records(np.arange(16))
                change(path, number)
                try:
                    read(source)
                except DataFileError as error:
                    assert error.path == path, error.path
                    assert path in str(error)
                    print(change.__name__, read.__name__, error)
                else:
                    raise AssertionError(f"{read.__name__} gave something after {change.__name__} (opened: {opened})")
                shutil.rmtree(folder)
                folder.mkdir()
"""


def test_no_route_serves_records_of_a_file_that_changed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    said = in_child(CHANGED, str(tmp_path / "data"), seconds=240)
    lines = said.splitlines()
    assert len(lines) == 2 * (10 * 10 + 1)
    changed = f"{tmp_path}/data/part-00.array_record changed while a source read it: it "
    gone = f"{tmp_path}/data/part-00.array_record is gone: it was removed while a source read it"
    for line in lines:
        change = line.split()[0]
        if change in ("remove", "move"):
            assert gone in line
        elif change in ("shrink", "empty", "grow", "cut_to_a_block"):
            assert f"{changed}has " in line
            assert " bytes where it had " in line
        elif change in ("write_over", "replace"):
            assert f"{changed}was written to or replaced; leave files as they are, and build the source anew" in line
        else:
            assert changed in line


@pytest.mark.parametrize("read", [lambda source: source.get_batch_at(32, 16), lambda source: source.get_batch(16)])
def test_records_read_ahead_of_a_file_that_changed_are_not_served(tmp_path: Path, read: Callable[[Any], Any]) -> None:
    (path,) = write_numbers(tmp_path, [600])
    source = source_of(path)
    assert ids(source.get_batch(16)) + ids(source.get_batch(16)) == list(range(32))
    Path(path).write_bytes(Path(path).read_bytes())
    with pytest.raises(DataFileError, match="changed while a source read it: it was written to or"):
        read(source)


def test_a_file_of_unchanged_content_is_read_on(tmp_path: Path) -> None:
    files = write_numbers(tmp_path, [50, 50])
    source = source_of(files)
    source.get_records(np.arange(100))
    Path(files[0]).chmod(0o600)
    Path(files[0] + ".note").touch()
    assert ids(source.get_records(np.arange(100))) == list(range(100))


def test_only_the_file_that_changed_is_refused(tmp_path: Path) -> None:
    files = write_numbers(tmp_path, [50, 50])
    source = source_of(files)
    Path(files[1]).unlink()
    assert ids(source.get_records(np.arange(50))) == list(range(50))
    with pytest.raises(DataFileError, match=f"{files[1]} is gone: it was removed while a source read it"):
        source.get_records([0, 50])
    write_numbers(tmp_path, [50, 50])
    assert ids(source_of(files).get_records(np.arange(100))) == list(range(100))


def test_a_copy_with_another_config_detects_changes_since_the_first_build(tmp_path: Path) -> None:
    (path,) = write_numbers(tmp_path, [50])
    source = source_of(path)
    write_numbers(tmp_path, [60])
    for twin in (
        source.copy(),
        source.clone(),
        source.copy(config=source.config.model_copy(update={"shuffle": False})),
    ):
        with pytest.raises(DataFileError, match="changed while a source read it"):
            twin.get_records([0])


@pytest.mark.parametrize("decoder", [Numbers(), None], ids=["decoded", "raw"])
def test_cached_records_need_no_files(tmp_path: Path, decoder: Any) -> None:
    (path,) = write_numbers(tmp_path, [50])
    source = source_of(path, decoder=decoder, cacheable=True)
    expected = [source[row] for row in range(50)]
    Path(path).unlink()
    source.get_batch_at(0, 100)
    assert len(list(Pipeline(source=source, batch_size=10))) == 5
    assert str([source[row] for row in range(50)]) == str(expected)
    source.reset_cache()
    with pytest.raises(DataFileError, match="is gone"):
        source.get_batch_at(0, 1)


def test_a_state_is_refused_over_other_files(tmp_path: Path) -> None:
    (path,) = write_numbers(tmp_path, [50])
    pipeline = Pipeline(source=source_of(path), batch_size=10)
    pipeline.step()
    state = pipeline.get_state()
    moved = tmp_path / "moved"
    moved.mkdir()
    Path(path).rename(moved / Path(path).name)
    resumed = Pipeline(source=source_of(moved), batch_size=10)
    resumed.set_state(state)
    assert ids(resumed.step()) == list(range(10, 20))
    for counts, message in (([51], "length was 50 and is 51"), ([25, 25], "files was 1 and is 2")):
        other = Pipeline(source=source_of(write_numbers(tmp_path, counts)), batch_size=10)
        with pytest.raises(StateError, match=f"the state is of another stream than .*{message}"):
            other.set_state(state)


def test_unpickling_does_not_look_at_the_files(tmp_path: Path) -> None:
    (path,) = write_numbers(tmp_path, [50])
    source = source_of(path)
    Path(path).rename(path + ".away")
    twin = pickle.loads(pickle.dumps(source))  # noqa: S301 - its own
    assert len(twin) == 50
    Path(path + ".away").rename(path)
    assert ids(twin.get_records([7])) == [7]


@pytest.mark.parametrize("count", [3, 5000])
def test_a_state_is_refused_over_files_of_equal_size_with_other_records(tmp_path: Path, count: int) -> None:
    sources = []
    for folder, offset in (("one", 100), ("other", 101)):
        (tmp_path / folder).mkdir()
        numbers = [number + offset for number in range(count)]
        path = write(tmp_path / folder / "part.array_record", map(record, numbers))
        sources.append(source_of(path))
    one, other = (Pipeline(source=source, batch_size=3) for source in sources)
    state = json.loads(json.dumps(one.get_state()))
    assert len(json.dumps(state)) < 1100
    one.set_state(state)
    with pytest.raises(StateError, match=r"of another stream than .*: content was '1 \w+' and is '1 \w+';"):
        other.set_state(state)
