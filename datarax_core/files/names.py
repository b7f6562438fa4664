"""Names of the files of a data set: the kind of files, numbers of shards, splits, and whether all files are there.

The rules are the same for files of this machine and for objects at addresses.
"""
# ruff: noqa: PTH118, PTH119, PTH120, PTH122 - a Path would change addresses, and drop the ./ before a path

import fnmatch
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

_SHARD: Final = re.compile(r"-(?P<shard>\d{5,})-of-(?P<shards>\d{5,})")
_SPLIT: Final = re.compile(
    r"(?:^|[^a-z])(train|test|valid|val|eval|dev)(?:ing|uation|idation)?(?![a-z])", re.IGNORECASE
)
_SAME_SPLIT: Final = {"val": "valid", "eval": "valid", "dev": "valid"}
_MOST_LISTED: Final = 5
"""Paths that an error lists."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of files: its name in messages, such as ``ArrayRecord``, and the suffixes of its files."""

    name: str
    suffixes: tuple[str, ...]
    """The number of a shard stands before or after them; the first one is that of examples in messages."""

    schemes: frozenset[str] = frozenset()
    """Schemes of the addresses that are read in place, such as ``gs``."""


def without_shard(path: str) -> str:
    """Return the path of the data set that a file is a shard of: the path of the file without the shard's number."""
    folder, name = os.path.split(path)
    return os.path.join(folder, _SHARD.sub("", name))


def shard_path(path: str, shard: int, shards: int) -> str:
    """Return the path of a shard of the data set ``path``, such as ``train.array_record-00000-of-00008``."""
    return f"{path}-{shard:05d}-of-{shards:05d}"


def is_data(name: str, kind: FileKind) -> bool:
    """Return whether a name, without folders, is that of a file of a kind; names of hidden files are not."""
    hidden = name.startswith(".")  # globs skip them too: half-copied files, and those of the system
    return not hidden and _SHARD.sub("", name).endswith(kind.suffixes)


def is_of_kind(path: str, kind: FileKind) -> bool:
    """Return whether a path of this machine is that of a file of a kind, by its name, or of a folder that holds such a file."""
    if Path(path).is_dir():
        return any(is_data(entry.name, kind) for entry in Path(path).iterdir())
    return is_data(os.path.basename(path), kind)


def is_sidecar(file: str, kind: FileKind) -> bool:
    """Return whether a file is the sidecar file of a data set, or its note of lengths."""
    data_set = file.removesuffix(".json") if file.endswith(".json") else file.removesuffix(".lengths.npz")
    return data_set != file and data_set.endswith(kind.suffixes)


def shards_named(name: str, shards: int, kind: FileKind) -> tuple[list[str], list[str]]:
    """Return the paths of the shards of ``name@shards`` in both forms: with the number behind the suffix, and before it."""
    stem, suffix = _split_suffix(name, kind)
    behind = [shard_path(name, shard, shards) for shard in range(shards)]
    return behind, [shard_path(stem, shard, shards) + suffix for shard in range(shards)]


def require_one_data_set(files: Sequence[str], origin: str) -> None:
    """Raise if the files of a folder are of several data sets, several splits, or of one that is not complete.

    Raises:
        ValueError: Files of several data sets or splits, or of one in several forms.
        FileNotFoundError: Shards are missing.
    """
    sets = sorted({without_shard(file) for file in files})
    if len(sets) > 1 and any(_SHARD.search(os.path.basename(file)) for file in files):
        raise ValueError(
            f"{origin} holds the files of several data sets, {listed(os.path.basename(one) for one in sets)}; name the one to "
            f"read, such as {_pattern_of(sets[0], files)}"
        )
    _require_one_split(files, origin)
    _require_one_sharding(files, origin)
    _require_complete(files, origin)


def require_one_match(files: Sequence[str], pattern: str, root: str) -> None:
    """Raise if the files that a pattern matches are of several splits, or of a data set that is not complete.

    Args:
        files: The files.
        pattern: The pattern: shards whose names it does not match are left out on purpose.
        root: The folder below which the names of folders count.

    Raises:
        ValueError, FileNotFoundError: As `require_one_data_set`.
    """
    _require_one_split(files, pattern, root)
    _require_one_sharding(files, pattern)
    _require_complete(files, pattern, pattern)


def _split_suffix(name: str, kind: FileKind) -> tuple[str, str]:
    suffix = next((suffix for suffix in kind.suffixes if name.endswith(suffix)), "")
    return name.removesuffix(suffix), suffix


def _pattern_of(data_set: str, files: Iterable[str]) -> str:
    """Return the pattern of all files of a data set."""
    file = next(file for file in files if without_shard(file) == data_set)
    folder, name = os.path.split(file)
    return os.path.join(folder, _SHARD.sub("-?????-of-?????", name))


