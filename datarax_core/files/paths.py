"""Paths of a source to its files: single files, folders, globs and shard patterns, in an order that never changes."""

import fnmatch
import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final, NamedTuple

from datarax_core.config.addresses import refusal_of, scheme_of, without_file_scheme

_SHARD: Final = re.compile(r"-(?P<shard>\d{5,})-of-(?P<shards>\d{5,})")
_AT: Final = re.compile(r"(?P<name>.+)@(?P<shards>\d+)")
_ESCAPED: Final = re.compile(r"\[([*?[])\]")
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


def data_files(paths: Sequence[str], kind: FileKind) -> list[str]:
    """Return the absolute paths of the files that ``paths`` name: path after path, the files of each sorted by name.

    A path is a file; a folder, which stands for all its files of the kind; a glob (``train-*.array_record``, ``**`` for
    folders at any depth); or all shards of one data set, ``train.array_record@8`` or ``train.array_record-?????-of-?????``.
    Whatever names several files, a shard that it names and a link to a file that is gone are missing files, not fewer ones; to
    read a part of a data set, name its files, or the numbers of its shards: ``train.array_record-0000[0-3]-of-00008``.

    ``file:///data/train`` is the path ``/data/train``. An address of a scheme that files of the kind are read from is returned
    as it is.

    Raises:
        FileNotFoundError: A file, folder or shard is missing, or a pattern matches nothing; names it.
        PermissionError: A folder may not be listed.
        ValueError: A folder or pattern names files of several data sets, two paths name the same file, or an address has a
            scheme that is not read.
    """
    paths = [without_file_scheme(path) for path in paths]
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
    return scheme_of(path) is not None


def _files_of(path: str, kind: FileKind) -> list[str]:
    if is_remote(path):
        return [_read_in_place(path, kind)]
    # a pattern in a config file has the folder of that file in escaped form
    for literal in dict.fromkeys((path, _ESCAPED.sub(r"\1", path))):
        place = Path(literal)
        if place.is_dir():
            return _in_folder(place, kind)
        if place.exists():
            return [literal]
        _require_no_dangling_link(place)
    if found := _AT.fullmatch(literal):
        return _all_shards(literal, found["name"], int(found["shards"]), kind)
    if glob.has_magic(_ESCAPED.sub("", path)):
        return _matching(path, kind)
    raise FileNotFoundError(
        f"no such file or folder: {literal}; 'paths' names {kind.name} files, folders of them, or patterns such as "
        f"train-*{kind.suffixes[0]}"
    )


def _read_in_place(address: str, kind: FileKind) -> str:
    if scheme_of(address) not in kind.schemes:
        raise ValueError(refusal_of(address, kind.schemes))
    if _AT.fullmatch(address) or glob.has_magic(address):
        raise ValueError(f"{address} is a pattern, and at an address none is expanded; name each file")
    return address


def _require_no_dangling_link(file: Path) -> None:
    """Raise if a path is a link to a file that does not exist; left out, it would be a file less without a word."""
    if file.is_symlink() and not file.exists():
        raise FileNotFoundError(
            f"no such file or folder: {file}, a link to {file.readlink()}, which does not exist; restore that file, or remove "
            "the link"
        )


def _in_folder(folder: Path, kind: FileKind) -> list[str]:
    entries = sorted(entry for entry in folder.iterdir() if _is_data(entry, kind))
    files = [str(entry) for entry in entries if _is_file(entry)]
    if not files:
        raise FileNotFoundError(
            f"the folder {folder} has no {kind.name} files: none whose name ends with {', '.join(kind.suffixes)}, or with the "
            "number of a shard after that; to read files of other names, give their paths"
        )
    origin = f"the folder {folder}"
    sets = sorted({without_shard(file) for file in files})
    if len(sets) > 1 and any(_SHARD.search(Path(file).name) for file in files):
        raise ValueError(
            f"{origin} holds the files of several data sets, {_listed(Path(one).name for one in sets)}; name the one to read, "
            f"such as {_pattern_of(sets[0], files)}"
        )
    _require_one_split(files, origin)
    _require_one_sharding(files, origin)
    _require_complete(files, origin)
    return files


def _pattern_of(data_set: str, files: Iterable[str]) -> str:
    """Return the pattern of all files of a data set."""
    file = next(file for file in files if without_shard(file) == data_set)
    folder, name = os.path.split(file)
    return os.path.join(folder, _SHARD.sub("-?????-of-?????", name))  # noqa: PTH118 - a Path would drop the ./ before it


def _is_file(entry: Path) -> bool:
    """Return whether an entry is a file, not a folder, a pipe or a device; raise for a link to a file that is gone."""
    _require_no_dangling_link(entry)
    return stat.S_ISREG(entry.stat().st_mode)


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
    _require_folders(pattern)
    found = sorted(file for file in glob.glob(pattern, recursive=True) if _is_file(Path(file)))  # noqa: PTH207 - Path.glob takes no absolute ones
    files = [file for file in found if not _is_sidecar(file, kind)]
    if not files:
        folder = _fixed_part(pattern)
        reason = "no file matches" if folder.is_dir() else f"the folder {folder} does not exist, so no file matches"
        raise FileNotFoundError(f"{reason} {pattern}; check the pattern, and the folder that it is relative to")
    _require_one_split(files, pattern, _fixed_part(pattern))
    _require_one_sharding(files, pattern)
    _require_complete(files, pattern, pattern)
    return files


