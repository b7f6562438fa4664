"""Headers of arrays in NumPy's files."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an array in a file."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    length: int
    """Bytes of the header, which the data follow."""

    @property
    def can_be_mapped(self) -> bool:
        """Whether there are bytes to map; for an array of objects, reading raises the error."""
        return not (self.dtype.hasobject or not self.dtype.itemsize or 0 in self.shape or not self.shape)

    def mapped(self, path: Path, start: int) -> np.ndarray:
        """Return the array as a map of a file in which its header begins at ``start``."""
        order: Any = "F" if self.fortran_order else "C"
        return np.memmap(path, dtype=self.dtype, mode="r", offset=start + self.length, shape=self.shape, order=order)


def array_header(stream: IO[bytes], size: int) -> Header | None:
    """Return the header at the beginning of a stream of ``size`` bytes; None for a later version, which cannot be mapped.

    Raises:
        ValueError: The array has not as many bytes as follow the header, so that nothing is allocated for them.
    """
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(stream))
    if read is None:
        return None
    shape, fortran_order, dtype = read(stream)
    header = Header(shape, fortran_order, dtype, stream.tell())
    declared, left = math.prod(shape) * dtype.itemsize, size - header.length
    if not dtype.hasobject and declared != left:
        raise ValueError(
            f"its header declares {declared} bytes, {dtype}{list(shape)}, and {left} follow: it is cut off or damaged"
        )
    return header
