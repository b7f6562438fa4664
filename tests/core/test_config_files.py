"""Config files: three formats, and everything that can be wrong with a file."""

from pathlib import Path

import pytest

from datarax_core._config_files import read_config_file
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


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", YAML), ("a.yml", YAML), ("a.YAML", YAML), ("a.toml", TOML), ("a.json", JSON)]
)
def test_every_format_gives_the_same_mapping(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_config_file(tmp_path / name) == EXPECTED
    assert read_config_file(str(tmp_path / name)) == EXPECTED


@pytest.mark.parametrize(("name", "text"), [("a.yaml", YAML), ("a.toml", TOML), ("a.json", JSON)])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_config_file(tmp_path / name) == EXPECTED


def test_yaml_anchors_and_merges_work(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &base {a: 1, b: 2}\nchild: {<<: *base, b: 3}\n")
    assert read_config_file(path) == {"base": {"a": 1, "b": 2}, "child": {"a": 1, "b": 3}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", b"a: 1\nb: [1, 2\nc: 3\n", r"a\.yaml: line 3, column 2: not valid YAML: expected ',' or '\]'"),
        ("a.yaml", b"a: 1\n\tb: 2\n", r"line 2, column 1: not valid YAML: .*cannot start any token"),
        (
            "a.yaml",
            b"a: 1\nb: 2\na: 3\n",
            r"a\.yaml: line 3, column 1: the key 'a' is given twice in one mapping; keep",
        ),
        ("a.yaml", b"s: {type: x, type: y}\n", r"line 1, column 14: the key 'type' is given twice"),
        ("a.yaml", b"a: 1\n---\nb: 2\n", r"line 2, column 1: not valid YAML: but found another document"),
        (
            "a.yaml",
            b"a: !!python/object/apply:os.system [ls]\n",
            r"line 1, column 4: .*could not determine a constructor",
        ),
        ("a.yaml", b"a: \x01\n", r"a\.yaml: not valid YAML: .*special characters are not allowed"),
        ("a.yaml", b"a: 2024-13-01\n", r"a\.yaml: not valid YAML: month must be in 1"),
        ("a.yaml", b"a: *nowhere\n", r"line 1, column 4: not valid YAML: found undefined alias 'nowhere'"),
        ("a.yaml", b"[" * 5_000, r"a\.yaml: nested too deeply to be a config"),
        ("a.toml", b"a = 1\nb = [1\n", r"a\.toml: not valid TOML: .*\(at (line 3, column 1|end of document)\)"),
        ("a.toml", b"a = 1\nb = = 2\n", r"a\.toml: not valid TOML: .*line 2, column 5"),
        ("a.toml", b"a = 1\na = 2\n", r"a\.toml: not valid TOML: Cannot overwrite a value \(at line 2, column 6\)"),
        ("a.json", b'{"a": 1,\n "b": }', r"a\.json: line 2, column 7: not valid JSON: Expecting value"),
        ("a.json", b'{"a": {"b": 1, "b": 2}}', r"a\.json: the key 'b' is given twice in one object; keep one"),
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
def test_a_bad_file_says_what_is_wrong_and_where(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_config_file(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_is_told_with_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=rf"^train\.yaml: no such file; check the path and the working folder {tmp_path}"
    ):
        read_config_file("train.yaml")


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"a\.yaml: is a folder; name the config file in it"):
        read_config_file(tmp_path / "a.yaml")


def test_a_file_that_the_system_will_not_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match=r"a\.yaml: cannot be read: Too many levels of symbolic links"):
        read_config_file(tmp_path / "a.yaml")


@pytest.fixture
def closed_file(shared_folder: Path) -> Path:
    path = shared_folder / "closed.yaml"
    path.write_text(YAML)
    path.chmod(0)
    return path


def test_a_file_without_permission_says_so(closed_file: Path, ordinary_user: None) -> None:  # noqa: ARG001
    with pytest.raises(ConfigError, match=r"closed\.yaml: permission denied; make the file readable for this user"):
        read_config_file(closed_file)
