"""The source keeps what every source promises."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datarax_core import DataSourceModule, build_source
from datarax_core.testing import Damaged, Shows, SourceConformance

SHUFFLED = {"type": "acme_parquet", "shuffle": True, "shuffle_window": 100}


def write(path: Path, *, rows: int = 300, missing: int | None = None) -> str:
    """A file of rows in groups of 64 or more; the ``x`` of one may be missing."""
    x = [None if row == missing else row for row in range(rows)]
    pixels = pa.array([[row % 256] * 3 for row in range(rows)], pa.list_(pa.uint8(), 3))
    table = pa.table({"x": pa.array(x, pa.int32()), "pixels": pixels, "name": [f"row {row}" for row in range(rows)]})
    pq.write_table(table, path, row_group_size=max(64, rows // 50))
    return str(path)


class TestAcmeParquet(SourceConformance):
    """All of it, over one file of five row groups."""

    expected_length = 300
    expected_records = {row: {"x": row, "pixels": [row % 256] * 3} for row in (0, 64, 299)}
    effective = {"columns": ("x", "name"), "fill_null": Shows(value={"x": -1}, at=lambda source: source.fingerprint())}
    shown_elsewhere = {"cache_bytes": "test_reading.py::test_as_many_row_groups_are_kept_as_the_limit_allows"}

    def make_config(self, folder: Path) -> dict[str, Any]:
        path = write(folder / "rows.parquet")
        return {**SHUFFLED, "paths": path, "columns": ["x", "pixels"]}

    def make_sized_source(self, length: int, folder: Path) -> DataSourceModule:
        path = write(folder / f"{length}.parquet", rows=length)
        return build_source({**SHUFFLED, "paths": path, "columns": ["x"]})

    def make_damaged(self, folder: Path) -> Damaged:
        path = write(folder / "damaged.parquet", missing=70)
        return Damaged(config={"type": "acme_parquet", "paths": path}, record=70, path=path)
