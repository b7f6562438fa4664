"""What reads the files of a data set: the format on disk decides, and whether TensorFlow is installed."""

import importlib.util
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, Literal, TypeAlias

from packaging.version import Version

Backend: TypeAlias = Literal["auto", "array_record", "tfrecord", "tf.data"]
Reader: TypeAlias = Literal["array_record", "tfrecord", "tf.data"]

_ALONE: Final[tuple[Reader, ...]] = ("array_record", "tfrecord")
"""The formats that are read without TensorFlow, the faster first; each reader is named by its format."""
_BY_TENSORFLOW: Final = ("tfrecord", "parquet", "riegeli", "array_record")
"""The formats whose records tf.data can be given; those of ArrayRecord files are read by us, and decoded by it."""


def choose_reader(wanted: Backend, formats: Sequence[str], full_name: str) -> tuple[Reader, str]:
    """What reads a data set, and which of its ``formats`` on disk.

    Raises:
        ValueError: ``wanted`` does not read what is on disk.
        TensorFlowMissing: Only TensorFlow reads it, and it is not installed.
    """
    alone: list[Reader] = [name for name in _ALONE if name in formats]
    if wanted in alone or (wanted == "auto" and alone):
        reader = alone[0] if wanted == "auto" else next(name for name in alone if name == wanted)
        return reader, reader
    there = " and ".join(formats)
    by_tensorflow = [name for name in _BY_TENSORFLOW if name in formats]
    if wanted in _ALONE or not by_tensorflow:
        raise ValueError(
            f"backend {wanted!r} does not read the files of {full_name}, which are {there}; leave backend out, or name "
            f"{' or '.join(map(repr, [*alone, *(['tf.data'] if by_tensorflow else [])]))}"
        )
    if not has_tensorflow():
        raise TensorFlowMissing(f"reading the {by_tensorflow[0]} files of {full_name} with tf.data")
    if by_tensorflow[0] == "riegeli" and importlib.util.find_spec("riegeli") is None:
        raise ImportError(f"reading the riegeli files of {full_name} takes the package riegeli, which is not installed")
    return "tf.data", by_tensorflow[0]


class NeedsTensorFlow(ValueError):  # noqa: N818 - it is a need, which another backend meets, rather than an error
    """Only TensorFlow decodes a feature. ``field`` is its dotted name, ``reason`` says what it is."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(
            f"field {field!r} is decoded by TensorFlow only: {reason}; leave it out (exclude_keys={{{field!r}}}), or "
            "`pip install datarax-tfds[tensorflow]`"
        )
        self.field, self.reason = field, reason

    def __reduce__(self) -> tuple[type["NeedsTensorFlow"], tuple[str, str]]:
        return type(self), (self.field, self.reason)


_NEEDED_PROTOBUF: Final = "6.31.1"


class TensorFlowMissing(ImportError):  # noqa: N818 - that is the error
    """Only TensorFlow does it, and TensorFlow is not installed."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f'{what} needs TensorFlow, which is not installed; pip install "datarax-tfds[tensorflow]"',
            name="tensorflow",
        )
        self.what = what

    def __reduce__(self) -> tuple[type["TensorFlowMissing"], tuple[str]]:
        return type(self), (self.what,)


def tensorflow_datasets() -> Any:
    """The module: half a second on first use, and without TensorFlow.

    Raises:
        ImportError: It cannot be imported; says what to install.
    """
    try:
        import tensorflow_datasets as tfds  # noqa: PLC0415 - half a second, for those who open a data set

        if not hasattr(
            tfds, "builder_from_directory"
        ):  # it logs why its import fails, and leaves a module without names
            import_module("tensorflow_datasets.public_api")
            raise ImportError("a module of it failed before")  # noqa: TRY301 - what is told below
    except Exception as cause:  # a broken installation fails in any way it likes
        raise ImportError(_trouble(cause), name="tensorflow_datasets") from cause
    return tfds


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed; looks for it without importing it."""
    return "tensorflow" in sys.modules or importlib.util.find_spec("tensorflow") is not None


def require_tensorflow(what: str) -> None:
    """Refuse to go on without TensorFlow.

    Raises:
        TensorFlowMissing: It is not installed, and ``what`` needs it.
    """
    if not has_tensorflow():
        raise TensorFlowMissing(what)


def _trouble(cause: Exception) -> str:
    message = f"tensorflow_datasets cannot be imported: {cause}"
    protobuf = import_module("google.protobuf").__version__
    if Version(protobuf) < Version(_NEEDED_PROTOBUF):
        message += (
            f"; protobuf {protobuf} is installed, which is too old for it, though it does not say so: "
            f'pip install "protobuf>={_NEEDED_PROTOBUF}"'
        )
    return message