def _require_one_split(files: Sequence[str], origin: str, root: str | None = None) -> None:
    """Raise if files are of several splits by their names: nobody trains on both train and test by intent.

    Args:
        files: Files that are there.
        origin: The folder or pattern that named them, for the message.
        root: The folder below which the names of folders count, too; None for files of one folder.
    """
    places = {file: place for file in files if (place := _split_of(file, root)) is not None}
    in_folder: dict[str, dict[str, str]] = {}
    for file, place in places.items():
        in_folder.setdefault(place.folder, {}).setdefault(place.split, file)
    for of_split in in_folder.values():
        # "dev" is a split beside "train", and else a word like others
        named = {split: file for split, file in of_split.items() if split != "dev" or "train" in of_split}
        if len({_SAME_SPLIT.get(split, split) for split in named}) > 1:
            (first, one), (second, other), *_ = sorted(named.items(), key=lambda item: item[0] != "train")
            first_name, second_name = (
                os.path.relpath(file, root or os.path.dirname(file) or ".") for file in (one, other)
            )
            parts = dict.fromkeys(places[file].pattern if file in places else file for file in files)
            raise ValueError(
                f"{origin} holds files of several splits, {first_name} ({first}) and {second_name} "
                f"({second}); name the one to read, such as "
                f"{places[one].pattern}, or list all that are to be read together: {', '.join(parts)}"
            )


class _SplitPlace(NamedTuple):
    """The split that a path names: its folder, the split's name, and a pattern of the files that name it in this way."""

    folder: str
    split: str
    pattern: str


def _split_of(file: str, root: str | None) -> _SplitPlace | None:
    """Return the split that the name of a file, or of a folder on the way to it from ``root``, says; None if none does."""
    file = file if "://" in file else str(Path(file))
    folder, name = os.path.split(file)
    places = [file]
    while root is not None and folder not in ("", root, os.path.dirname(folder)):
        places.append(folder)
        folder = os.path.dirname(folder)
    for place in places:
        above, own = os.path.split(place)
        if len(named := {found[1] for found in _SPLIT.finditer(own)}) == 1:
            text = named.pop()
            suffix = os.path.splitext(without_shard(name))[1]
            parts = (above, f"*{text}*") if place == file else (place, "**", f"*{suffix}*")
            return _SplitPlace(above, text.lower(), os.path.join(*parts))
    return None


def _require_complete(files: Iterable[str], origin: str, pattern: str | None = None) -> None:
    """Raise if shards of a data set are missing: the others would be taken for the whole data set.

    Args:
        files: Files that are there.
        origin: The folder or pattern that named them, for the message.
        pattern: The pattern: shards whose names it does not match are left out on purpose. None wants all shards.
    """
    wanted = (
        re.compile(fnmatch.translate(os.path.basename(pattern).replace("**", "*"))) if pattern is not None else None
    )
    for (name, suffix), found in _shards(files).items():
        for shards, numbers in found.items():
            absent = [shard_path(name, shard, shards) + suffix for shard in range(shards) if shard not in numbers]
            missing = [file for file in absent if wanted is None or wanted.match(os.path.basename(file))]
            if missing:
                raise FileNotFoundError(
                    f"{len(missing)} of the {shards} shards in {origin} are missing: {listed(missing)}; to read a part of a "
                    "data set on purpose, name its files"
                )


def _require_one_sharding(files: Sequence[str], origin: str) -> None:
    """Raise if a data set is there twice, whole or in two numbers of shards: each record would be served twice."""
    whole = set(files)
    for (name, suffix), found in _shards(files).items():
        data_set, numbers = f"{name}{suffix}", sorted(found)
        if data_set in whole or len(numbers) > 1:
            forms = ["as one file"] * (data_set in whole) + [f"in {' and in '.join(map(str, numbers))} shards"]
            raise ValueError(
                f"{origin} holds {data_set} {' and '.join(forms)}, so that its records would be served more than once; name "
                f"those to read, such as {data_set}@{numbers[-1]}"
            )


def _shards(files: Iterable[str]) -> dict[tuple[str, str], dict[int, set[int]]]:
    """Return the numbers of the shards that are there, by data set (path before and after the number) and number of shards."""
    present: dict[tuple[str, str], dict[int, set[int]]] = {}
    for file in files:
        folder, name = os.path.split(file)
        if found := _SHARD.search(name):
            data_set = os.path.join(folder, name[: found.start()]), name[found.end() :]
            present.setdefault(data_set, {}).setdefault(int(found["shards"]), set()).add(int(found["shard"]))
    return present


def listed(paths: Iterable[str]) -> str:
    """Return the first paths, for messages, and how many more there are."""
    shown = list(paths)
    return ", ".join(shown[:_MOST_LISTED]) + (
        f" and {len(shown) - _MOST_LISTED} more" if len(shown) > _MOST_LISTED else ""
    )
