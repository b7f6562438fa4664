"""Parquet files to read."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(columns, name=..., rows=...)``: a Parquet file with row groups of so many rows; gives its path."""

    def written(columns: Mapping[str, Any], name: str = "data.parquet", rows: int = 10, **options: Any) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(dict(columns)), path, row_group_size=rows, **options)
        return str(path)

    return written
