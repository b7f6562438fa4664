"""Sources: what holds records, and the bases that authors derive theirs from."""

from . import subset as _subset  # noqa: F401 - it completes `DataSourceModule`, whose parts are subsets
