"""The data files that paths name, in an order that never changes."""

import glob
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datarax_core.config import READ_SCHEMES
from datarax_core.files import FileKind, is_remote
from datarax_core.files import data_files as core_files

PARQUET = FileKind("Parquet", (".parquet",), READ_SCHEMES)

_ESCAPED = re.compile(r"\[([*?[])\]")


def data_files(paths: Iterable[str], options: Mapping[str, Any] | None = None) -> list[str]:
    """Return the absolute paths of the files that ``paths`` name: for each path its files, sorted by name.

    A path is a file, a folder (of which the ``.parquet`` files are read), or a glob, in which ``**`` is any depth. Addresses
    are left to the core, which lists what lies there.

    Raises:
        FileNotFoundError: A file or folder is missing, a folder has no Parquet file, or a glob matches nothing.
        ValueError: A file is named twice, even by different paths.
    """
    files = [file if is_remote(file) else str(Path.cwd() / file) for path in paths for file in _files_of(path, options)]
    seen: dict[str, str] = {}
    for file in files:
        first = seen.setdefault(file if is_remote(file) else os.path.realpath(file), file)
        if first is not file:
            raise ValueError(f"the paths name {file} twice, so that its records would be served twice; name it once")
    return files


def _files_of(path: str, options: Mapping[str, Any] | None) -> list[str]:
    if is_remote(path):
        return core_files([path], PARQUET, options)
    # a `LocalPattern` of a config file has the folder of that file in escaped form
    for literal in dict.fromkeys((path, _ESCAPED.sub(r"\1", path))):
        if Path(literal).is_dir():
            files = _parquet_files(Path(literal))
            return _required(files, f"the folder {literal} has no file whose name ends with .parquet")
        if Path(literal).exists():  # checked before globs: a file may be called data[1].parquet
            return [literal]
    if glob.has_magic(_ESCAPED.sub("", path)):
        matching = sorted(file for file in glob.glob(path, recursive=True) if _is_file(Path(file)))  # noqa: PTH207 - Path.glob takes no absolute ones
        return _required(matching, f"no file matches {path}")
    raise FileNotFoundError(
        f"no such file or folder: {literal}; 'paths' names Parquet files, folders of them, or globs"
    )


def _parquet_files(folder: Path) -> list[str]:
    """Return the data files of a folder; writers give unfinished files and notes names with a dot or underscore in front."""
    return sorted(str(file) for file in folder.glob("*.parquet") if file.name[0] not in "._" and _is_file(file))


def _is_file(entry: Path) -> bool:
    if entry.is_symlink() and not entry.exists():  # left out, it would be a file less without a word
        raise FileNotFoundError(
            f"no such file: {entry}, a link to {entry.readlink()}, which does not exist; restore that file"
        )
    return entry.is_file()


def _required(files: list[str], problem: str) -> list[str]:
    if not files:
        raise FileNotFoundError(f"{problem}; name files, folders of .parquet files, or globs such as data/*.parquet")
    return files
