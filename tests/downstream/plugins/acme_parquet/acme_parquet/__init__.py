"""The Parquet source: columns of Parquet files as arrays, with random access to every row."""

from ._config import AcmeParquetConfig
from ._source import AcmeParquet

__all__ = ["AcmeParquet", "AcmeParquetConfig"]
