"""Preparing a data set that is not on disk: by TFDS, or from Google's bucket; one process at a time."""

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
    """The folder of a data set that was not on disk, prepared there. Processes that ask at the same time wait for one.

    ArrayRecord files are written, which takes TensorFlow only where images are encoded, unless only TensorFlow decodes a field,
    or ``backend``, or ``file_format`` of ``download_and_prepare_kwargs``, asks for others.

    Args:
        config: What is asked for.
        name: Its name, in parts.
        data_dir: Where data sets lie.
        hint: What there is in its place, for messages.

    Raises:
        ValueError: TFDS knows no such data set, config, version or field, or ``beam_num_workers`` is of no use.
        FileNotFoundError: So, and there is no ``data_dir`` either.
        TensorFlowMissing: Only TensorFlow writes it, and it is not installed.
        ImportError: It takes Beam, which is not installed.
    """
    builder_type = builder_class(name.name)
    if builder_type is None:
        hint = hint or did_you_mean(name.name.lower(), known_names([data_dir]), count=3)
        message = f"there is no data set {str(name)!r}, neither in {data_dir} nor among those of TFDS{hint}"
        if not data_dir.exists():
            raise FileNotFoundError(f"no such folder: {data_dir}; {message}")
        raise ValueError(message)
    with _alone(data_dir / builder_type.name):
        if (folder := find(name, [data_dir])) is not None:
            return folder  # another process has prepared it
        builder = _builder(builder_type, name, data_dir)
        folder = Path(builder.data_dir)
        info = builder.info
        served_fields(config, info.features, info.supervised_keys, info.full_name)  # before what may take hours
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
    except AssertionError as cause:  # as TFDS tells that there is no such version
        raise ValueError(f"data set {str(name)!r} cannot be prepared: {cause}") from cause


def _fetched(full_name: str, folder: Path) -> bool:
    """Whether the folder was filled from the bucket; it is there in whole or not at all."""
    from .bucket import fetch  # noqa: PLC0415 - requests takes 0.1 s to import

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=INCOMPLETE, suffix=f"_{folder.name}", dir=folder.parent))
    try:
        if not fetch(full_name, partial):
            return False
        partial.chmod(0o755)  # mkdtemp's are for their owner alone
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
    """What the backend reads; where it is not said, ArrayRecord, unless only TensorFlow decodes what is in it."""
    if backend != "auto":
        return "array_record" if backend == "array_record" else "tfrecord"
    try:
        FeatureDecoder(features, list(features.keys()))
    except NeedsTensorFlow:
        return "tfrecord"
    return "array_record"


def _is_without(module: str, failed: Exception) -> bool:
    """Whether a module is what was missing; TFDS wraps the error in one that says which feature was encoded."""
    return f"No module named '{module}'" in str(failed) and importlib.util.find_spec(module) is None


def _beam_missing(full_name: str) -> ImportError:
    return ImportError(f"preparing data set {full_name!r} takes Beam, which is not installed; pip install apache-beam")


def _beam_options(workers: int | None, builder: Any) -> dict[str, Any]:
    """The part of a ``DownloadConfig`` that asks for so many workers, under the names by which Beam's runners know it."""
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
    from apache_beam.options.pipeline_options import PipelineOptions  # noqa: PLC0415 - seconds, for those who want it

    mode = "in_memory" if workers == 1 else "multi_processing"
    return {
        "beam_options": PipelineOptions([], num_workers=workers, direct_num_workers=workers, direct_running_mode=mode)
    }


def _uses_beam(builder_type: Any) -> bool:
    """Whether a builder generates by Beam: it derives from TFDS's class that does, or a function of it names Beam."""
    own = (kind for kind in builder_type.__mro__ if not kind.__module__.startswith("tensorflow_datasets.core."))
    code = (value.__code__ for kind in own for value in vars(kind).values() if hasattr(value, "__code__"))
    return "BeamBasedBuilder" in {kind.__name__ for kind in builder_type.__mro__} or any(map(_names_beam, code))


def _names_beam(code: CodeType) -> bool:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    names = {*code.co_names, *code.co_varnames, *code.co_freevars}
    return bool(names & {"beam", "apache_beam"}) or any(map(_names_beam, inner))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While no other process of this machine, and of others where the file system tells them, is in here with ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as cause:  # some network file systems lock no folders
            _log.info("cannot lock %s: %s", folder, cause)
        yield
    finally:
        os.close(handle)  # which lets go of the lock
