"""Files of record indices: `.npy` files of integers or of booleans, and text files with an index on each line."""

import re
from pathlib import Path
from typing import Final

import numpy as np

from datarax_core.errors import DataFileError, reason_of
from datarax_core.order import first_twice

ONCE: Final = "a subset has each record once: leave one out, or draw with replacement by a view of type sample"

_EMPTY: Final = "names no record: a subset has one at least"

_INDEX: Final = re.compile(r"[0-9]+")


def indices_of_file(path: str, length: int, title: str) -> np.ndarray:
    """Return int64 (k,): the record indices that a file names, in its sequence.

    Args:
        path: An ``.npy`` file of integers, the indices; one of booleans, True for each record that is named; or a text file
            with an index on each line. Empty lines, and those that begin with ``#``, are left out.
        length: Number of records of the source.
        title: Name of the source in errors.

    Raises:
        FileNotFoundError: There is no such file.
        DataFileError: It holds something else, or an index that the source does not have; names the line.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path!r}, which should name records of {title}")
    if not path.endswith(".npy"):
        return _of_lines(path, length, title)
    array = loaded_array(path)
    if array.dtype == bool:
        return _of_mask(array, path, length, title)
    if array.dtype.kind not in "iu":
        raise DataFileError(
            path,
            f"{path!r} holds {array.dtype}, and records of {title} are named by integers, or by a boolean for each record",
        )
    if array.ndim != 1:
        raise DataFileError(path, f"{path!r} has shape {list(array.shape)}; record indices are one axis of integers")
    if not array.size:
        raise DataFileError(path, f"{path!r} {_EMPTY}")
    outside = (array < 0) | (array >= length)
    if outside.any():
        row = int(np.argmax(outside))
        raise DataFileError(
            path, f"{path!r}, row {row}: record {array[row]} is out of range: {title} has {length} records"
        )
    indices = array.astype(np.int64)
    if (twice := first_twice(indices)) is not None:
        first, second = twice
        raise DataFileError(path, f"{path!r} names record {indices[first]} twice, in rows {first} and {second}; {ONCE}")
    return indices


def mask_of_file(path: str, length: int, title: str) -> np.ndarray:
    """Return int64 (k,): the record indices for which an ``.npy`` file of one boolean a record says True, ascending.

    Raises:
        FileNotFoundError: There is no such file.
        DataFileError: It holds something else, or has another number of rows than there are records.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path!r}, which should choose records of {title}")
    array = loaded_array(path)
    if array.dtype != bool:
        raise DataFileError(path, f"{path!r} holds {array.dtype}, and a mask holds bool; give record indices as `file`")
    return _of_mask(array, path, length, title)


def loaded_array(path: str) -> np.ndarray:
    """Return the array of an ``.npy`` file, mapped.

    Raises:
        DataFileError: It is no such file, or holds Python objects.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        raise DataFileError(path, f"{path!r} cannot be read as an .npy file: {reason_of(error)}") from error


def _of_mask(mask: np.ndarray, path: str, length: int, title: str) -> np.ndarray:
    if mask.shape != (length,):
        raise DataFileError(
            path,
            f"{path!r} is a mask of shape {list(mask.shape)}, and {title} has {length} records; it needs a boolean for each",
        )
    if not mask.any():
        raise DataFileError(path, f"{path!r} is False everywhere: it chooses none of the {length} records of {title}")
    return np.flatnonzero(mask)


def _of_lines(path: str, length: int, title: str) -> np.ndarray:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataFileError(
            path, f"{path!r} is no text file of record indices, one a line; arrays are read from files that end in .npy"
        ) from error
    indices, numbers = [], []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if not _INDEX.fullmatch(text):
            raise DataFileError(
                path, f"{path}:{number}: {text[:40]!r} is no record index; each line holds one whole number from 0"
            )
        indices.append(int(text))
        numbers.append(number)
        if indices[-1] >= length:
            raise DataFileError(
                path, f"{path}:{number}: record {text[:40]} is out of range: {title} has {length} records"
            )
    if not indices:
        raise DataFileError(path, f"{path!r} {_EMPTY}")
    array = np.asarray(indices, np.int64)
    if (twice := first_twice(array)) is not None:
        first, second = (numbers[place] for place in twice)
        raise DataFileError(path, f"{path}:{second}: record {array[twice[1]]} is named in line {first} already; {ONCE}")
    return array
