"""What only some need: tensorflow_datasets once a data set is opened, TensorFlow where nothing else reads or writes it."""

import importlib.util
import sys
from importlib import import_module
from typing import Any, Final

from packaging.version import Version

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
