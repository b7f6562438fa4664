"""Config files: three formats, and every mistake that a file can have."""

from pathlib import Path

import pytest

from datarax_core.config.files import read_config_file
from datarax_core.errors import ConfigError

EXPECTED = {"batch_size": 128, "source": {"type": "memory", "path": "digits.npz", "shuffle": True}}

YAML = """\
batch_size: 128
source:
  type: memory
  path: digits.npz
  shuffle: true
"""
TOML = """\
batch_size = 128
[source]
type = "memory"
path = "digits.npz"
shuffle = true
"""
JSON = '{"batch_size": 128, "source": {"type": "memory", "path": "digits.npz", "shuffle": true}}'
BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", YAML), ("a.yml", YAML), ("a.YAML", YAML), ("a.toml", TOML), ("a.json", JSON)]
)
def test_every_format_gives_the_same_mapping(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_config_file(tmp_path / name).mapping == EXPECTED
    assert read_config_file(str(tmp_path / name)).mapping == EXPECTED


@pytest.mark.parametrize(("name", "text"), [("a.yaml", YAML), ("a.toml", TOML), ("a.json", JSON)])
def test_a_byte_order_mark_is_ignored(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_config_file(tmp_path / name).mapping == EXPECTED


def test_yaml_anchors_and_merges_work(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &base {a: 1, b: 2}\nchild: {<<: *base, b: 3}\n")
    assert read_config_file(path).mapping == {"base": {"a": 1, "b": 2}, "child": {"a": 1, "b": 3}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("True", True), ("false", False), ("~", None), ("", None),
        ("010", 10), ("0o10", 8), ("0x1f", 31), ("-7", -7), ("1_000", "1_000"), ("1:30", "1:30"),
        ("1e-3", 0.001), ("1.", 1.0), (".5", 0.5), ("+1E3", 1000.0), ("-.inf", float("-inf")),
        ("2024-01-31", "2024-01-31"), ("=", "="), ("'1'", "1"),
    ],
)  # fmt: skip
def test_yaml_is_read_as_version_1_2(tmp_path: Path, text: str, value: object) -> None:
    (tmp_path / "a.yaml").write_text(f"a: {text}\n")
    read = read_config_file(tmp_path / "a.yaml").mapping["a"]
    assert read == value
    assert type(read) is type(value)


def test_the_schema_key_of_editors_is_no_field(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(JSON.replace("{", '{"$schema": "drx.schema.json", ', 1))
    assert read_config_file(tmp_path / "a.json").mapping == EXPECTED


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", b"a: 1\nb: [1, 2\nc: 3\n", r"a\.yaml:3:2: not valid YAML: expected ',' or '\]'"),
        ("a.yaml", b"a: 1\n\tb: 2\n", r":2:1: not valid YAML: .*cannot start any token"),
        (
            "a.yaml",
            b"a: 1\nb: 2\na: 3\n",
            r"a\.yaml:3:1: the key 'a' is given twice in one mapping; keep",
        ),
        ("a.yaml", b"s: {type: x, type: y}\n", r":1:14: the key 'type' is given twice"),
        ("a.yaml", b"a: 1\n---\nb: 2\n", r":2:1: not valid YAML: but found another document"),
        (
            "a.yaml",
            b"a: !!python/object/apply:os.system [ls]\n",
            r":1:4: .*could not determine a constructor",
        ),
        ("a.yaml", b"a: \x01\n", r"a\.yaml: not valid YAML: .*special characters are not allowed"),
        ("a.yaml", b"a: !!timestamp 2024-13-01\n", r"a\.yaml: not valid YAML: month must be in 1"),
        ("a.yaml", b"a: " + b"9" * 5_000, r"a\.yaml: not valid YAML: Exceeds the limit"),
        ("a.yaml", b"a: &a\n  b: *a\n", r"a\.yaml:1:4: an alias stands for a value that it is part of; write it out"),
        ("a.yaml", BOMB, r"a\.yaml:\d+:\d+: its aliases stand for more than 1,000,000 values"),
        ("a.yaml", b"a: *nowhere\n", r":1:4: not valid YAML: found undefined alias 'nowhere'"),
        ("a.yaml", b"[" * 5_000, r"a\.yaml: nested too deeply to be a config"),
        ("a.toml", b"a = 1\nb = [1\n", r"a\.toml:3(:1)?: not valid TOML: [^(]*$"),
        ("a.toml", b"a = 1\nb = = 2\n", r"a\.toml:2:5: not valid TOML: [^(]*$"),
        ("a.toml", b"a = 1\na = 2\n", r"a\.toml:2:6: not valid TOML: Cannot overwrite a value$"),
        ("a.json", b'{"a": 1,\n "b": }', r"a\.json:2:7: not valid JSON: Expecting value"),
        (
            "a.json",
            b'{"a": {"c": 2},\n "d": [{"b": 1,\n "b": 2}]}',
            r"a\.json:3: the key 'b' is given twice in one object; keep one",
        ),
        ("a.json", b'{"a": NaN}', r"a\.json: not valid JSON: NaN is no number in JSON"),
        ("a.json", b'{"a": ' + b"9" * 5_000 + b"}", r"a\.json: not valid JSON: Exceeds the limit"),
        ("a.toml", b"a = " + b"9" * 5_000, r"a\.toml: not valid TOML: Exceeds the limit"),
        ("a.json", b"[" * 200_000, r"a\.json: nested too deeply to be a config"),
        ("a.yaml", b"- 1\n- 2\n", r"a\.yaml: the top level is a list, not a mapping; write fields such as batch_size"),
        ("a.json", b"[1]", r"a\.json: the top level is a list, not a mapping"),
        ("a.yaml", b"just text", r"a\.yaml: the top level is a str, not a mapping"),
        ("a.yaml", b"", r"a\.yaml: the file is empty; a pipeline config has a source and a batch_size"),
        ("a.yaml", b"# nothing yet\n", r"a\.yaml: the file is empty"),
        ("a.toml", b" \n", r"a\.toml: the file is empty"),
        ("a.json", b"", r"a\.json: the file is empty"),
        ("a.json", b"{}", r"a\.json: the file is empty"),
        ("a.yaml", b"a: caf\xe9\n", r"a\.yaml: byte 6 is not UTF-8; save the file as UTF-8 text"),
        (
            "a.ini",
            b"a = 1\n",
            r"a\.ini: the suffix '\.ini' says no known format; name the file \.yaml, \.yml, \.toml or",
        ),
        ("config", b"a = 1\n", r"config: the suffix '' says no known format"),
    ],
)
def test_a_bad_file_is_reported_with_its_mistake_and_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_config_file(path)
    assert str(caught.value).startswith(f"{path}:")
    assert [str(problem) for problem in caught.value.problems] == [str(caught.value)]


def test_a_missing_file_is_reported_with_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=rf"^train\.yaml: no such file; check the path and the working folder {tmp_path}"
    ):
        read_config_file("train.yaml")


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"a\.yaml: is a folder; name the config file in it"):
        read_config_file(tmp_path / "a.yaml")


def test_a_file_that_the_system_cannot_read_is_reported_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match=r"a\.yaml: cannot be read: Too many levels of symbolic links"):
        read_config_file(tmp_path / "a.yaml")


@pytest.fixture
def closed_file(shared_folder: Path) -> Path:
    path = shared_folder / "closed.yaml"
    path.write_text(YAML)
    path.chmod(0)
    return path


def test_a_file_without_permission_is_reported(closed_file: Path, ordinary_user: None) -> None:  # noqa: ARG001
    with pytest.raises(ConfigError, match=r"closed\.yaml: permission denied; make the file readable for this user"):
        read_config_file(closed_file)
