"""The source `acme_grid` of datarax."""

from ._config import AcmeGridConfig
from ._source import AcmeGrid

__all__ = ["AcmeGrid", "AcmeGridConfig"]
