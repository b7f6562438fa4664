"""Columns of a view's parent that lie in one piece, looked up once."""

from typing import Any

import numpy as np

from datarax_core.records import Ragged
from datarax_core.sources import DataSourceModule, HostState


class HeldColumns(HostState):
    """Columns of a view's parent that lie in one piece, looked up once; a clone or pickle of the view looks them up itself."""

    def __init__(self) -> None:
        self._columns: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, Any] | None] = {}

    def get(
        self, fields: tuple[str, ...], parent: DataSourceModule, others: tuple[str, ...] = ()
    ) -> dict[str, Any] | None:
        """Return the columns of these fields, and of others, over all records; None unless the parent has them all.

        Args:
            fields: Fields whose values are gathered as runs: numbers that lie in one piece.
            parent: The source.
            others: Fields that are taken a record at a time, of any kind.
        """
        key = (fields, others)
        if key not in self._columns:
            columns = {name: parent.whole_column(name) for name in (*fields, *others)}
            are_held = all(_is_run_of_numbers(columns[name]) for name in fields)
            are_held = are_held and all(columns[name] is not None for name in others)
            self._columns[key] = columns if are_held else None
        return self._columns[key]


def _is_run_of_numbers(column: Any) -> bool:
    if not isinstance(column, Ragged) and not (isinstance(column, np.ndarray) and column.flags.c_contiguous):
        return False
    return column.dtype.kind in "biufcV"
