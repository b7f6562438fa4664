"""Paths of a source to its files: single files, folders, globs and shard patterns, in an order that never changes."""

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Final, Self

from datarax_core.config.addresses import refusal_of, scheme_of, without_file_scheme
from datarax_core.config.redaction import redacted, require_no_credentials
from datarax_core.storage.stores.listing import are_folders, entries_of, fixed_part, has_pattern, matches_of, present

from .names import (
    FileKind,
    is_data,
    is_sidecar,
    listed,
    require_one_data_set,
    require_one_match,
    shards_named,
)

_AT: Final = re.compile(r"(?P<name>.+)@(?P<shards>\d+)")
_ESCAPED: Final = re.compile(r"\[([*?[])\]")


def data_files(paths: Sequence[str], kind: FileKind, options: Mapping[str, Any] | None = None) -> list[str]:
    """Return the absolute paths of the files that ``paths`` name: path after path, the files of each sorted by name.

    A path is a file; a folder, which stands for all its files of the kind; a glob (``train-*.array_record``, ``**`` for
    folders at any depth); or all shards of one data set, ``train.array_record@8`` or ``train.array_record-?????-of-?????``.
    Whatever names several files, a shard that it names and a link to a file that is gone are missing files, not fewer ones; to
    read a part of a data set, name its files, or the numbers of its shards: ``train.array_record-0000[0-3]-of-00008``.

    ``file:///data/train`` is the path ``/data/train``. At addresses of the schemes that files of the kind are read from, the
    same holds: an object, a prefix of objects, a pattern, all shards. An object costs a request to see that it is there; a
    folder, a pattern and ``name@8`` cost a listing. Of ``https://``, a folder ends with a slash, and is listed by its page;
    ``?`` stands for itself but in ``-?????-of-?????``.

    Args:
        paths: Paths of this machine, and addresses.
        kind: The kind of files.
        options: Options of the stores at addresses, as `RemoteOptions.storage_options`.

    Raises:
        FileNotFoundError: A file, folder or shard is missing, or a pattern matches nothing; names it.
        PermissionError: A folder may not be listed.
        ValueError: A folder or pattern names files of several data sets, two paths name the same file, or an address has a
            scheme that is not read, or holds credentials.
        ConfigError, ConnectionError, TimeoutError: As `storage.ranges`, for addresses.
    """
    paths = [without_file_scheme(path) for path in paths]
    objects = _Objects.of([path for path in paths if is_remote(path)], kind, options)
    files = [
        file for path in paths for file in (objects.of_address(path) if is_remote(path) else _files_of(path, kind))
    ]
    real = [file if is_remote(file) else os.path.realpath(file) for file in files]  # several names may be of one file
    times = Counter(real)
    repeated = [file for file, place in zip(files, real, strict=True) if times[place] > 1]
    if repeated:
        raise ValueError(
            f"the paths name a file more than once, {listed(dict.fromkeys(repeated))}, so that its records would be served "
            "more than once; name each file once"
        )
    return [file if is_remote(file) else str(Path.cwd() / file) for file in files]


def is_remote(path: str) -> bool:
    """Return whether a path is the address of a file on another machine, such as ``gs://bucket/file``."""
    return scheme_of(path) is not None


def _files_of(path: str, kind: FileKind) -> list[str]:
    # a pattern in a config file has the folder of that file in escaped form
    for literal in dict.fromkeys((path, _ESCAPED.sub(r"\1", path))):
        place = Path(literal)
        if place.is_dir():
            return _in_folder(place, kind)
        if place.exists():
            return [literal]
        _require_no_dangling_link(place)
    if found := _AT.fullmatch(literal):
        there = lambda files: [Path(file).exists() for file in files]  # noqa: E731 - as `present` of addresses
        return _all_shards(literal, found["name"], int(found["shards"]), kind, there)
    if glob.has_magic(_ESCAPED.sub("", path)):
        return _matching(path, kind)
    raise FileNotFoundError(
        f"no such file or folder: {literal}; 'paths' names {kind.name} files, folders of them, or patterns such as "
        f"train-*{kind.suffixes[0]}"
    )


