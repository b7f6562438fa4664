"""The stage `acme_slugs` for datarax: slugs of titles, which file names and addresses can hold."""

from ._stage import AcmeSlugs

__all__ = ["AcmeSlugs"]
