"""Tables of one pass: computed once, kept under what they are made of, and made anew when anything of that changes."""

import os
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from datarax_core import DataSourceModule, LocalPath, SourceConfig
from datarax_core.sources import kept_table
from datarax_core.sources.views import kept_tables


class FilesConfig(SourceConfig):
    type: str = "files"
    path: LocalPath


class Files(DataSourceModule):
    """Numbers in a text file, one a line."""

    config: FilesConfig

    def __len__(self) -> int:
        return len(self._lines())

    def element_spec(self) -> Any:
        return {"value": jax.ShapeDtypeStruct((), np.int64)}

    def get_records(self, indices: Any) -> Any:
        return {"value": np.array(self._lines(), np.int64)[indices]}

    def _lines(self) -> list[str]:
        return Path(self.config.path).read_text().split()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setenv("DATARAX_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "data.txt").write_text("\n".join(map(str, range(500))))
    return Files(FilesConfig(path=str(tmp_path / "data.txt")))


class Doubled:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, batch: Any, indices: np.ndarray) -> Any:
        self.calls += 1
        assert batch["value"].tolist() == indices.tolist()
        return np.stack([batch["value"], batch["value"] * 2], axis=1)


def table_of(source: DataSourceModule, compute: Any, key: Any = "doubled") -> np.ndarray:
    return kept_table(source, compute, key=key, dtype=np.int64, shape=(2,))


def test_a_table_is_made_once_and_read_by_later_processes(files: Files, tmp_path: Path) -> None:
    compute = Doubled()
    table = table_of(files, compute)
    assert table.tolist() == [[i, 2 * i] for i in range(500)]
    assert not table.flags.writeable
    calls = compute.calls
    assert table_of(Files(files.config), compute).tolist() == table.tolist()
    assert compute.calls == calls
    assert len(list((tmp_path / "cache" / "tables").iterdir())) == 1


def test_a_file_that_changed_has_another_table(files: Files) -> None:
    table_of(files, Doubled())
    now = Path(files.config.path).stat()
    os.utime(files.config.path, ns=(now.st_atime_ns, now.st_mtime_ns + 1))
    compute = Doubled()
    table_of(Files(files.config), compute)
    assert compute.calls


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY nonsense", None])
def test_a_damaged_table_is_made_anew(files: Files, tmp_path: Path, damage: bytes | None) -> None:
    expected = table_of(files, Doubled()).tolist()
    (kept,) = (tmp_path / "cache" / "tables").iterdir()
    content = bytearray(kept.read_bytes())
    content[200] ^= 1
    kept.write_bytes(bytes(content) if damage is None else damage)
    compute = Doubled()
    assert table_of(files, compute).tolist() == expected
    assert compute.calls


def test_another_key_or_none_computes_again(files: Files, tmp_path: Path) -> None:
    table_of(files, Doubled())
    for key in ("other", None):
        compute = Doubled()
        table_of(files, compute, key)
        assert compute.calls
    assert len(list((tmp_path / "cache" / "tables").iterdir())) == 2


def test_data_in_memory_are_never_kept(make_host_source: Callable[..., Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("DATARAX_CACHE_DIR", str(tmp_path))
    source = make_host_source(50)
    assert kept_table(source, lambda b, _: b["id"] > 3, key="k", dtype=bool).sum() == 46
    assert source.where(id=(4, None)).length == 46
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_warned_of_once(files: Files, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DATARAX_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="tables cannot be kept in .*; set DATARAX_CACHE_DIR to a folder that can be"):
        table_of(files, Doubled())
    table_of(files, Doubled())


def test_conditions_and_named_functions_keep_their_pass(files: Files, tmp_path: Path) -> None:
    for _ in range(2):
        assert len(files.where(value=(100, 199))) == 100
        assert len(files.filter(lambda batch: batch["value"] % 2 == 0, key="even")) == 250
        assert len(files.filter(lambda batch: batch["value"] % 5 == 0)) == 100
    assert len(list((tmp_path / "cache" / "tables").iterdir())) == 2


def test_held_columns_are_not_read_by_record(make_source: Callable[..., Any]) -> None:
    source = make_source(3_000_000 // 1000)
    blocks: list[int] = []

    def compute(batch: Any, indices: np.ndarray) -> Any:
        blocks.append(len(indices))
        assert list(batch) == ["id"]
        return batch["id"] % 2 == 0

    assert kept_table(source, compute, key=None, dtype=bool, fields=["id"]).sum() == 1500
    assert blocks == [3000]


def test_an_error_of_reading_ends_the_pass(make_host_source: Callable[..., Any]) -> None:
    source = make_host_source(100)
    source.reads.fail = True
    with pytest.raises(OSError, match=r"^the disk is gone"):
        kept_table(source, lambda b, _: b["id"] > 3, key=None, dtype=bool)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_long_pass_shows_its_progress_on_a_terminal(
    make_host_source: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool
) -> None:
    stderr = StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(stderr, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(kept_tables, "_SHOW_AFTER", -1.0)
    source = make_host_source(100, name="web")
    assert kept_table(source, lambda b, _: b["id"] > 3, key=None, dtype=bool, what="filter").sum() == 96
    assert ("filter of HostRecords 'web'" in stderr.getvalue()) == is_terminal
