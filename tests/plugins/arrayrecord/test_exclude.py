"""Excluded records are never served, and the others keep their order."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx
from record_files import damage, ids, source_of, write_numbers

from datarax_arrayrecord import ArrayRecordSourceConfig
from datarax_core import ConfigError, Pipeline, StateError


def exclude(place: Path, *entries: tuple[str, int]) -> Path:
    place.write_text("".join(f"{json.dumps({'file': file, 'record': row})}\n" for file, row in entries))
    return place


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return write_numbers(tmp_path, [6, 0, 4, 5])


def test_indices_skip_excluded_records(tmp_path: Path, files: list[str]) -> None:
    bad = exclude(tmp_path / "bad", (files[0], 0), (files[0], 5), (files[2], 0), (files[3], 4), (files[0], 5))
    source = source_of(files, exclude=bad)
    served = [1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13]
    assert len(source) == source.total_records == 11
    assert ids(source.get_records(range(11))) == served
    assert [int(source[index]["id"]) for index in range(-11, 11)] == served * 2
    assert ids(source.get_batch_at(9, 4)) == [12, 13, 1, 2]
    with pytest.raises(IndexError, match="record 11 is out of range: ArrayRecordSourceModule has 11 records"):
        source.get_records([11])
    for flag in ("shuffle", "shuffle_files"):
        shuffled = source_of(files, exclude=bad, rngs=nnx.Rngs(0), **{flag: True})
        batches = Pipeline(source=shuffled, batch_size=4)
        assert sorted(number for batch in batches for number in ids(batch)) == served


def test_whole_files_and_all_records_may_be_excluded(tmp_path: Path, files: list[str]) -> None:
    whole = exclude(tmp_path / "bad", *((files[2], row) for row in range(4)))
    source = source_of(files, exclude=whole, shuffle_files=True, rngs=nnx.Rngs(0))
    epoch = ids(source.get_batch_at(0, 11, source.order_key_data()))
    assert epoch in ([*range(6), *range(10, 15)], [*range(10, 15), *range(6)])
    everything = exclude(
        tmp_path / "all", *((file, row) for file, n in zip(files, (6, 0, 4, 5), strict=True) for row in range(n))
    )
    with pytest.raises(ValueError, match="its 4 files hold no records to serve, all of whose 15 records are excluded"):
        source_of(files, exclude=everything).get_batch_at(0, 1)


def test_excluded_records_are_neither_read_nor_counted_as_bad(tmp_path: Path) -> None:
    files = write_numbers(tmp_path, [10, 10])
    damage(files[1], 12, 13)
    listed = tmp_path / "bad.jsonl"
    finding = source_of(files, on_error="substitute", quarantine=listed)
    assert ids(finding.get_records(range(20)))[12:15] == [14, 14, 14]
    source = source_of(files, exclude=listed)
    assert ids(source.get_records(range(18))) == [*range(12), *range(14, 20)]
    damage(files[1], 15)
    with pytest.raises(ValueError, match=rf"record 5 of {files[1]} cannot be read: .*\(record 13 of ArrayRecordSource"):
        source_of(files, exclude=listed).get_records(range(18))
    again = source_of(files, exclude=listed, on_error="substitute", quarantine=listed)
    assert ids(again.get_records([13, 17])) == [16, 19]
    assert len(listed.read_text().splitlines()) == 3


def test_a_list_is_valid_for_files_that_were_moved(tmp_path: Path, files: list[str]) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    bad = exclude(
        tmp_path / "bad", ("/elsewhere/part-00.array_record", 2), ("part-02.array_record", 0), ("/x/other", 1)
    )
    for file in files:
        Path(file).rename(moved / Path(file).name)
    assert ids(source_of(moved, exclude=bad).get_records(range(13))) == [0, 1, 3, 4, 5, *range(7, 15)]


def test_a_path_takes_precedence_over_a_name(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
    train, test = (write_numbers(tmp_path / name, [3])[0] for name in ("train", "test"))
    bad = exclude(tmp_path / "bad", (test, 1))
    assert ids(source_of([train, test], exclude=bad).get_records(range(5))) == [0, 1, 2, 0, 2]
    unclear = exclude(tmp_path / "unclear", ("/moved/part-00.array_record", 1))
    message = f"unclear: line 1: /moved/part-00.array_record is no file of this source, and several .* such as {train}"
    with pytest.raises(ConfigError, match=message):
        source_of([train, test], exclude=unclear)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json\n", 'bad: line 1 is no line of a quarantine file: it lacks "file" and "record": \'not json\''),
        ('{"file": "a"}\n', "line 1 is no line of a quarantine file"),
        ("[1, 2]\n", "line 1 is no line of a quarantine file"),
        ("3\n", "line 1 is no line of a quarantine file"),
        ("[" * 5000 + "\n", "line 1 is no line of a quarantine file"),
        ("\n", "line 1 is no line of a quarantine file"),
        ('{"file": "part-00.array_record", "record": 1}\n{"fi', "line 2 is no line of a quarantine file"),
        ('{"file": 3, "record": 1}', 'line 1: "file" is text and "record" a number, not 3 and 1'),
        ('{"file": "a", "record": "1"}', "\"file\" is text and \"record\" a number, not 'a' and '1'"),
        ('{"file": "a", "record": true}', "a number, not 'a' and True"),
        ('{"file": "a", "record": null}', "a number, not 'a' and None"),
        ('{"file": "a", "record": 1.0}', "a number, not 'a' and 1.0"),
        (
            '{"file": "part-00.array_record", "record": 6}',
            "line 1: part-00.array_record has 6 records, and none with the number 6",
        ),
        ('{"file": "part-00.array_record", "record": -1}', "has 6 records, and none with the number -1"),
        ('{"file": "part-01.array_record", "record": 0}', "has 0 records, and none with the number 0"),
        (
            '{"file": "a", "record": 0}\n' * 2,
            "bad: none of its 2 lines names a file of this source, such as .*/part-00.array",
        ),
    ],
)
def test_an_invalid_list_is_refused(tmp_path: Path, files: list[str], text: str, message: str) -> None:
    (tmp_path / "bad").write_text(text)
    with pytest.raises(ConfigError, match=message):
        source_of(files, exclude=tmp_path / "bad")


def test_a_missing_list_is_an_error_and_an_empty_one_excludes_nothing(tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(
        FileNotFoundError, match=rf"no such file: {tmp_path}/bad; 'exclude' names a list that drx verify wrote"
    ):
        source_of(files, exclude=tmp_path / "bad")
    (tmp_path / "bad").touch()
    assert len(source_of(files, exclude=tmp_path / "bad")) == 15


def test_a_list_that_is_no_text_is_refused(tmp_path: Path, files: list[str]) -> None:
    (tmp_path / "bad").write_bytes(b"\xff\xfe\x00noise")
    with pytest.raises(ConfigError, match="bad: line 1 is no line of a quarantine file"):
        source_of(files, exclude=tmp_path / "bad")


@pytest.mark.parametrize("name", ["größe", "two\nlines", "para\u2029graph", 'quo"te', "back\\slash", "next\x85line"])
def test_unusual_file_names_are_listed_and_found(tmp_path: Path, name: str) -> None:
    (path,) = write_numbers(tmp_path, [5])
    odd = Path(path).rename(tmp_path / f"{name}.array_record")
    damage(str(odd), 2)
    listed = tmp_path / "bad"
    assert ids(source_of(odd, on_error="substitute", quarantine=listed).get_records([2])) == [3]
    assert ids(source_of(odd, exclude=listed).get_records(range(4))) == [0, 1, 3, 4]


def test_a_state_is_refused_with_other_excluded_records(tmp_path: Path, files: list[str]) -> None:
    def pipeline(*entries: tuple[str, int]) -> Pipeline:
        config: dict[str, Any] = {"exclude": exclude(tmp_path / "bad", *entries)} if entries else {}
        return Pipeline(source=source_of(files, **config), batch_size=3)

    first = pipeline((files[0], 1), (files[3], 2))
    first.step()
    state = json.loads(json.dumps(first.get_state()))
    same = pipeline((files[3], 2), (files[0], 1))
    same.set_state(state)
    assert ids(same.step()) == [4, 5, 6]
    for other in (pipeline(), pipeline((files[0], 1)), pipeline((files[0], 1), (files[3], 3))):
        with pytest.raises(
            StateError, match=r"the state is of another stream than .*: excluded was \[2, '\w+'\] and is "
        ):
            other.set_state(state)


def test_a_copy_with_another_list_reads_the_same_files(tmp_path: Path, files: list[str]) -> None:
    source = source_of(files)
    config = source.config.model_copy(update={"exclude": str(exclude(tmp_path / "bad", (files[0], 0)))})
    assert ids(source.copy(config=config).get_records(range(14))) == list(range(1, 15))
    assert ids(source.get_records(range(15))) == list(range(15))
    assert isinstance(config, ArrayRecordSourceConfig)
    assert np.array_equal(source.copy(config=config)._file_set.table.counts, source._file_set.table.counts)
