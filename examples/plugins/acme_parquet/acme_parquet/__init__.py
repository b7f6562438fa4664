"""The Parquet source: rows of Parquet files as records, with random access to every row."""

from ._config import AcmeParquetConfig
from ._source import AcmeParquet

__all__ = ["AcmeParquet", "AcmeParquetConfig"]
