"""Preparation of a data set that is not on disk: by TFDS, or by download; one process at a time."""

import fcntl
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

from datarax_core.errors import did_you_mean
from datarax_tfds.backends import Backend, NeedsTensorFlow, TensorFlowMissing, require_tensorflow
from datarax_tfds.config import TFDSConfigBase
from datarax_tfds.download_options import as_arguments
from datarax_tfds.features.decoder import FeatureDecoder
from datarax_tfds.names import DataSetName, builder_class, known_names

from .folders import INCOMPLETE, find
from .served_fields import served_fields

_log = logging.getLogger(__name__)


def prepare(config: TFDSConfigBase, name: DataSetName, data_dir: Path, hint: str) -> Path:
    """Prepare a data set that is not on disk, and return its folder. Of several processes, one prepares and the others wait.

    TFDS writes ArrayRecord files, for which it needs TensorFlow only to encode images. It writes other files if only TensorFlow
    decodes a field, or if ``backend``, or ``file_format`` in ``download_and_prepare_kwargs``, names another format.

    Args:
        config: Config of the source.
        name: Name of the data set.
        data_dir: Folder that holds data sets.
        hint: Similar data sets that are on disk, as the end of a message.

    Raises:
        ValueError: TFDS knows no such data set, config, version or field, or ``beam_num_workers`` would have no effect.
        FileNotFoundError: TFDS knows no such data set, and ``data_dir`` does not exist either.
        TensorFlowMissing: Only TensorFlow can write the data set, and it is not installed.
        ImportError: TFDS prepares the data set by Beam, which is not installed.
    """
    builder_type = builder_class(name.name)
    if builder_type is None:
        hint = hint or did_you_mean(name.name.lower(), known_names([data_dir]), count=3)
        message = f"there is no data set {str(name)!r}, neither in {data_dir} nor among those of TFDS{hint}"
        if not data_dir.exists():
            raise FileNotFoundError(f"no such folder: {data_dir}; {message}")
        raise ValueError(message)
    with _locked(data_dir / builder_type.name):
        if (folder := find(name, [data_dir])) is not None:
            return folder  # another process has prepared it meanwhile
        builder = _builder(builder_type, name, data_dir)
        folder = Path(builder.data_dir)
        info = builder.info
        served_fields(config, info.features, info.supervised_keys, info.full_name)  # refuse before hours of work
        _log.info("data set %s is not in %s; preparing it there", info.full_name, data_dir)
        if not (config.try_gcs and _fetched(info.full_name, folder)):
            _generate(config, builder)
    return folder


def _builder(builder_type: Any, name: DataSetName, data_dir: Path) -> Any:
    configs = [config.name for config in builder_type.BUILDER_CONFIGS]
    if name.config is not None and name.config not in configs:
        has = f"; its configs are {', '.join(configs[:10])}" if configs else "; it has none"
        raise ValueError(
            f"data set {name.name!r} has no config {name.config!r}{did_you_mean(name.config, configs) or has}"
        )
    try:
        return builder_type(data_dir=data_dir, config=name.config, version=name.version)
    except AssertionError as cause:  # TFDS raises it for an unknown version
        raise ValueError(f"data set {str(name)!r} cannot be prepared: {cause}") from cause


def _fetched(full_name: str, folder: Path) -> bool:
    """Download the data set from the bucket, and return whether the bucket has it. The folder appears whole or not at all."""
    from .bucket import fetch  # noqa: PLC0415 - requests takes 0.1 s to import

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=INCOMPLETE, suffix=f"_{folder.name}", dir=folder.parent))
    try:
        if not fetch(full_name, partial):
            return False
        partial.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        partial.rename(folder)
        return True
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _generate(config: TFDSConfigBase, builder: Any) -> None:
    options, full_name = config.download_and_prepare_kwargs or {}, builder.info.full_name
    file_format = options.get("file_format") or _format_for(config.backend, builder.info.features)
    if file_format == "tfrecord":
        require_tensorflow(f"writing data set {full_name!r} as TFRecord files")
    beam = _beam_options(config.beam_num_workers, builder)
    arguments = as_arguments({**options, "file_format": file_format}, try_download_gcs=False, **beam)
    try:
        builder.download_and_prepare(**arguments)
    except Exception as failed:
        if _is_without("tensorflow", failed):
            raise TensorFlowMissing(f"preparing data set {full_name!r}") from failed
        if _is_without("apache_beam", failed):
            raise _beam_missing(full_name) from failed
        failed.add_note(f"data set {full_name!r} was not in {builder.data_dir}, and TFDS could not prepare it there")
        raise


def _format_for(backend: Backend, features: Any) -> str:
    """Return the format that the backend reads; for ``auto`` ArrayRecord, unless only TensorFlow decodes a field."""
    if backend != "auto":
        return "array_record" if backend == "array_record" else "tfrecord"
    try:
        FeatureDecoder(features, list(features.keys()))
    except NeedsTensorFlow:
        return "tfrecord"
    except ValueError:  # of a field that is not served in any case
        return "array_record"
    return "array_record"


def _is_without(module: str, failed: Exception) -> bool:
    """Return whether the preparation failed for want of a module; TFDS wraps that error in one of its own."""
    return f"No module named '{module}'" in str(failed) and importlib.util.find_spec(module) is None


def _beam_missing(full_name: str) -> ImportError:
    return ImportError(f"preparing data set {full_name!r} takes Beam, which is not installed; pip install apache-beam")


def _beam_options(workers: int | None, builder: Any) -> dict[str, Any]:
    """Return the fields of a ``DownloadConfig`` that set the number of workers, by the names that Beam's runners know."""
    full_name = builder.info.full_name
    if not _uses_beam(type(builder)):
        if workers is None:
            return {}
        raise ValueError(
            f"beam_num_workers={workers} has no use for data set {full_name!r}, which TFDS prepares without Beam; leave it out"
        )
    if workers is None:
        return {}
    if importlib.util.find_spec("apache_beam") is None:
        raise _beam_missing(full_name)
    from apache_beam.options.pipeline_options import PipelineOptions  # noqa: PLC0415 - takes seconds; only this option needs it

    mode = "in_memory" if workers == 1 else "multi_processing"
    return {
        "beam_options": PipelineOptions([], num_workers=workers, direct_num_workers=workers, direct_running_mode=mode)
    }


def _uses_beam(builder_type: Any) -> bool:
    """Return whether a builder generates by Beam: it derives from TFDS's Beam builder, or code of its own refers to Beam."""
    own = (cls for cls in builder_type.__mro__ if not cls.__module__.startswith("tensorflow_datasets.core."))
    code = (value.__code__ for cls in own for value in vars(cls).values() if hasattr(value, "__code__"))
    return "BeamBasedBuilder" in {cls.__name__ for cls in builder_type.__mro__} or any(map(_names_beam, code))


def _names_beam(code: CodeType) -> bool:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    names = {*code.co_names, *code.co_varnames, *code.co_freevars}
    return bool(names & {"beam", "apache_beam"}) or any(map(_names_beam, inner))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock of a folder against other processes; of other machines too, if the file system supports it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as cause:  # some network file systems cannot lock folders
            _log.info("cannot lock %s: %s", folder, cause)
        yield
    finally:
        os.close(handle)  # releases the lock
