"""What reads the files of a data set: the format on disk decides, and whether TensorFlow is installed."""

import importlib.util
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from ._installed import TensorFlowMissing, has_tensorflow

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
