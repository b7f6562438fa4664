"""Choice of the reader of a data set, by the formats of its files on disk and by whether TensorFlow is installed.

`tensorflow_datasets` imports that package when a data set is opened, not when this plugin is imported.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, Literal, TypeAlias

from packaging.version import Version

Backend: TypeAlias = Literal["auto", "array_record", "tfrecord", "tf.data"]
Reader: TypeAlias = Literal["array_record", "tfrecord", "tf.data", "folder", "mock_data"]
"""Readers of data sets; the last two read examples that were never prepared."""

_WITHOUT_TENSORFLOW: Final[tuple[Reader, ...]] = ("array_record", "tfrecord")
"""Formats that are read without TensorFlow, the fastest first; each reader has the name of its format."""

_BY_TENSORFLOW: Final = ("tfrecord", "parquet", "riegeli", "array_record")
"""Formats whose records ``tf.data`` can decode; this plugin itself reads the records of ArrayRecord files for it."""

_NEEDED_PROTOBUF: Final = "6.31.1"


def choose_reader(wanted: Backend, formats: Sequence[str], full_name: str) -> tuple[Reader, str]:
    """Return the reader of a data set, and the format that it reads among the ``formats`` on disk.

    Raises:
        ValueError: The backend ``wanted`` reads none of the formats.
        TensorFlowMissing: Only TensorFlow reads them, and it is not installed.
        ImportError: The files are riegeli files, and the package riegeli is not installed.
    """
    readable: list[Reader] = [name for name in _WITHOUT_TENSORFLOW if name in formats]
    if wanted in readable or (wanted == "auto" and readable):
        reader = readable[0] if wanted == "auto" else next(name for name in readable if name == wanted)
        return reader, reader
    on_disk = " and ".join(formats)
    by_tensorflow = [name for name in _BY_TENSORFLOW if name in formats]
    if wanted in _WITHOUT_TENSORFLOW or not by_tensorflow:
        raise ValueError(
            f"backend {wanted!r} does not read the files of {full_name}, which are {on_disk}; leave backend out, or name "
            f"{' or '.join(map(repr, [*readable, *(['tf.data'] if by_tensorflow else [])]))}"
        )
    if not has_tensorflow():
        raise TensorFlowMissing(f"reading the {by_tensorflow[0]} files of {full_name} with tf.data")
    if by_tensorflow[0] == "riegeli" and importlib.util.find_spec("riegeli") is None:
        raise ImportError(f"reading the riegeli files of {full_name} takes the package riegeli, which is not installed")
    return "tf.data", by_tensorflow[0]


class NeedsTensorFlow(ValueError):  # noqa: N818 - the name says which need another backend may meet
    """Error of a feature that only TensorFlow decodes. ``field`` is its dotted name, ``reason`` describes the feature."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(
            f"field {field!r} is decoded by TensorFlow only: {reason}; leave it out (exclude_keys={{{field!r}}}), or "
            "`pip install datarax-tfds[tensorflow]`"
        )
        self.field, self.reason = field, reason

    def __reduce__(self) -> tuple[type["NeedsTensorFlow"], tuple[str, str]]:
        return type(self), (self.field, self.reason)


class TensorFlowMissing(ImportError):  # noqa: N818 - the name says what is wrong
    """Error of a task that needs TensorFlow, where TensorFlow is not installed. ``what`` names the task."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f'{what} needs TensorFlow, which is not installed; pip install "datarax-tfds[tensorflow]"',
            name="tensorflow",
        )
        self.what = what

    def __reduce__(self) -> tuple[type["TensorFlowMissing"], tuple[str]]:
        return type(self), (self.what,)


def has_tensorflow() -> bool:
    """Return whether TensorFlow is installed, without importing it."""
    return "tensorflow" in sys.modules or importlib.util.find_spec("tensorflow") is not None


def require_tensorflow(what: str) -> None:
    """Raise if TensorFlow is not installed.

    Raises:
        TensorFlowMissing: TensorFlow is not installed; the message says that ``what`` needs it.
    """
    if not has_tensorflow():
        raise TensorFlowMissing(what)


def tensorflow_datasets() -> Any:
    """Return the module tensorflow_datasets. The first import takes half a second, and does not import TensorFlow.

    Raises:
        ImportError: The module cannot be imported; the message says what to install.
    """
    try:
        import tensorflow_datasets as tfds  # noqa: PLC0415 - half a second, only for those who open a data set

        # If an import inside it fails, tensorflow_datasets logs why and leaves a module without names.
        if not hasattr(tfds, "builder_from_directory"):
            import_module("tensorflow_datasets.public_api")
            raise ImportError("a module of it failed before")  # noqa: TRY301 - handled with every other failure below
    except Exception as cause:  # a broken installation may raise any error
        raise ImportError(_import_trouble(cause), name="tensorflow_datasets") from cause
    return tfds


def _import_trouble(cause: Exception) -> str:
    message = f"tensorflow_datasets cannot be imported: {cause}"
    protobuf = import_module("google.protobuf").__version__
    if Version(protobuf) < Version(_NEEDED_PROTOBUF):
        message += (
            f"; protobuf {protobuf} is installed, which is too old for it, though it does not say so: "
            f'pip install "protobuf>={_NEEDED_PROTOBUF}"'
        )
    return message
