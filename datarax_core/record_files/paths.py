"""Paths of a source to its files: single files, folders, globs and shard patterns, in an order that never changes."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SHARD: Final = re.compile(r"-(?P<shard>\d{5,})-of-(?P<shards>\d{5,})")
_AT: Final = re.compile(r"(?P<name>.+)@(?P<shards>\d+)")
_ANY_SHARD: Final = re.compile(r"-(?P<shard>\?+)-of-(?P<shards>\?+)")
_MOST_LISTED: Final = 5
"""Paths that an error lists."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of files: its name in messages, such as ``ArrayRecord``, and the suffixes of its files."""

    name: str
    suffixes: tuple[str, ...]
    """The number of a shard stands before or after them; the first one is that of examples in messages."""


def data_files(paths: Sequence[str], kind: FileKind) -> list[str]:
    """Return the absolute paths of the files that ``paths`` name: path after path, the files of each sorted by name.

    A path is a file; a folder, which stands for all its files of the kind; a glob (``train-*.array_record``, ``**`` for
    folders at any depth); or all shards of one data set, ``train.array_record@8`` or ``train.array_record-?????-of-?????``.
    An address with ``://`` is returned as it is.

    Raises:
        FileNotFoundError: A file, folder or shard is missing, or a pattern matches nothing; names it.
        PermissionError: A folder may not be listed.
        ValueError: A folder holds the shards of several data sets, or two paths name the same file.
    """
    files = [file for path in paths for file in _files_of(path, kind)]
    real = [file if is_remote(file) else os.path.realpath(file) for file in files]  # several names may be of one file
    times = Counter(real)
    repeated = [file for file, place in zip(files, real, strict=True) if times[place] > 1]
    if repeated:
        raise ValueError(
            f"the paths name a file more than once, {_listed(dict.fromkeys(repeated))}, so that its records would be served "
            "more than once; name each file once"
        )
    return [file if is_remote(file) else str(Path.cwd() / file) for file in files]


def without_shard(path: str) -> str:
    """Return the path of the data set that a file is a shard of: the path of the file without the shard's number."""
    folder, name = os.path.split(path)
    return os.path.join(folder, _SHARD.sub("", name))  # noqa: PTH118 - a Path would drop the ./ before it


def shard_path(path: str, shard: int, shards: int) -> str:
    """Return the path of a shard of the data set ``path``, such as ``train.array_record-00000-of-00008``."""
    return f"{path}-{shard:05d}-of-{shards:05d}"


def is_remote(path: str) -> bool:
    """Return whether a path is the address of a file on another machine, such as ``gs://bucket/file``."""
    return "://" in path


def _files_of(path: str, kind: FileKind) -> list[str]:
    if is_remote(path):
        return [path]
    place = Path(path)
    if place.is_dir():
        return _in_folder(place, kind)
    if place.exists():
        return [path]
    if found := _AT.fullmatch(path):
        return _all_shards(path, found["name"], int(found["shards"]), kind)
    if glob.has_magic(path):
        return _matching(path, kind)
    raise FileNotFoundError(
        f"no such file or folder: {path}; 'paths' names {kind.name} files, folders of them, or patterns such as "
        f"train-*{kind.suffixes[0]}"
    )


def _in_folder(folder: Path, kind: FileKind) -> list[str]:
    files = sorted(str(entry) for entry in folder.iterdir() if _is_data(entry, kind) and entry.is_file())
    if not files:
        raise FileNotFoundError(
            f"the folder {folder} has no {kind.name} files: none whose name ends with {', '.join(kind.suffixes)}, or with the "
            "number of a shard after that; to read files of other names, give their paths"
        )
    sets = sorted({without_shard(file) for file in files if _SHARD.search(Path(file).name)})
    if len(sets) > 1:
        raise ValueError(
            f"the folder {folder} holds the shards of several data sets, {_listed(Path(one).name for one in sets)}; name the "
            f"one to read, such as {sets[0]}-?????-of-?????"
        )
    _require_one_sharding(files, f"the folder {folder}")
    _require_complete(files, f"the folder {folder}")
    return files


