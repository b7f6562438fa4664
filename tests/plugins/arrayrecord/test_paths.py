"""Every way to name files: which files are read, in which order, and errors of missing ones."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from record_files import Numbers, ids, record, source_of, write, write_numbers

import datarax_arrayrecord
from datarax_arrayrecord import ArrayRecordSourceConfig, ArrayRecordSourceModule
from datarax_arrayrecord.config import ARRAY_RECORD
from datarax_core import ConfigError, build_source
from datarax_core.files import data_files, shard_path, without_shard
from datarax_core.registry.pipeline_config import load_config


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that makes empty files of these names, and their folders."""

    def made(*names: str) -> list[str]:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return [str(tmp_path / name) for name in names]

    return made


def names(tmp_path: Path, *paths: str) -> list[str]:
    """Return the files that paths in the folder name, as paths relative to it."""
    return [
        str(Path(file).relative_to(tmp_path))
        for file in data_files([str(tmp_path / path) for path in paths], ARRAY_RECORD)
    ]


BEHIND = [f"train.array_record-{shard:05d}-of-00003" for shard in range(3)]
BEFORE = [f"train-{shard:05d}-of-00003.array_record" for shard in range(3)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("b.array_record", ["b.array_record"]),
        ("notes.txt", ["notes.txt"]),
        ("*.array_record", ["a.array_record", "b.array_record"]),
        ("[ab].array_record", ["a.array_record", "b.array_record"]),
        ("?.array_record", ["a.array_record", "b.array_record"]),
        ("**/*.array_record", ["a.array_record", "b.array_record", "deep/c.array_record", "deep/er/d.array_record"]),
        ("**", None),
        ("deep", ["deep/c.array_record"]),
        ("deep/", ["deep/c.array_record"]),
        ("d*", ["d.arecord"]),
        ("", ["a.array_record", "b.array_record", "d.arecord", "e.arrayrecord"]),
    ],
)
def test_a_path_names_a_file_a_folder_or_the_matches_of_a_glob(
    tmp_path: Path, make: Callable[..., Any], path: str, expected: list[str] | None
) -> None:
    files = ["b.array_record", "a.array_record", "deep/er/d.array_record", "deep/c.array_record", "notes.txt"]
    files += ["e.arrayrecord", "d.arecord", "a.array_record.json"]
    make(*files)
    everything = sorted(set(files) - {"a.array_record.json"})
    assert names(tmp_path, path) == (everything if expected is None else expected)


@pytest.mark.parametrize("shards", [BEHIND, BEFORE], ids=["number-behind", "number-before"])
@pytest.mark.parametrize("form", ["@3", "?????-of-?????", "?-of-?", "?????-of-00003", "*", "folder"])
def test_all_shards_of_a_data_set_in_every_form(
    tmp_path: Path, make: Callable[..., Any], shards: list[str], form: str
) -> None:
    make(*reversed(shards), "train.array_record.json")
    if form == "?-of-?":
        with pytest.raises(FileNotFoundError, match=r"no file matches .*-\?-of-\?"):
            names(tmp_path, shards[0].replace("00000-of-00003", form))
        return
    if form == "?????-of-00003":
        form = "*-of-00003"
    path = {"@3": "train.array_record@3", "folder": "", "*": "train*"}.get(
        form, shards[0].replace("00000-of-00003", form)
    )
    assert names(tmp_path, path) == shards


def test_paths_are_read_one_after_the_other_and_each_of_them_in_the_order_of_names(
    tmp_path: Path, make: Callable[..., Any]
) -> None:
    make("b1", "b0", "a1", "a0")
    assert names(tmp_path, "b*", "a1", "a0") == ["b0", "b1", "a1", "a0"]


def test_the_order_of_records_is_that_of_the_files(tmp_path: Path) -> None:
    first = write(tmp_path / "x.array_record", map(record, range(3)))
    second = write(tmp_path / "a.array_record", map(record, range(3, 5)))
    assert ids(source_of([first, second]).get_batch_at(0, 5)) == [0, 1, 2, 3, 4]
    assert ids(source_of([Path(second), Path(first)]).get_batch_at(0, 5)) == [3, 4, 0, 1, 2]
    assert ids(source_of(tmp_path).get_batch_at(0, 5)) == [3, 4, 0, 1, 2]
    assert source_of((first,)).paths == (first,)


