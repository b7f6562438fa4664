"""Folders of data sets: ``data_dir/name/config/version``, found as TFDS finds them, if possible without builders."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from datarax_core.errors import DataFileError, did_you_mean
from datarax_tfds.backends import tensorflow_datasets
from datarax_tfds.names import DataSetName, importable_builder_class

INFO: Final = "dataset_info.json"
FEATURES: Final = "features.json"
INCOMPLETE: Final = "incomplete."

REMEDY: Final = "copy the file again, or prepare the data set again"
"""End of the message about a damaged file."""


def data_dirs(given: str | None) -> list[Path]:
    """Return the folders that hold data sets: the given one, or else those that TFDS searches."""
    listed = tensorflow_datasets().core.utils.file_utils.list_data_dirs(given)
    return [Path(os.path.abspath(folder)) for folder in listed]  # noqa: PTH100 - Path.resolve() would follow symbolic links


def guessed_fields(folder: Path) -> dict[str, str] | None:
    """Return ``name``, ``split`` and ``data_dir`` of a config of the data set whose own folder this is; else None."""
    try:
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        name, splits = str(info["name"]), [str(split["name"]) for split in info["splits"]]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if not splits:
        return None
    return {"name": name, "split": "train" if "train" in splits else splits[0], "data_dir": str(folder)}


def find(name: DataSetName, dirs: Iterable[Path]) -> Path | None:
    """Return the folder of a data set, of the newest version that fits; None if it is in none of ``dirs``.

    One of ``dirs`` may itself be the folder of the data set.

    Raises:
        ValueError: Several folders fit, or a folder in ``dirs`` is that of another data set.
    """
    found = [folder for folder in (_find(name, path) for path in dirs) if folder is not None]
    if len(found) > 1:
        raise ValueError(
            f"data set {str(name)!r} is in {' and '.join(map(str, found))}; say which one is meant by data_dir"
        )
    return found[0] if found else None


def expected(name: DataSetName, data_dir: Path) -> Path:
    """Return the folder in which a data set would be, as exactly as its name and TFDS's code determine it."""
    builder = importable_builder_class(name.name)
    base = _base(name, data_dir)
    version = name.version
    if builder is not None:
        configs = {config.name: config for config in builder.BUILDER_CONFIGS}
        default = builder.default_builder_config
        config = configs.get(name.config) if name.config else default
        if config is not None:
            base = base if name.config else base / config.name
        if version is None and (config is not None) == bool(configs):
            version = str(tensorflow_datasets().core.dataset_builder.canonical_version_for_config(builder, config))
    return base / version if version else base


def alternatives(name: DataSetName, data_dir: Path) -> str:
    """Return, for a data set that is not on disk, which versions or configs of it are, as the end of a message; or ""."""
    base = _base(name, data_dir)
    if left := sorted(path.name for path in _folders(base) if path.name.startswith(INCOMPLETE)):
        return f"; its preparation was interrupted, which left {base / left[0]} behind: prepare it again"
    if there := [str(version) for version in _versions(base)]:
        return f"; there are the versions {', '.join(there)}"
    root = _base(DataSetName(name.name), data_dir)
    configs = sorted(path.name for path in _folders(root) if _versions(path))
    if configs:
        return f"; there are the configs {', '.join(configs)}{did_you_mean(name.config or '', configs)}"
    if name.config and _versions(root):
        return f"; there is {name.name} without a config"
    return ""


def require_whole(folder: Path, name: DataSetName) -> None:
    """Raise if a folder holds only a part of a data set.

    Raises:
        FileNotFoundError: One of the two files that describe the data set is missing.
    """
    for file, why in ((INFO, "its preparation was interrupted"), (FEATURES, "TFDS prepared it before its version 4.0")):
        if not (folder / file).is_file():
            raise FileNotFoundError(
                f"data set {str(name)!r} is incomplete in {folder}: {file} is missing, as if {why}; delete the folder, and "
                "prepare it again"
            )


def json_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        DataFileError: The file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as cause:
        raise DataFileError(str(path), f"{path} is damaged: {cause}; prepare the data set again") from cause
    if not isinstance(content, dict):
        raise DataFileError(str(path), f"{path} is damaged: it holds {content!r:.40} and no object; {REMEDY}")
    return content


def _text(info: dict[str, Any], key: str, path: Path) -> str:
    value = info.get(key) or ""
    if not isinstance(value, str):
        raise DataFileError(str(path), f"{path} is damaged: its {key} is {value!r:.40} and no text; {REMEDY}")
    return value


def _find(name: DataSetName, data_dir: Path) -> Path | None:
    base = _base(name, data_dir)
    if not base.is_dir() and (data_dir / INFO).is_file():
        _require_same(name, data_dir)
        return data_dir
    if name.config is None and not _versions(base):
        base = base / _default_config(name, base)
    fitting = [version for version in _versions(base) if name.version is None or version.match(name.version)]
    return base / str(fitting[-1]) if fitting else None


def _base(name: DataSetName, data_dir: Path) -> Path:
    """Return the folder of all versions; a name in camel case is looked for as it is written, then as TFDS writes it."""
    base = data_dir / name.name
    if not base.is_dir():
        base = data_dir / tensorflow_datasets().core.naming.camelcase_to_snakecase(name.name)
    return base / name.config if name.config else base


def _default_config(name: DataSetName, base: Path) -> str:
    """Return the config that a name without a config stands for; "" if the data set has no configs."""
    configs = sorted(path.name for path in _folders(base) if _versions(path))
    if not configs:
        return ""
    metadata = base / ".config" / "metadata.json"
    default = json_object(metadata).get("default_config_name") if metadata.is_file() else None
    if default is None and (builder := importable_builder_class(name.name)) is not None:
        default = getattr(builder.default_builder_config, "name", None)
    if default is not None:
        return str(default)
    if len(configs) == 1:
        return configs[0]
    raise ValueError(
        f"{base} holds several configs of data set {name.name!r}: {', '.join(configs)}; name one, as in "
        f"'{name.name}/{configs[0]}'"
    )


def _versions(folder: Path) -> list[Any]:
    """Return TFDS's ``Version`` of each folder below whose name is a version, the newest last."""
    versions: list[Any] = tensorflow_datasets().core.utils.version.list_all_versions(folder)
    return versions


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else iter(())


def _require_same(name: DataSetName, folder: Path) -> None:
    """Raise ``ValueError`` if a data_dir is itself the folder of another data set than the named one."""
    info = json_object(folder / INFO)
    held = DataSetName(*(_text(info, key, folder / INFO) for key in ("name", "configName", "version")))
    snake_case = tensorflow_datasets().core.naming.camelcase_to_snakecase(name.name)
    try:
        version = tensorflow_datasets().core.Version(held.version or "0.0.0")
    except ValueError as cause:
        raise DataFileError(str(folder / INFO), f"{folder / INFO} is damaged: {cause}; {REMEDY}") from cause
    if (
        held.name not in (name.name, snake_case)
        or name.config not in (None, held.config)
        or not (name.version is None or version.match(name.version))
    ):
        raise ValueError(f"data_dir {folder} is the folder of data set {str(held)!r}, not of {str(name)!r}")
