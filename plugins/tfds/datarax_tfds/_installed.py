"""What only some need: tensorflow_datasets once a data set is opened, TensorFlow where nothing else reads or writes it."""

import importlib.util
import sys
from importlib import metadata
from typing import Any, Final

NEEDED_PROTOBUF: Final = "6.31.1"


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
    except (ImportError, TypeError) as cause:  # a protobuf that is too old raises either
        raise ImportError(_trouble(f": {cause}"), name="tensorflow_datasets") from cause
    if not hasattr(tfds, "builder_from_directory"):  # its import failed before, and left an empty module behind
        raise ImportError(_trouble(), name="tensorflow_datasets")
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


def _trouble(said: str = "") -> str:
    return (
        f"tensorflow_datasets {_version('tensorflow-datasets')} cannot be imported beside protobuf {_version('protobuf')}"
        f'{said}; it needs protobuf {NEEDED_PROTOBUF} or newer: pip install "protobuf>={NEEDED_PROTOBUF}"'
    )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(not installed)"