@pytest.mark.parametrize(
    "name",
    [
        "train@2",
        "train@2.array_record",
        "a[1].array_record",
        "what?.array_record",
        "all*.array_record",
        "with space.array_record",
        "größe-数据.array_record",
        "new\nline.array_record",
        "~.array_record",
        "$HOME.array_record",
        "a:b.array_record",
    ],
)
def test_the_name_of_an_existing_file_is_taken_literally(tmp_path: Path, make: Callable[..., Any], name: str) -> None:
    make(name, "a1.array_record", "whatx.array_record", "all.array_record")
    assert names(tmp_path, name) == [name]


def test_a_folder_may_be_named_like_a_shard_or_a_pattern(tmp_path: Path, make: Callable[..., Any]) -> None:
    make("run-00001-of-00002/a.array_record", "run[1]/b.array_record", "run@2/c.array_record")
    assert names(tmp_path, "run-00001-of-00002") == ["run-00001-of-00002/a.array_record"]
    assert names(tmp_path, "run[1]") == ["run[1]/b.array_record"]
    assert names(tmp_path, "run@2/c*") == ["run@2/c.array_record"]
    assert without_shard("/run-00001-of-00002/a-00000-of-00003.array_record") == ("/run-00001-of-00002/a.array_record")
    assert without_shard(shard_path("/run-00001-of-00002/a", 3, 8)) == "/run-00001-of-00002/a"
    assert without_shard("a-00000-of-00003") == "a"


def test_other_files_in_the_folder_are_ignored(tmp_path: Path, make: Callable[..., Any]) -> None:
    make(
        "a.array_record", "a.array_record.json", "._a.array_record", ".b.array_record", "README", "a.array_record.part"
    )
    (tmp_path / "folder.array_record").mkdir()
    assert names(tmp_path, "") == ["a.array_record"]
    assert names(tmp_path, "*.array_record*") == ["a.array_record", "a.array_record.part"]


def test_relative_paths_stay_valid_when_the_process_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_numbers(tmp_path, [3, 3])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    source = source_of(["part-00.array_record", "./part-01.array_record"])
    monkeypatch.chdir("elsewhere")
    assert ids(source.get_batch_at(0, 6)) == [0, 1, 2, 3, 4, 5]
    assert ids(source.copy(name="twin").get_batch_at(0, 6)) == [0, 1, 2, 3, 4, 5]


def test_paths_in_a_config_file_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    files = write_numbers(tmp_path / "data", [2, 2])
    config = tmp_path / "run.json"
    config.write_text(json.dumps({"batch_size": 2, "source": {"type": "arrayrecord", "paths": "data/part-*"}}))
    monkeypatch.chdir("/")
    source = build_source(load_config(config).source)
    assert isinstance(source, ArrayRecordSourceModule)
    assert list(source.paths) == files


MISSING: list[tuple[list[str], list[str], str]] = [
    ([], ["none.array_record"], r"no such file or folder: \S+/none.array_record; 'paths' names ArrayRecord files"),
    ([], ["none/none.array_record"], r"no such file or folder: \S+/none/none.array_record"),
    (["a"], ["a/b.array_record"], r"no such file or folder: \S+/a/b.array_record"),
    ([], ["*.array_record"], r"^no file matches \S+/\*.array_record; check the pattern, and the folder that it is"),
    ([], ["none/*"], r"^the folder \S+/none does not exist, so no file matches \S+/none/\*"),
    ([], ["no*e/x/*"], r"^no file matches \S+/no\*e/x/\*"),
    (["a.array_record.json"], ["*"], "^no file matches"),
    (
        ["notes.txt", "a.json"],
        [""],
        r"the folder \S+ has no ArrayRecord files: none whose name ends with .array_record, ",
    ),
    ([], ["train@3"], "3 of the 3 shards of .*train@3 are missing: .*train-00000-of-00003"),
    (BEHIND[:1], ["train.array_record@3"], "2 of the 3 shards .* are missing: .*-00001-of-00003, .*-00002-of-00003$"),
    (BEFORE[1:], ["train.array_record@3"], r"1 of the 3 shards .* are missing: \S+/train-00000-of-00003.array_record$"),
    ([], ["train.array_record@0"], "@0 names no shard at all; write the number of shards behind the @"),
    ([], ["train@2000"], "2000 of the 2000 shards .*-00004-of-02000 and 1995 more$"),
    (
        BEHIND[1:],
        [""],
        r"1 of the 3 shards in the folder \S+ are missing: \S+-00000-of-00003; to read a part of a data set",
    ),
    (BEHIND[:2], ["train.array_record-?????-of-?????"], r"1 of the 3 shards in .* are missing: \S+-00002-of-00003; to"),
    (BEFORE[:2], ["train-?????-of-?????.array_record"], r"are missing: \S+/train-00002-of-00003.array_record; to read"),
]


