"""The fixture that writes Parquet files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return ``write(columns, name=..., rows=...)``, which writes a Parquet file with row groups of ``rows`` rows."""

    def written(columns: Mapping[str, Any], name: str = "data.parquet", rows: int = 10, **options: Any) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(dict(columns)), path, row_group_size=rows, **options)
        return str(path)

    return written
