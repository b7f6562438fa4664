"""Which files a source is made of, in an order that never changes."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path


def data_files(paths: Iterable[str]) -> list[str]:
    """The files that ``paths`` name, absolute: those of each path sorted by name, path after path.

    A path is a file; a folder, which stands for the ``.parquet`` files in it; or a glob, in which ``**`` is any depth.

    Raises:
        FileNotFoundError: A file or folder is missing, a folder has no Parquet file, or a glob matches nothing.
        ValueError: A file is named twice, by whatever paths.
    """
    files = [str(Path.cwd() / file) for path in paths for file in _files_of(path)]
    seen: dict[str, str] = {}
    for file in files:
        first = seen.setdefault(os.path.realpath(file), file)
        if first is not file:
            raise ValueError(f"the paths name {file} twice, so that its records would be served twice; name it once")
    return files


def _files_of(path: str) -> list[str]:
    if Path(path).is_dir():
        return _required(_parquet_files(Path(path)), f"the folder {path} has no file whose name ends with .parquet")
    if Path(path).exists():  # before globs: a file may be called data[1].parquet
        return [path]
    if glob.has_magic(path):
        matching = sorted(file for file in glob.glob(path, recursive=True) if Path(file).is_file())  # noqa: PTH207 - Path.glob takes no absolute ones
        return _required(matching, f"no file matches {path}")
    raise FileNotFoundError(f"no such file or folder: {path}; 'paths' names Parquet files, folders of them, or globs")


def _parquet_files(folder: Path) -> list[str]:
    """What writers put there; names that begin with a dot or an underscore are their notes and unfinished files."""
    return sorted(str(file) for file in folder.glob("*.parquet") if file.name[0] not in "._" and file.is_file())


def _required(files: list[str], problem: str) -> list[str]:
    if not files:
        raise FileNotFoundError(f"{problem}; name files, folders of .parquet files, or globs such as data/*.parquet")
    return files