@dataclass(frozen=True)
class _Objects:
    """Objects that addresses name, as `_files_of` returns the files of a path."""

    kind: FileKind
    options: Mapping[str, Any] | None
    is_folder: Mapping[str, bool]
    """Of each address that is no pattern; stores are asked for all of them at once."""

    @classmethod
    def of(cls, addresses: Sequence[str], kind: FileKind, options: Mapping[str, Any] | None) -> Self:
        """Return them for the addresses of a source."""
        for address in addresses:
            if scheme_of(address) not in kind.schemes:
                raise ValueError(refusal_of(redacted(address), kind.schemes))
            require_no_credentials(address)
        plain = [address for address in addresses if not _AT.fullmatch(address) and not has_pattern(address)]
        return cls(kind, options, dict(zip(plain, are_folders(plain, options), strict=True)))

    def of_address(self, address: str) -> list[str]:
        """Return the objects that one address names."""
        if found := _AT.fullmatch(address):
            there = partial(present, options=self.options)
            return _all_shards(address, found["name"], int(found["shards"]), self.kind, there)
        if address in self.is_folder:
            return self._in_folder(address) if self.is_folder[address] else [address]
        files = [file for file in matches_of(address, self.options) if not is_sidecar(file, self.kind)]
        if not files:
            raise FileNotFoundError(f"no object matches {address}; check the pattern, and what the store lists")
        require_one_match(files, address, fixed_part(address))
        return files

    def _in_folder(self, folder: str) -> list[str]:
        files = [file for file in entries_of(folder, self.options) if is_data(file.rpartition("/")[2], self.kind)]
        if not files:
            raise _no_files(f"the folder {folder}", self.kind)
        require_one_data_set(files, f"the folder {folder}")
        return files


def _no_files(folder: str, kind: FileKind) -> FileNotFoundError:
    return FileNotFoundError(
        f"{folder} has no {kind.name} files: none whose name ends with {', '.join(kind.suffixes)}, or with the number of a "
        "shard after that; to read files of other names, give their paths"
    )


def _require_no_dangling_link(file: Path) -> None:
    """Raise if a path is a link to a file that does not exist; left out, it would be a file less without a word."""
    if file.is_symlink() and not file.exists():
        raise FileNotFoundError(
            f"no such file or folder: {file}, a link to {file.readlink()}, which does not exist; restore that file, or remove "
            "the link"
        )


def _in_folder(folder: Path, kind: FileKind) -> list[str]:
    entries = sorted(entry for entry in folder.iterdir() if is_data(entry.name, kind))
    files = [str(entry) for entry in entries if _is_file(entry)]
    if not files:
        raise _no_files(f"the folder {folder}", kind)
    require_one_data_set(files, f"the folder {folder}")
    return files


def _is_file(entry: Path) -> bool:
    """Return whether an entry is a file, not a folder, a pipe or a device; raise for a link to a file that is gone."""
    _require_no_dangling_link(entry)
    return stat.S_ISREG(entry.stat().st_mode)


def _all_shards(
    path: str, name: str, shards: int, kind: FileKind, present: Callable[[list[str]], list[bool]]
) -> list[str]:
    if not shards:
        raise FileNotFoundError(f"{path} names no shard at all; write the number of shards behind the @")
    forms = [(files, present(files)) for files in shards_named(name, shards, kind)]
    files, are_there = max(forms, key=lambda form: sum(form[1]))
    missing = [file for file, is_there in zip(files, are_there, strict=True) if not is_there]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of the {shards} shards of {path} are missing: {listed(missing)}")
    return files


def _matching(pattern: str, kind: FileKind) -> list[str]:
    _require_folders(pattern)
    found = sorted(file for file in glob.glob(pattern, recursive=True) if _is_file(Path(file)))  # noqa: PTH207 - Path.glob takes no absolute ones
    files = [file for file in found if not is_sidecar(file, kind)]
    if not files:
        folder = _fixed_part(pattern)
        reason = "no file matches" if folder.is_dir() else f"the folder {folder} does not exist, so no file matches"
        raise FileNotFoundError(f"{reason} {pattern}; check the pattern, and the folder that it is relative to")
    require_one_match(files, pattern, str(_fixed_part(pattern)))
    return files


def _require_folders(pattern: str) -> None:
    """Raise if a folder that a pattern names is a link to one that is gone; a link whose name has a suffix is of a file."""
    for folder in Path(pattern).parents:
        if glob.has_magic(folder.name):
            for entry in map(Path, glob.glob(str(folder), recursive=True)):  # noqa: PTH207 - as above
                if not entry.suffix:
                    _require_no_dangling_link(entry)


def _fixed_part(pattern: str) -> Path:
    return next(folder for folder in Path(pattern).parents if not glob.has_magic(str(folder)))


class LocalFilesOnlyMixin:
    """Attribute and check of a source that may download its data: ``local_files_only = True`` forbids all downloads."""

    local_files_only: bool = False
    """Whether downloads are forbidden.

    Called: by the constructor of a source, before it might download.
    Default: False.
    """

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
