"""The description of a prepared data set on disk: the parts of files that a split consists of, and its fields."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from datarax_core.errors import DataFileError, did_you_mean
from datarax_core.sources import not_on_this_machine
from datarax_tfds.backends import Reader, choose_reader, tensorflow_datasets
from datarax_tfds.config import TFDSConfigBase
from datarax_tfds.names import DataSetName, known_names
from datarax_tfds.splits import FilePart, split_parts
from datarax_tfds.unprepared import MockedData, UnpreparedData, folder_kind, is_mocked, open_folder

from .description import read_only_builder, require_counts, require_possible, understood
from .folders import INFO, REMEDY, alternatives, data_dirs, expected, find, require_whole
from .prepare import prepare
from .served_fields import served_fields

_SHOWN: Final = 5
_LEAST_BYTES: Final = 16  # of a record in a TFRecord file: its length and its checksums


@dataclass(frozen=True)
class DataSet:
    """A split of a prepared data set, described by two small JSON files and the list of one folder.

    A value: picklable, comparable, without an open file.
    """

    name: str
    """As the config gives it."""
    full_name: str
    """Name, config and version of the data set on disk, such as ``mnist/3.0.1``."""
    split: str
    """As the config gives it, such as ``train[:200]``."""
    folder: str
    """Folder of the files."""
    file_format: str
    """Format of the files that are read: ``array_record``, ``tfrecord``, or one that only TensorFlow reads."""
    backend: Reader
    """Reader of the files: the config's backend or, for ``auto``, the best one for the formats on disk."""
    fields: tuple[tuple[str, str], ...]
    """For each field that is served: the name under which it is served, and its name in the data set."""
    supervised_keys: tuple[str, str] | None
    """Names in the data set of the fields that are served as ``image`` and ``label``; None unless ``as_supervised``."""
    parts: tuple[FilePart, ...]
    """The parts of files that make up the split, in the order of their records."""
    num_bytes: int
    """Bytes of the split's records in the files; a file that is only partly in the split counts in proportion."""
    features: Any = field(compare=False, repr=False)
    """TFDS's FeaturesDict of all fields of the data set."""
    unprepared: UnpreparedData | None = field(default=None, compare=False, repr=False)
    """Data that is never prepared, in place of files; None for a prepared data set."""

    @classmethod
    def open(cls, config: TFDSConfigBase, title: str) -> Self:
        """Open the data set that a config names; prepare it first if it is not on disk and the config allows it.

        If the data set is on disk, TensorFlow is not imported, and the network is not used.

        Raises:
            FileNotFoundError: The data set is not on disk and the config has ``local_files_only``, or it is there in part.
            ValueError: There is no such data set, split or field, or the backend does not read the files; data that is never
                prepared has an option without use.
            DataFileError: A file that describes the data set is damaged.
            ImportError: TFDS cannot be imported, or only TensorFlow can read or prepare the data set and is not installed.
        """
        try:
            return cls._open(config)
        except (ValueError, ImportError, OSError) as error:
            error.add_note(f"while {title} was opened")
            raise

    @classmethod
    def _open(cls, config: TFDSConfigBase) -> Self:
        if is_mocked():
            data = MockedData(config.name, config.split)
            _require_no_use(config, "mocked data", "which has no files")
            return cls._of_unprepared(config, data, data.parts(), "mock_data")
        name = DataSetName.of(config.name)
        kind = folder_kind(name.name)
        if kind is not None and (config.data_dir is None or find(name, data_dirs(config.data_dir)) is None):
            examples = _open_folder(config, kind, name)
            parts = split_parts(examples.splits(), config.split, examples.full_name)
            return cls._of_unprepared(config, examples, parts, "folder")
        folder = _folder(config, name)
        require_whole(folder, name)
        with understood(folder):
            return cls._of_folder(config, folder)

    @classmethod
    def _of_folder(cls, config: TFDSConfigBase, folder: Path) -> Self:
        info = read_only_builder(folder).info
        formats = [found.value for found in info.available_file_formats()]
        if isinstance(info.features, tensorflow_datasets().features.FeaturesDict):
            require_possible(info.features, folder)
        require_counts(info.splits, folder)
        backend, file_format = choose_reader(config.backend, sorted(formats), info.full_name)
        _read_as(info, file_format)
        fields = served_fields(config, info.features, info.supervised_keys, info.full_name)
        parts = split_parts(info.splits, config.split, info.full_name)
        sizes = _require_files({part.path for part in parts}, folder, info.full_name)
        if file_format == "tfrecord":
            _require_room(parts, sizes, folder)
        return cls(
            name=config.name,
            full_name=info.full_name,
            split=config.split,
            folder=str(folder),
            file_format=file_format,
            backend=backend,
            fields=fields,
            supervised_keys=(fields[0][1], fields[1][1]) if config.as_supervised else None,
            parts=parts,
            num_bytes=sum(sizes[part.path] * part.num_records // part.records_in_file for part in parts),
            features=info.features,
        )

    @classmethod
    def _of_unprepared(
        cls, config: TFDSConfigBase, data: UnpreparedData, parts: tuple[FilePart, ...], backend: Reader
    ) -> Self:
        fields = served_fields(config, data.features, data.supervised_keys, data.full_name)
        return cls(
            name=config.name,
            full_name=data.full_name,
            split=config.split,
            folder=data.root,
            file_format=data.name if backend == "folder" else backend,
            backend=backend,
            fields=fields,
            supervised_keys=(fields[0][1], fields[1][1]) if config.as_supervised else None,
            parts=parts,
            num_bytes=data.num_bytes(parts),
            features=data.features,
            unprepared=data,
        )

    @property
    def kept(self) -> tuple[str, ...]:
        """Names in the data set of the fields that are served, each once."""
        return tuple(dict.fromkeys(stored for _, stored in self.fields))

    @property
    def num_records(self) -> int:
        """Number of records of the split."""
        return sum(part.num_records for part in self.parts)

    def builder(self) -> Any:
        """Return TFDS's builder over the folder, which reads files of `file_format`, and never prepares."""
        builder = read_only_builder(Path(self.folder))
        _read_as(builder.info, self.file_format)
        return builder

    def info(self) -> dict[str, Any]:
        """Return name, description, citation, splits, features and files of the data set, in a form that JSON can hold."""
        if self.unprepared is not None:
            return {**self._info_of_unprepared(self.unprepared), **self._info_of_split()}
        info = self.builder().info
        splits = {
            name: {"num_records": split.num_examples, "num_bytes": int(split.num_bytes), "num_files": split.num_shards}
            for name, split in info.splits.items()
        }
        return {
            "name": info.name,
            "full_name": info.full_name,
            "config": info.config_name or None,
            "version": str(info.version),
            "description": info.description,
            "homepage": info.homepage,
            "citation": info.citation,
            "splits": splits,
            "features": repr(info.features),
            "supervised_keys": _jsonable(info.supervised_keys),
            **self._info_of_split(),
        }

    def _info_of_split(self) -> dict[str, Any]:
        return {
            "file_format": self.file_format,
            "folder": self.folder,
            "split": self.split,
            "num_records": self.num_records,
            "num_bytes": self.num_bytes,
            "backend": self.backend,
        }

    def _info_of_unprepared(self, data: UnpreparedData) -> dict[str, Any]:
        return {
            "name": data.name,
            "full_name": self.full_name,
            "config": None,
            "version": data.version,
            "description": data.description,
            "homepage": "",
            "citation": "",
            "splits": {
                name: {"num_records": count, "num_bytes": num_bytes, "num_files": num_files}
                for name, (count, num_bytes, num_files) in data.sizes().items()
            },
            "features": repr(self.features),
            "supervised_keys": _jsonable(data.supervised_keys),
        }


def _open_folder(config: TFDSConfigBase, kind: type[UnpreparedData], name: DataSetName) -> UnpreparedData:
    """List a folder of examples that were never prepared."""
    if config.data_dir is None:
        raise ValueError(f"{kind.name} reads the files of a folder; name it by data_dir: it has {kind.layout}")
    _require_no_use(config, kind.name, f"whose files, {kind.layout}, are never prepared")
    version = tensorflow_datasets().core.Version(kind.version)
    if name.config is not None or (name.version is not None and not version.match(name.version)):
        raise ValueError(f"{str(name)!r} has a config or version that {kind.name} does not have; name it {kind.name!r}")
    options = {} if config.builder_kwargs is None else config.builder_kwargs.model_dump(exclude_none=True)
    return open_folder(kind, config.data_dir, options)


def _require_no_use(config: TFDSConfigBase, title: str, why: str) -> None:
    """Raise ``ValueError`` if a config has options that have no use for data that is never prepared."""
    useless = [name for name in ("try_gcs", "download_and_prepare_kwargs", "beam_num_workers") if getattr(config, name)]
    if config.backend != "auto":
        useless.append(f"backend {config.backend!r}")
    if useless:
        raise ValueError(f"{useless[0]} has no use for {title}, {why}; leave it out")


def _folder(config: TFDSConfigBase, name: DataSetName) -> Path:
    """Return the folder of the data set, which is prepared first if it is not on disk."""
    dirs = data_dirs(config.data_dir)
    if (folder := find(name, dirs)) is not None:
        return folder
    hint = alternatives(name, dirs[0])
    if config.local_files_only:
        known = known_names(dirs)
        hint = hint or ("" if name.name in known else did_you_mean(name.name.lower(), known, count=3))
        raise not_on_this_machine(str(name), [expected(name, path) for path in dirs], hint)
    default = Path(tensorflow_datasets().core.constants.DATA_DIR).expanduser().absolute()
    return prepare(config, name, dirs[0] if config.data_dir else default, hint)


def _read_as(info: Any, file_format: str) -> None:
    """Make the info of a data set that is on disk in several formats name the files of this format."""
    if info.file_format.value != file_format:
        info.set_file_format(file_format, override=True, override_if_initialized=True)


def _require_files(paths: Iterable[str], folder: Path, full_name: str) -> dict[str, int]:
    """Return the size of each file; raise ``FileNotFoundError`` if files are missing."""
    with os.scandir(folder) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    paths = list(paths)
    if elsewhere := [path for path in paths if os.path.dirname(path) != str(folder)]:  # noqa: PTH120 - as below
        raise DataFileError(
            str(folder / INFO),
            f"{folder / INFO} is damaged: it names the file {elsewhere[0]!r:.200}, which is not in the folder; {REMEDY}",
        )
    names = {path: os.path.basename(path) for path in paths}  # noqa: PTH119 - a fraction of the time of a Path, for thousands of files
    if missing := sorted(name for name in names.values() if name not in sizes):
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise FileNotFoundError(
            f"data set {full_name!r} is incomplete in {folder}, which lacks {len(missing)} of the {len(names)} files of the "
            f"split: {', '.join(missing[:_SHOWN])}{more}; fetch them again, or delete the folder and prepare it again"
        )
    return {path: sizes[name] for path, name in names.items()}


def _require_room(parts: Iterable[FilePart], sizes: Mapping[str, int], folder: Path) -> None:
    """Raise ``DataFileError`` if a file is too small for as many records as the data set's description says that it has."""
    for part in parts:
        if part.records_in_file * _LEAST_BYTES > sizes[part.path]:
            raise DataFileError(
                part.path,
                f"{part.path} has {sizes[part.path]} bytes, which cannot be the {part.records_in_file} records that "
                f"{folder / INFO} says it has; {REMEDY}",
            )


def _jsonable(keys: Any) -> Any:
    return json.loads(json.dumps(keys))