@pytest.mark.parametrize(("files", "paths", "message"), MISSING)
def test_missing_files_are_named(
    tmp_path: Path, make: Callable[..., Any], files: list[str], paths: list[str], message: str
) -> None:
    make(*files)
    with pytest.raises(FileNotFoundError, match=message):
        names(tmp_path, *paths)


def test_some_shards_of_a_data_set_may_be_named(tmp_path: Path, make: Callable[..., Any]) -> None:
    make(*BEHIND[:2])
    assert names(tmp_path, *BEHIND[:2]) == BEHIND[:2]
    assert names(tmp_path, "train.array_record-0000[01]-of-00003") == BEHIND[:2]


TWICE = [
    (
        [*BEHIND, "train.array_record"],
        [""],
        r"holds \S+/train.array_record as one file and in 3 shards, so that its records",
    ),
    ([*BEHIND, "train.array_record"], ["*"], "as one file and in 3 shards"),
    (
        [*BEHIND, "other.array_record"],
        [""],
        "several data sets, other.array_record, train.array_record; name the one to read",
    ),
    (
        ["a", "b"],
        ["a", "b", "a"],
        r"the paths name a file more than once, \S+/a, so that its records would be served more",
    ),
    (["a"], ["a", "*"], r"more than once, \S+/a, .*; name each file once"),
    (["a.array_record"], ["a.array_record", ""], r"more than once, \S+/a.array_record, so"),
    (["a"], ["a", "./a"], "more than once"),
    (["a", "x/b"], ["a", "x/../a"], r"more than once, \S+/a, \S+/x/../a, so"),
    (
        [*BEHIND, "train.array_record-00000-of-00001"],
        [""],
        r"the folder \S+ holds \S+/train.array_record in 1 and in 3 shards, .* name those to read, such as \S+_record@3$",
    ),
    ([*BEFORE, "train-00000-of-00001.array_record"], ["*"], "train.array_record in 1 and in 3 shards, so that"),
    ([*BEHIND, "train.array_record-00000-of-00001"], ["train.array_record-?????-of-?????"], "in 1 and in 3 shards"),
    (
        [*BEHIND, "test.array_record-00000-of-00001"],
        [""],
        r"several data sets, test.array_record, train.array_record; name the one to read, such as \S+-\?\?\?\?\?-of-\?{5}$",
    ),
]


@pytest.mark.parametrize(("files", "paths", "message"), TWICE)
def test_paths_that_would_serve_a_record_twice_are_refused(
    tmp_path: Path, make: Callable[..., Any], files: list[str], paths: list[str], message: str
) -> None:
    make(*files)
    with pytest.raises(ValueError, match=message):
        data_files([f"{tmp_path}/{path}" for path in paths], ARRAY_RECORD)


def test_a_file_under_two_names_is_one_file(tmp_path: Path, make: Callable[..., Any]) -> None:
    make("a")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ValueError, match=r"more than once, \S+/a, \S+/b, so that"):
        names(tmp_path, "*")
    (tmp_path / "a").unlink()
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: \S+/b"):
        names(tmp_path, "b")


