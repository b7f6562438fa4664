"""Files of a source, found and counted, with their decoder, excluded records and the policy for bad records."""

import hashlib
import warnings
from collections.abc import Sequence
from functools import cached_property
from os import PathLike, fspath
from typing import Any, Final

import numpy as np

from datarax_arrayrecord.config import ARRAY_RECORD, ArrayRecordSourceConfig
from datarax_arrayrecord.decoders import DOTTED, RawDecoder
from datarax_arrayrecord.length_note import noted_lengths
from datarax_arrayrecord.sidecar import decoder_of_files
from datarax_core.files import data_files, is_remote
from datarax_core.sources import FileTable
from datarax_core.storage import Cache, RangeReader, redacted, user_cache_folder

from .array_records import ArrayRecordReader
from .files import fingerprint_of, table_of

PathsLike = str | PathLike[str] | Sequence[str | PathLike[str]]

_READING_FIELDS: Final = (
    *("decoder", "on_error", "max_errors", "quarantine", "exclude", "max_open_files"),
    *("cache_dir", "cache_bytes", "storage_options"),
)
"""Fields of the config that change how the same files are read."""


class FileSet:
    """Files of a source, and the reader of their records; shared by copies of the source, and outside of every nnx graph.

    Args:
        config: Config that the records are read by.
        given: Paths, folders and patterns that name the files.
        table: The files.
        records: Reader of their records.
    """

    def __init__(
        self, config: ArrayRecordSourceConfig, given: tuple[str, ...], table: FileTable, records: ArrayRecordReader
    ) -> None:
        self.given = given
        self.table = table
        self.records = records
        self._config = config

    def is_read_as(self, config: ArrayRecordSourceConfig) -> bool:
        """Return whether a source with this config reads the same records in the same way."""
        return all(getattr(config, field) == getattr(self._config, field) for field in _READING_FIELDS)

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that a restored state must match: names and lengths of files, decoder and excluded records."""
        excluded = self.records.excluded
        digest = hashlib.sha256(excluded.tobytes()).hexdigest()[:16]
        return {
            **fingerprint_of(self.table, self.records.ranges),
            "decoder": self.records.decoder.model_dump(mode="json", context=DOTTED),
            "excluded": [len(excluded), digest] if len(excluded) else None,
        }

    def record_lengths(self, field: str) -> np.ndarray | None:
        """Return int64 (records,): the noted lengths of a field in the records that are served; None if none are noted."""
        lengths = noted_lengths(self.table, self.records.decoder, field, self.records.ranges)
        return lengths if lengths is None else np.delete(lengths, self.records.excluded)

    @cached_property
    def grain_source(self) -> Any:
        """Grain's own source of the same files; those at addresses are fetched first, and stay in the cache meanwhile."""
        from grain.sources import ArrayRecordDataSource  # noqa: PLC0415 - takes a second, and few sources need it

        return ArrayRecordDataSource(self.records.shards.all_on_this_machine())

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "grain_source"}  # it holds open files


def open_file_set(config: ArrayRecordSourceConfig, paths: PathsLike | FileSet | None, title: str) -> FileSet:
    """Return the files that the config or ``paths`` names.

    Args:
        config: Config of the source.
        paths: Files, folders and patterns; None if the config names them. The file set of another source is returned as it
            is if the config reads it in the same way; otherwise its files are read anew, but not looked for or counted again.
        title: Title of the source, for errors.

    Raises:
        TypeError: ``paths`` are no paths.
        ValueError: Neither the config nor ``paths`` names files, or both do.
        OSError, DataFileError, ConfigError: `data_files`, `table_of`, `decoder_of_files` or `excluded_records` raises.
    """
    if isinstance(paths, FileSet):
        if config.paths is None or config.paths == paths.given:
            return paths if paths.is_read_as(config) else _file_set(config, paths.given, paths.table)
        paths = None
    if (paths is None) == (config.paths is None):
        given = "no paths" if paths is None else "paths besides those of its config"
        raise ValueError(f"{title} was given {given}; pass paths, or name them in the config")
    wanted = config.paths if paths is None else _texts(paths, title)
    assert wanted is not None  # noqa: S101 - exactly one of the two is None
    if config.local_files_only and (remote := [path for path in wanted if is_remote(path)]):
        raise FileNotFoundError(
            f"{title} has local_files_only=True, which forbids {redacted(remote[0])!r}: it is not on this machine; copy it "
            "here first"
        )
    config.require_address(wanted)
    files = data_files(wanted, ARRAY_RECORD, config.storage_options)
    return _file_set(config, wanted, table_of(files, _range_reader(config, files)))


def _range_reader(config: ArrayRecordSourceConfig, files: Sequence[str]) -> RangeReader:
    """Return the reader of what is at addresses, with a cache if files are there: array_record reads files of a disk."""
    if not any(map(is_remote, files)):
        return RangeReader.of(config)
    return RangeReader(config.storage_options, Cache(config.cache_dir or user_cache_folder(), config.cache_bytes))


def _file_set(config: ArrayRecordSourceConfig, given: tuple[str, ...], table: FileTable) -> FileSet:
    ranges = _range_reader(config, table.paths)
    decoder = config.decoder or decoder_of_files(table.paths, ranges) or RawDecoder()
    policy = config.bad_record_policy()
    records = ArrayRecordReader(
        table, decoder, exclude=config.exclude, policy=policy, limit=config.max_open_files, ranges=ranges
    )
    if config.shuffle and config.cache_bytes is not None:
        _warn_of_small_cache(config.cache_bytes, table)
    return FileSet(config, given, table, records)


def _warn_of_small_cache(cache_bytes: int, table: FileTable) -> None:
    size = sum(stamp.size for path, stamp in zip(table.paths, table.stamps, strict=True) if stamp and is_remote(path))
    if size > cache_bytes:
        warnings.warn(
            f"the files at addresses have {size:,} bytes, and cache_bytes={cache_bytes:,}: an order that shuffles all records "
            "reads all files in turn, each of which is fetched again and again; give cache_bytes as many bytes, or shuffle by "
            "files: shuffle_files=True",
            stacklevel=2,
        )


def _texts(paths: Any, title: str) -> tuple[str, ...]:
    """Return paths, which are one path or a list of them, as a tuple of texts."""
    listed = [paths] if isinstance(paths, str | PathLike) else paths
    if (
        isinstance(listed, list | tuple)
        and listed
        and all(isinstance(path, str | PathLike) and path for path in listed)
    ):
        return tuple(fspath(path) for path in listed)
    if isinstance(listed, list | tuple) and not listed:
        raise ValueError(f"{title} was given an empty list of paths; name a file, a folder or a pattern")
    raise TypeError(f"{title} takes a path or a list of paths, not {paths!r:.80}")