def _require_folders(pattern: str) -> None:
    """Raise if a folder that a pattern names is a link to one that is gone; a link whose name has a suffix is of a file."""
    for folder in Path(pattern).parents:
        if glob.has_magic(folder.name):
            for entry in map(Path, glob.glob(str(folder), recursive=True)):  # noqa: PTH207 - as above
                if not entry.suffix:
                    _require_no_dangling_link(entry)


def _is_sidecar(file: str, kind: FileKind) -> bool:
    """Return whether a file is the sidecar file of a data set, or its note of lengths."""
    data_set = file.removesuffix(".json") if file.endswith(".json") else file.removesuffix(".lengths.npz")
    return data_set != file and data_set.endswith(kind.suffixes)


def _fixed_part(pattern: str) -> Path:
    return next(folder for folder in Path(pattern).parents if not glob.has_magic(str(folder)))


def _require_one_split(files: Sequence[str], origin: str, root: Path | None = None) -> None:
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
            parts = dict.fromkeys(places[file].pattern if file in places else file for file in files)
            raise ValueError(
                f"{origin} holds files of several splits, {os.path.relpath(one, root or Path(one).parent)} ({first}) and "
                f"{os.path.relpath(other, root or Path(other).parent)} ({second}); name the one to read, such as "
                f"{places[one].pattern}, or list all that are to be read together: {', '.join(parts)}"
            )


class _SplitPlace(NamedTuple):
    """The split that a path names: its folder, the split's name, and a pattern of the files that name it in this way."""

    folder: str
    split: str
    pattern: str


def _split_of(file: str, root: Path | None) -> _SplitPlace | None:
    """Return the split that the name of a file, or of a folder on the way to it from ``root``, says; None if none does."""
    path = Path(file)
    for place in (path, *(parent for parent in path.parents if root is not None and root in parent.parents)):
        if len(named := {found[1] for found in _SPLIT.finditer(place.name)}) == 1:
            text = named.pop()
            pattern = (
                place.parent / f"*{text}*"
                if place == path
                else place / "**" / f"*{Path(without_shard(path.name)).suffix}*"
            )
            return _SplitPlace(str(place.parent), text.lower(), str(pattern))
    return None


def _require_complete(files: Iterable[str], origin: str, pattern: str | None = None) -> None:
    """Raise if shards of a data set are missing: the others would be taken for the whole data set.

    Args:
        files: Files that are there.
        origin: The folder or pattern that named them, for the message.
        pattern: The pattern: shards whose names it does not match are left out on purpose. None wants all shards.
    """
    wanted = re.compile(fnmatch.translate(Path(pattern).name.replace("**", "*"))) if pattern is not None else None
    for (name, suffix), found in _shards(files).items():
        for shards, numbers in found.items():
            absent = [shard_path(name, shard, shards) + suffix for shard in range(shards) if shard not in numbers]
            missing = [file for file in absent if wanted is None or wanted.match(Path(file).name)]
            if missing:
                raise FileNotFoundError(
                    f"{len(missing)} of the {shards} shards in {origin} are missing: {_listed(missing)}; to read a part of a "
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
            data_set = os.path.join(folder, name[: found.start()]), name[found.end() :]  # noqa: PTH118 - a Path would drop the ./ before it
            present.setdefault(data_set, {}).setdefault(int(found["shards"]), set()).add(int(found["shard"]))
    return present


def _listed(paths: Iterable[str]) -> str:
    shown = list(paths)
    return ", ".join(shown[:_MOST_LISTED]) + (
        f" and {len(shown) - _MOST_LISTED} more" if len(shown) > _MOST_LISTED else ""
    )


class LocalFilesOnlyMixin:
    """Attribute and check of a source that may download its data: ``local_files_only = True`` forbids all downloads."""

    local_files_only: bool = False

    def _check_local_cache(self, expected_paths: Iterable[str | PathLike[str]], *, dataset_name: str) -> None:
        """Raise if downloads are forbidden and a file is missing; call it before any network attempt.

        Raises:
            TypeError: ``expected_paths`` is one path, not several.
            FileNotFoundError: ``local_files_only`` is set and a path is missing; names the data set and every missing path.
        """
        if isinstance(expected_paths, str | PathLike) or not isinstance(expected_paths, Iterable):
            raise TypeError(
                f"expected_paths are the paths of {dataset_name!r}, a list of them, not {expected_paths!r:.80}"
            )
        if not self.local_files_only:
            return
        missing = [path for path in expected_paths if not Path(path).exists()]
        if missing:
            raise not_on_this_machine(dataset_name, missing)


def not_on_this_machine(dataset_name: str, missing: Iterable[str | PathLike[str]], hint: str = "") -> FileNotFoundError:
    """Return the error of a data set that is missing where ``local_files_only`` forbids a download.

    Args:
        dataset_name: The data set.
        missing: Its missing files and folders.
        hint: Appended to the message; says what there is instead, or what to do.
    """
    return FileNotFoundError(
        f"data set {dataset_name!r} is not on this machine and local_files_only=True forbids fetching it; "
        f"missing: {', '.join(map(str, missing))}{hint}"
    )