def test_addresses_are_refused_where_only_local_files_are_read(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="local_files_only=True forbids 'gs://b/a', which is not on this machine; copy"
    ):
        ArrayRecordSourceConfig(paths=["x", "gs://b/a"], local_files_only=True)
    with pytest.raises(
        FileNotFoundError, match="has local_files_only=True, which forbids 'gs://b/a': it is not on this"
    ):
        source_of("gs://b/a", local_files_only=True)
    (file,) = write_numbers(tmp_path, [1])
    source = source_of(file, local_files_only=True)
    assert source.local_files_only
    assert len(source) == 1


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hdfs://b/a", (r"'hdfs://b/a' is not on this machine, and hdfs:// is not read \(of addresses, only .*s3a://\); "
                       r"copy the files here, for example with hdfs dfs -get, or mount the storage, and name the local path")),
        ("nowhere://b/a", r"nowhere:// is not read \(of addresses, only .*\); copy the files here or mount"),
        ("file://host/a", "'file://host/a' names no absolute path of this machine; write file:///folder/file, with three"),
        ("https://user:secret@host/a", "credentials"),
    ],
)  # fmt: skip
def test_addresses_that_are_not_read_are_refused_by_name(address: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        ArrayRecordSourceConfig(paths=address)
    assert "secret" not in str(raised.value).replace("input_value", "")
    if "credentials" not in message:
        with pytest.raises(ValueError, match=message):
            source_of(address)


def test_a_file_address_is_a_path(tmp_path: Path) -> None:
    write_numbers(tmp_path, [2, 3])
    (tmp_path / "with space").mkdir()
    (file,) = write_numbers(tmp_path / "with space", [1])
    assert len(source_of(f"file://{tmp_path}/part-*")) == 5
    assert source_of(Path(file).as_uri()).paths == (file,)
    assert source_of(Path(Path(file).as_uri())).paths == (file,)  # Path drops two of the slashes
    datarax_arrayrecord.write(f"file://{tmp_path}/written.array_record", {"x": [1, 2]})
    assert (tmp_path / "written.array_record").is_file()
    assert source_of(None, paths=f"file://localhost{tmp_path}/part-0?.array_record").total_records == 5


def test_links_to_files_that_are_gone_are_missing_files(tmp_path: Path) -> None:
    write_numbers(tmp_path, [2, 3])
    (tmp_path / "part-02.array_record").symlink_to(tmp_path / "gone")
    for path in (tmp_path, tmp_path / "part-*", tmp_path / "*", tmp_path / "part-02.array_record"):
        with pytest.raises(FileNotFoundError, match=r"part-02.array_record, a link to \S+/gone, which does not exist"):
            source_of(path)
    (tmp_path / "gone").mkdir()
    assert len(source_of(tmp_path)) == 5  # a folder is no file of records, whatever its name


@pytest.mark.parametrize("pattern", ["train*", "*", "t*-of-*", "**", "train.array_record-0000?-of-00003"])
def test_a_pattern_misses_the_shards_that_it_names(tmp_path: Path, make: Callable[..., Any], pattern: str) -> None:
    make(BEHIND[0], BEHIND[2])
    with pytest.raises(
        FileNotFoundError, match=r"1 of the 3 shards in \S+ are missing: \S+-00001-of-00003; to read a part"
    ):
        names(tmp_path, pattern)
    assert names(tmp_path, "*-0000[02]-of-*") == [BEHIND[0], BEHIND[2]]
    with pytest.raises(FileNotFoundError, match=r"-00001-of-00003;"):
        names(tmp_path, "*-0000[12]-of-*")


@pytest.mark.parametrize("path", ["", "*", "*.array_record"])
def test_a_folder_of_several_splits_is_not_read_as_one(tmp_path: Path, make: Callable[..., Any], path: str) -> None:
    make("train.array_record", "my-test.array_record")
    with pytest.raises(
        ValueError,
        match=r"holds files of several splits, train.array_record \(train\) and my-test.array_record \(test\)",
    ):
        names(tmp_path, path)
    assert names(tmp_path, "t*n.array_record", "*test*") == ["train.array_record", "my-test.array_record"]


@pytest.mark.parametrize("pattern", ["**/*.array_record", "*/*", "t*/a*"])
def test_folders_of_several_splits_are_not_read_as_one(tmp_path: Path, make: Callable[..., Any], pattern: str) -> None:
    for folder in ("train", "test", "extra"):
        (tmp_path / folder).mkdir()
        make(f"{folder}/a.array_record")
    with pytest.raises(ValueError, match=r"several splits, train/a.array_record \(train\) and test/a.array_record"):
        data_files([str(tmp_path / pattern)], ARRAY_RECORD)
    assert len(data_files([str(tmp_path / "train/**/*"), str(tmp_path / "extra/*")], ARRAY_RECORD)) == 2


def test_the_paths_that_the_error_lists_read_all_files(tmp_path: Path, make: Callable[..., Any]) -> None:
    made = ["mnist-train.array_record", "mnist-val.array_record", "mnist-dev.array_record", "more.array_record"]
    make(*made)
    with pytest.raises(ValueError, match="to be read together") as refused:
        names(tmp_path, "")
    listed = str(refused.value).rpartition("together: ")[2].split(", ")
    assert sorted(Path(file).name for file in data_files(listed, ARRAY_RECORD)) == sorted(made)


def test_links_to_folders_that_are_gone_are_missing(tmp_path: Path, make: Callable[..., Any]) -> None:
    (tmp_path / "day1").mkdir()
    make("day1/a.array_record")
    (tmp_path / "README.md").symlink_to(tmp_path / "gone.md")
    assert len(data_files([str(tmp_path / "*/*")], ARRAY_RECORD)) == 1
    (tmp_path / "day2").symlink_to(tmp_path / "gone")
    for pattern in ("*/*", "**/*.array_record", "day*/a.array_record"):
        with pytest.raises(FileNotFoundError, match=r"day2, a link to \S+gone, which does not exist"):
            data_files([str(tmp_path / pattern)], ARRAY_RECORD)


def test_parts_and_words_are_no_splits(tmp_path: Path, make: Callable[..., Any]) -> None:
    made = ["contest.array_record", "latest-1.array_record", "train-1.array_record", "training-2.array_record"]
    made += ["train_test.array_record"]
    make(*made)
    assert names(tmp_path, "") == sorted(made)


def test_characters_of_patterns_in_the_folder_of_the_config_stand_for_themselves(tmp_path: Path) -> None:
    for folder, count in (("star*", 2), ("starry", 3), ("a[1]?", 4)):
        (tmp_path / folder).mkdir()
        write_numbers(tmp_path / folder, [count])
        write(tmp_path / folder / "set.array_record-00000-of-00001", [record(7)])
        for paths in ("part-*", "part-00.array_record", ["part*"]):
            (tmp_path / folder / "run.json").write_text(
                json.dumps({"batch_size": 2, "source": {"type": "arrayrecord", "paths": paths}})
            )
            source = build_source(load_config(tmp_path / folder / "run.json").source)
            assert [Path(path).parent.name for path in source.paths] == [folder]  # type: ignore[attr-defined]
            assert len(source) == count  # type: ignore[arg-type]
        for paths, wrong in (
            ("none-00.array_record", "no such file"),
            ("none*", "no file matches"),
            ("set@2", "shards of"),
        ):
            (tmp_path / folder / "run.json").write_text(
                json.dumps({"batch_size": 2, "source": {"type": "arrayrecord", "paths": paths}})
            )
            with pytest.raises(FileNotFoundError, match=wrong):
                build_source(load_config(tmp_path / folder / "run.json").source)
        (tmp_path / folder / "run.json").write_text(
            json.dumps({"batch_size": 2, "source": {"type": "arrayrecord", "paths": "set.array_record@1"}})
        )
        assert len(build_source(load_config(tmp_path / folder / "run.json").source)) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("paths", "error_type", "message"),
    [
        (3, TypeError, "ArrayRecordSourceModule takes a path or a list of paths, not 3"),
        ({"a": 1}, TypeError, "takes a path or a list of paths, not {'a': 1}"),
        (b"a", TypeError, "takes a path or a list of paths, not b'a'"),
        (["a", 3], TypeError, r"takes a path or a list of paths, not \['a', 3\]"),
        ("", TypeError, "takes a path or a list of paths, not ''"),
        ([], ValueError, "was given an empty list of paths; name a file, a folder or a pattern"),
        (None, ValueError, "was given no paths; pass paths, or name them in the config"),
    ],
)
def test_invalid_paths_are_refused(paths: Any, error_type: type[Exception], message: str) -> None:
    with pytest.raises(error_type, match=message):
        source_of(paths)


def test_paths_are_given_once(tmp_path: Path) -> None:
    (file,) = write_numbers(tmp_path, [1])
    with pytest.raises(
        ValueError, match="was given paths besides those of its config; pass paths, or name them in the"
    ):
        source_of(file, paths=file)
    with pytest.raises(ValueError, match="paths"):
        ArrayRecordSourceConfig(paths=[])
    with pytest.raises(
        ConfigError, match="an arrayrecord source in a config needs 'paths': files, folders or patterns"
    ):
        build_source({"type": "arrayrecord"})
    with pytest.raises(TypeError, match=re.escape("ArrayRecordSourceModule needs an ArrayRecordSourceConfig, not 3")):
        ArrayRecordSourceModule(3, file)  # type: ignore[arg-type]


def test_a_copy_with_other_paths_in_its_config_reads_other_files(tmp_path: Path) -> None:
    first, second = write_numbers(tmp_path, [2, 3])
    source = source_of(None, paths=first)
    copied = source.copy(config=ArrayRecordSourceConfig(paths=second, decoder=Numbers()))
    assert ids(copied.get_batch_at(0, 3)) == [2, 3, 4]
    assert ids(source.get_batch_at(0, 2)) == [0, 1]
