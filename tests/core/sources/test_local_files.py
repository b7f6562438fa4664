"""``local_files_only``: what is missing is said, all of it, before anything could be fetched."""

from pathlib import Path

import pytest

from datarax_core import LocalFilesOnlyMixin


class Files(LocalFilesOnlyMixin):
    """A source whose data might be fetched."""

    def __init__(self, *, local_files_only: bool) -> None:
        self.local_files_only = local_files_only


def test_every_missing_path_is_named(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    paths = [tmp_path / "a.record", there, str(tmp_path / "b.record")]
    message = (
        rf"^data set 'digits' is not on this machine and local_files_only=True forbids fetching it; "
        rf"missing: {tmp_path}/a\.record, {tmp_path}/b\.record$"
    )
    with pytest.raises(FileNotFoundError, match=message):
        Files(local_files_only=True)._check_local_cache(paths, dataset_name="digits")


def test_what_is_there_passes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Files(local_files_only=True)._check_local_cache([tmp_path, tmp_path / "file"], dataset_name="digits")


def test_nothing_is_checked_unless_it_is_set(tmp_path: Path) -> None:
    assert LocalFilesOnlyMixin.local_files_only is False
    Files(local_files_only=False)._check_local_cache([tmp_path / "gone"], dataset_name="digits")
