"""Columns and lengths that a source knows without reading records."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from datarax_core.errors import SpecError, did_you_mean
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import named_fields

from .identity import config_paths, files_of


class KnownColumns:
    """The part of a source that tells whole columns, and the lengths of records, where no record has to be read for them."""

    def whole_column(self, field: str) -> "np.ndarray | Ragged | None":  # noqa: ARG002 - an override uses it
        """Return the column of a field over all records, (num_records, ...), read-only; None if that takes reading records.

        Args:
            field: Dotted name of the field.

        Called: by `where`, and by views that need one field of all records; on the thread that makes them.
        Default: None: the records are read instead.
        """
        return None

    def record_lengths(self, field: str) -> np.ndarray | None:
        """Return int64 (num_records,), read-only: the size of the first axis of a field in each record.

        None if that takes reading records, or if the field has no axis. `lengths_of` of datarax-views then reads them once.

        Args:
            field: Dotted name of the field.

        Raises:
            SpecError: The records have no such field.

        Called: by views such as ``pack``, ``window`` and ``bucket``, when they are made.
        Default: from `element_spec` or `whole_column`; else None: the records are read.
        """
        struct = field_struct(self, field)
        if not struct.shape:
            return None
        if struct.shape[0] is not None:
            num_records: int = self.num_records  # type: ignore[attr-defined]  # of the source
            return np.broadcast_to(np.int64(struct.shape[0]), (num_records,))
        column = self.whole_column(field)
        return lengths_of_column(column) if isinstance(column, Ragged) else None

    def data_files(self) -> Sequence[str] | None:
        """Return the paths of the files that records are read from; None if they do not come from files alone.

        With files that can be told from changed ones, tables that take a pass over all records are kept for later processes.
        By default the files that the config names, unless the constructor was given data besides.

        Called: by views that keep tables in the cache folder, when they are made.
        Default: the files that the config names as ``LocalPath``; None if `constructor_data` is not empty.
        """
        source: Any = self
        return None if source.constructor_data() else list(files_of(config_paths(source.config))) or None


def lengths_of_column(column: Ragged) -> np.ndarray:
    """Return int64 (k,), read-only: the size of the first axis of each record of a ragged column, of which it varies."""
    lengths = column.lengths if column.shapes is None else column.shapes[:, 0]
    lengths = lengths.view()
    lengths.flags.writeable = False
    return lengths


def field_struct(source: Any, field: str) -> jax.ShapeDtypeStruct:
    """Return shape and dtype of a field of a source's records.

    Args:
        source: A source.
        field: Dotted name of the field; ``record`` for records that are one array.

    Raises:
        SpecError: The records have no such field; lists those that they have.
    """
    structs = named_fields(source.element_spec())
    if field not in structs:
        raise SpecError(
            f"the records of {source.title} have no field {field!r}{did_you_mean(field, structs)} (fields: "
            f"{', '.join(structs) or 'none'})"
        )
    struct: jax.ShapeDtypeStruct = structs[field]
    return struct
