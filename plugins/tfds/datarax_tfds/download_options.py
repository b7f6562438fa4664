"""Arguments of TFDS's ``download_and_prepare``: checked when a config is built, in a form for config files."""

import dataclasses
import enum
import inspect
import os
from collections.abc import Iterable, Mapping
from typing import Any

from datarax_core.errors import did_you_mean

from .backends import tensorflow_datasets


def checked_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as plain values; ``download_config`` as a mapping of the fields that differ from TFDS's defaults.

    Raises:
        ValueError: TFDS takes no such argument, or the argument would have no effect.
    """
    options = {str(name): _plain(value) for name, value in given.items()}
    _require_known(options, inspect.signature(_prepare()).parameters, "an argument of download_and_prepare", {"self"})
    if "permissions" in options:
        raise ValueError(
            "permissions are ignored by TFDS: files are written as the umask of the process says; set that"
        )
    if (config := options.get("download_config")) is not None:
        options["download_config"] = config = _mapping(config)
        _require_known(config, [field.name for field in _config_fields()], "a field of download_config")
        _require_effect(config)
    if "file_format" in options:
        tensorflow_datasets().core.file_adapters.FileFormat.from_value(options["file_format"])
    return options


def as_arguments(options: Mapping[str, Any], **download_config: Any) -> dict[str, Any]:
    """Return checked options in the form that TFDS takes, with further fields of its ``DownloadConfig``."""
    arguments = dict(options)
    fields = {**arguments.get("download_config", {}), **download_config}
    if isinstance(stats := fields.get("compute_stats"), str):
        fields["compute_stats"] = tensorflow_datasets().download.ComputeStatsMode(stats)
    return {**arguments, "download_config": _download_config()(**fields)}


def _require_known(given: Mapping[str, Any], known: Iterable[str], what: str, hidden: Iterable[str] = ()) -> None:
    names = [name for name in known if name not in hidden]
    for name in given:
        if name not in names:
            which = did_you_mean(name, names) or f"; there are {', '.join(names)}"
            raise ValueError(f"{name!r} is not {what}{which}")


def _require_effect(config: Mapping[str, Any]) -> None:
    reuse = tensorflow_datasets().GenerateMode.REUSE_DATASET_IF_EXISTS
    if config.get("download_mode", reuse) != reuse:
        raise ValueError(
            f"download_config has download_mode {config['download_mode']!r}, but a data set that is on disk is read as it "
            "is; delete its folder to prepare it anew"
        )
    if "try_download_gcs" in config:
        raise ValueError("download_config has try_download_gcs, which TFDS ignores; set the config's try_gcs instead")


def _mapping(config: Any) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return {str(field): _plain(content) for field, content in config.items()}
    if not isinstance(config, _download_config()):
        raise ValueError(f"download_config is a mapping, or TFDS's DownloadConfig, not {config!r:.80}")  # noqa: TRY004 - pydantic's
    values = {field: getattr(config, field.name) for field in _config_fields()}
    return {field.name: _plain(value) for field, value in values.items() if value != field.default}


def _plain(value: Any) -> Any:
    """Return a value as a config file holds it: a path as text, a member of an enumeration as its value."""
    if isinstance(value, enum.Enum):
        return value.value
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _prepare() -> Any:
    return tensorflow_datasets().core.DatasetBuilder.download_and_prepare


def _download_config() -> Any:
    return tensorflow_datasets().download.DownloadConfig


def _config_fields() -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(_download_config())
