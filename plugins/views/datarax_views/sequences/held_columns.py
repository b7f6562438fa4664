"""Columns of a view's parent that lie in one piece, looked up once."""

from typing import Any

import numpy as np

from datarax_core.records import Ragged
from datarax_core.sources import DataSourceModule, HostState


class HeldColumns(HostState):
    """Columns of a view's parent that lie in one piece, looked up once; a clone or pickle of the view looks them up itself."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, ...], dict[str, Any] | None] = {}

    def get(self, fields: tuple[str, ...], parent: DataSourceModule) -> dict[str, Any] | None:
        """Return the columns of these fields over all records; None unless all are numbers that lie in one piece."""
        if fields not in self._columns:
            columns = {name: parent.whole_column(name) for name in fields}
            self._columns[fields] = columns if all(map(_is_run_of_numbers, columns.values())) else None
        return self._columns[fields]


def _is_run_of_numbers(column: Any) -> bool:
    if not isinstance(column, Ragged) and not (isinstance(column, np.ndarray) and column.flags.c_contiguous):
        return False
    return column.dtype.kind in "biufcV"  # text of files is checked as its records are read
