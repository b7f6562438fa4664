"""From what a source is given to its open files: paths, the decoder, what is excluded, what happens to bad records."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from datarax_arrayrecord.config import ArrayRecordSourceConfig
from datarax_arrayrecord.decoders import RawDecoder
from datarax_arrayrecord.paths import data_files, is_remote
from datarax_arrayrecord.sidecar import decoder_beside
from datarax_core.sources import FileTable

from .bad_records import Policy
from .files import fingerprint_of, table_of
from .record_reader import RecordReader

PathsLike = str | PathLike[str] | Sequence[str | PathLike[str]]


class FileSet:
    """The records of a source, and what was asked for. Shared by its copies, and outside of every graph."""

    def __init__(
        self, config: ArrayRecordSourceConfig, given: tuple[str, ...], table: FileTable, records: RecordReader
    ) -> None:
        self.given = given
        self.table = table
        self.records = records
        self._config = config

    def fits(self, config: ArrayRecordSourceConfig) -> bool:
        """Whether a source with this config reads the same records in the same way."""
        return all(getattr(config, field) == getattr(self._config, field) for field in _OF_RECORDS)

    def fingerprint(self) -> dict[str, Any]:
        """What a saved state must find again."""
        excluded = self.records.excluded
        digest = hashlib.sha256(excluded.tobytes()).hexdigest()[:16]
        return {
            **fingerprint_of(self.table),
            "decoder": self.records.decoder.model_dump(mode="json"),
            "excluded": [len(excluded), digest] if len(excluded) else None,
        }

    def grain_source(self) -> Any:
        """Grain's own source over the same files."""
        return self._grain_source

    @cached_property
    def _grain_source(self) -> Any:
        from grain.sources import ArrayRecordDataSource  # noqa: PLC0415 - a second to import, for those who want it

        return ArrayRecordDataSource(list(self.table.paths))


_OF_RECORDS = ("decoder", "on_error", "max_errors", "quarantine", "exclude", "max_open_files")


def open_file_set(config: ArrayRecordSourceConfig, paths: PathsLike | FileSet | None, title: str) -> FileSet:
    """The files of a config, or of ``paths``; of another source's those themselves, unless the config reads them otherwise.

    Raises:
        TypeError: ``paths`` are no paths.
        ValueError: There are two of them, or none.
        OSError, DataFileError, ConfigError: See `data_files`, `table_of`, `decoder_beside`, `excluded_records`.
    """
    if isinstance(paths, FileSet):
        if config.paths is None or config.paths == paths.given:
            return paths if paths.fits(config) else _opened(config, paths.given, paths.table)
        paths = None
    if (paths is None) == (config.paths is None):
        given = "no paths" if paths is None else "paths besides those of its config"
        raise ValueError(f"{title} was given {given}; pass paths, or name them in the config")
    wanted = config.paths if paths is None else _texts(paths, title)
    assert wanted is not None  # noqa: S101 - one of the two is, as was just seen
    if config.local_files_only and (remote := [path for path in wanted if is_remote(path)]):
        raise FileNotFoundError(
            f"{title} has local_files_only=True, which forbids {remote[0]!r}: it is not on this machine; copy it here first"
        )
    return _opened(config, wanted, table_of(data_files(wanted)))


def _opened(config: ArrayRecordSourceConfig, given: tuple[str, ...], table: FileTable) -> FileSet:
    decoder = config.decoder or decoder_beside(table.paths) or RawDecoder()
    quarantine = config.quarantine and str(Path.cwd() / config.quarantine)  # wherever this process goes
    policy = Policy(config.max_errors, quarantine) if config.on_error == "substitute" else None
    if policy is not None:
        policy.require_place()
    records = RecordReader(table, decoder, exclude=config.exclude, policy=policy, limit=config.max_open_files)
    return FileSet(config, given, table, records)


def _texts(paths: Any, title: str) -> tuple[str, ...]:
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
