"""Weighted mixtures for datarax: exact proportions, each child in its own order, everything known in advance."""

from ._config import MixDataSourcesConfig
from ._source import MixDataSourcesNode

__all__ = ["MixDataSourcesConfig", "MixDataSourcesNode"]
