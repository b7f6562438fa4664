"""Features of other kinds, through TFDS's own NumPy decoders: whatever those give."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._fields import Field
from ._numbers import AnyArray
from ._stored import Records
from ._undecodable import Unfit


@dataclass(frozen=True, kw_only=True)
class ForeignField(Field):
    """A feature that TFDS decodes, from whole records."""

    alone: Any
    """A FeaturesDict that declares this feature in its place, and no other."""

    def fill(self, records: Records, out: AnyArray) -> None:
        """See `Field`."""
        for row, record in enumerate(records.stored):
            value = self._decoded(bytes(record))
            if self.is_varying:
                out[row] = value
                continue
            try:
                array = np.asarray(value, self.dtype)
            except (TypeError, ValueError, OverflowError) as error:
                raise Unfit(f"a value of which no array can be made ({error})") from error
            if array.shape != out[row].shape:
                raise Unfit(f"an array of the shape {list(array.shape)}")
            out[row] = array

    def _decoded(self, record: bytes) -> Any:
        try:
            value = self.alone.deserialize_example_np(record)
        except Exception as error:  # its code may raise anything
            raise Unfit(f"what its own decoder refuses ({type(error).__name__}: {error})") from error
        for name in self.name.split("."):
            value = value[name]
        return list(value) if hasattr(value, "__getitem__") and hasattr(value, "getitem") else value  # of a Dataset