def _is_data(entry: Path, kind: FileKind) -> bool:
    hidden = entry.name.startswith(".")  # globs skip them too: half-copied files, and those of the system
    return not hidden and _SHARD.sub("", entry.name).endswith(kind.suffixes)


def _all_shards(path: str, name: str, shards: int, kind: FileKind) -> list[str]:
    if not shards:
        raise FileNotFoundError(f"{path} names no shard at all; write the number of shards behind the @")
    stem, suffix = _split_suffix(name, kind)
    behind = [shard_path(name, shard, shards) for shard in range(shards)]
    before = [shard_path(stem, shard, shards) + suffix for shard in range(shards)]
    present = max((behind, before), key=lambda files: sum(Path(file).exists() for file in files))
    missing = [file for file in present if not Path(file).exists()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of the {shards} shards of {path} are missing: {_listed(missing)}")
    return present


def _split_suffix(name: str, kind: FileKind) -> tuple[str, str]:
    suffix = next((suffix for suffix in kind.suffixes if name.endswith(suffix)), "")
    return name.removesuffix(suffix), suffix


def _matching(pattern: str, kind: FileKind) -> list[str]:
    found = sorted(file for file in glob.glob(pattern, recursive=True) if Path(file).is_file())  # noqa: PTH207 - Path.glob takes no absolute ones
    files = [file for file in found if not _is_sidecar(file, kind)]
    if not files:
        folder = _fixed_part(pattern)
        reason = "no file matches" if folder.is_dir() else f"the folder {folder} does not exist, so no file matches"
        raise FileNotFoundError(f"{reason} {pattern}; check the pattern, and the folder that it is relative to")
    _require_one_sharding(files, pattern)
    if _ANY_SHARD.search(pattern):
        _require_complete(files, pattern)
    return files


def _is_sidecar(file: str, kind: FileKind) -> bool:
    """Return whether a file is the sidecar file of a data set."""
    return file.endswith(".json") and Path(file).stem.endswith(kind.suffixes)


def _fixed_part(pattern: str) -> Path:
    return next(folder for folder in Path(pattern).parents if not glob.has_magic(str(folder)))


def _require_complete(files: Iterable[str], origin: str) -> None:
    """Raise if shards of a data set are missing: the others would be taken for the whole data set."""
    for (name, suffix), found in _shards(files).items():
        for shards, numbers in found.items():
            missing = [shard_path(name, shard, shards) + suffix for shard in range(shards) if shard not in numbers]
            if missing:
                raise FileNotFoundError(
                    f"{len(missing)} of the {shards} shards in {origin} are missing: {_listed(missing)}; to read a part of a "
                    "data set on purpose, name its files"
                )


def _require_one_sharding(files: Iterable[str], origin: str) -> None:
    """Raise if a data set is there twice, in two numbers of shards: each record would be served twice."""
    for (name, suffix), found in _shards(files).items():
        if len(found) > 1:
            numbers = sorted(found)
            raise ValueError(
                f"{origin} holds {name}{suffix} in {' and in '.join(map(str, numbers))} shards, so that its records would be "
                f"served more than once; name those to read, such as {name}{suffix}@{numbers[-1]}"
            )


def _shards(files: Iterable[str]) -> dict[tuple[str, str], dict[int, set[int]]]:
    """Return the numbers of the shards that are there, by data set (path before and after the number) and number of shards."""
    present: dict[tuple[str, str], dict[int, set[int]]] = {}
    for file in files:
        folder, name = os.path.split(file)
        if found := _SHARD.search(name):
            data_set = os.path.join(folder, name[: found.start()]), name[found.end() :]  # noqa: PTH118 - a Path would drop the ./ before it
            present.setdefault(data_set, {}).setdefault(int(found["shards"]), set()).add(int(found["shard"]))
    return present


def _listed(paths: Iterable[str]) -> str:
    shown = list(paths)
    return ", ".join(shown[:_MOST_LISTED]) + (
        f" and {len(shown) - _MOST_LISTED} more" if len(shown) > _MOST_LISTED else ""
    )
