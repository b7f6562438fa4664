"""What only some need: tensorflow_datasets once a data set is opened, TensorFlow where nothing else reads or writes it."""

import importlib.util
import sys
from importlib import metadata
from types import ModuleType
from typing import Final

NEEDED_PROTOBUF: Final = "6.31.1"
INSTALL_TENSORFLOW: Final = 'pip install "datarax-tfds[tensorflow]"'


class NeedsTensorFlow(ImportError):  # noqa: N818 - it says what is to be done, not what went wrong
    """Only TensorFlow can do it, and TensorFlow is not installed."""


def tensorflow_datasets() -> ModuleType:
    """TFDS: half a second on first use, and without TensorFlow.

    Raises:
        ImportError: It cannot be imported; says what to install.
    """
    try:
        import tensorflow_datasets as tfds  # noqa: PLC0415 - half a second, for those who open a data set
    except (ImportError, TypeError) as cause:  # a protobuf that is too old raises either
        raise ImportError(_trouble(cause)) from cause
    if not hasattr(tfds, "builder_from_directory"):  # its import failed before, and left an empty module behind
        raise ImportError(_trouble(None))
    return tfds


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed; looks for it without importing it."""
    return "tensorflow" in sys.modules or importlib.util.find_spec("tensorflow") is not None


def require_tensorflow(what: str) -> None:
    """Refuse to go on without TensorFlow; ``what`` needs it.

    Raises:
        NeedsTensorFlow: It is not installed.
    """
    if not has_tensorflow():
        raise NeedsTensorFlow(f"{what} needs TensorFlow, which is not installed; {INSTALL_TENSORFLOW}")


def _trouble(cause: BaseException | None) -> str:
    protobuf = _version("protobuf")
    said = f": {cause}" if cause is not None else ""
    return (
        f"tensorflow_datasets {_version('tensorflow-datasets')} cannot be imported beside protobuf {protobuf}{said}; "
        f'it needs protobuf {NEEDED_PROTOBUF} or newer: pip install "protobuf>={NEEDED_PROTOBUF}"'
    )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(not installed)"
