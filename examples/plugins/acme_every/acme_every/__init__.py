"""The view `acme_every` for datarax: every n-th record of a source, or all the others."""

from ._config import AcmeEveryConfig
from ._view import AcmeEvery

__all__ = ["AcmeEvery", "AcmeEveryConfig"]
