"""Staging of written files: a data set appears complete, or nothing changes."""

import contextlib
import fcntl
import glob
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from datarax_arrayrecord.config import ARRAY_RECORD
from datarax_arrayrecord.length_note import note_path
from datarax_arrayrecord.sidecar import sidecar_path
from datarax_core.config import without_file_scheme
from datarax_core.files import is_remote, shard_path, without_shard

_LOCK: Final = "writer.lock"
_SECONDS_WITHOUT_LOCK: Final = 3600
"""Seconds after which a folder without a lock, to which nothing is written any more, is taken for abandoned."""


@dataclass(frozen=True, slots=True)
class Target:
    """Paths that a data set is written to: its files, in the order of their records, its sidecar file and note of lengths."""

    path: str
    files: tuple[str, ...]
    sidecar: str
    note: str
    """Path of the note of lengths, which only a data set with ragged fields has."""

    @classmethod
    def of(cls, path: str | os.PathLike[str], shards: int) -> Self:
        """Return the target of a data set in so many files.

        Raises:
            TypeError, ValueError: ``path`` is no local path, has no suffix of ArrayRecord files, or names one shard.
        """
        text = os.fspath(path)
        if not isinstance(text, str):
            raise TypeError(f"the path to write to is text, not {path!r:.80}")
        text = without_file_scheme(text)
        if is_remote(text):
            raise ValueError(f"{text} is not on this machine; write to a local path, and copy the files there")
        if without_shard(text) != text:
            raise ValueError(f"{text} names one shard; name the data set, {without_shard(text)}, and say shards=...")
        suffixes = ARRAY_RECORD.suffixes
        if not text.endswith(suffixes):
            raise ValueError(
                f"{text!r} has none of the suffixes by which folders of ArrayRecord files are read ({', '.join(suffixes)}); "
                f"name it {text.rstrip(os.sep) or 'train'}{suffixes[0]}"
            )
        files = (text,) if shards == 1 else tuple(shard_path(text, shard, shards) for shard in range(shards))
        return cls(text, files, str(sidecar_path(text)), note_path(text))

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return Path(self.path).parent

    def present(self) -> list[str]:
        """Return the existing files of a data set of that name, in any number of shards."""
        shards = sorted(glob.glob(f"{glob.escape(self.path)}-*-of-*"))  # noqa: PTH207 - Path.glob takes no absolute ones
        files = [self.path, *(shard for shard in shards if without_shard(shard) == self.path), self.sidecar, self.note]
        return [file for file in files if Path(file).exists()]

    def require_free(self) -> None:
        """Raise if a data set of that name exists.

        Raises:
            FileExistsError: A file of it exists; names it.
        """
        if present := self.present():
            more = f", and {len(present) - 1} more files of that data set" if len(present) > 1 else ""
            raise FileExistsError(
                f"{present[0]} exists{more}; write to another path, or pass overwrite=True (--overwrite)"
            )


@contextmanager
def staged(target: Target, *, overwrite: bool) -> Iterator[Path]:
    """Make a staging folder next to the target for the block to write the files in; move them to the target at the end.

    If anything fails, the files of the target are as they were, and the staged ones are removed.

    Raises:
        FileExistsError: A data set of that name exists, and ``overwrite`` is False.
        OSError: The folder cannot be made or written to; names it.
    """
    for file in filter(os.path.isdir, (target.path, target.sidecar, target.note)):
        raise IsADirectoryError(f"{file} is a folder; name a file in it, such as {Path(file, 'train.array_record')}")
    if not overwrite:
        target.require_free()
    remove_abandoned(target)
    staging = _staging_folder(target)
    try:
        with (staging / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield staging
            if not overwrite:
                target.require_free()
            _publish(target, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def remove_abandoned(target: Target) -> None:
    """Remove the staging folders that killed writes of the same data set left; those of living writers stay.

    A writer holds a lock in its folder, which the system takes from it when it ends in any way.
    """
    if not target.folder.is_dir():
        return
    of_target = re.compile(rf"\.{re.escape(Path(target.path).name)}\.\w{{8}}\.tmp")
    for folder in [entry for entry in target.folder.iterdir() if of_target.fullmatch(entry.name)]:
        with contextlib.suppress(OSError):
            if _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except FileNotFoundError:  # made a moment ago, or by an older version
        newest = max(entry.stat().st_mtime for entry in (folder, *folder.iterdir()))
        return time.time() - newest > _SECONDS_WITHOUT_LOCK


def _staging_folder(target: Target) -> Path:
    if target.folder.is_file():
        raise NotADirectoryError(f"cannot write to the folder {target.folder}: it is a file; write to another one")
    try:
        target.folder.mkdir(parents=True, exist_ok=True)
        # neither globs nor folders of ArrayRecord files find it: its name begins with a dot and has another suffix
        return Path(tempfile.mkdtemp(prefix=f".{Path(target.path).name}.", suffix=".tmp", dir=target.folder))
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(f"cannot write to the folder {target.folder}: {reason}; write to another one") from error


def _publish(target: Target, staging: Path) -> None:
    """Move old files away and new ones to their names, the sidecar file last; if a move fails, undo all of them."""
    replaced = staging / "replaced"
    replaced.mkdir()
    moves = [(file, str(replaced / Path(file).name)) for file in reversed(target.present())]
    notes = [target.note] if (staging / Path(target.note).name).exists() else []
    made = [(str(staging / Path(file).name), file) for file in (*target.files, *notes, target.sidecar)]
    moves += made
    _flush([source for source, _ in made])
    done: list[tuple[str, str]] = []
    try:
        for source, destination in moves:
            done.append((source, destination))
            os.rename(source, destination)  # noqa: PTH104 - both are str
    except BaseException:  # also after an interruption, all files are moved or none
        for source, destination in reversed(done):
            if Path(destination).exists() and not Path(source).exists():
                os.rename(destination, source)  # noqa: PTH104
        raise


def _flush(files: Sequence[str]) -> None:
    """Flush files to the disk, so that no file has its name before its content is stored."""
    for file in files:
        with Path(file).open("rb") as opened:
            os.fsync(opened.fileno())
