"""The stage `acme_fade` for datarax: values fade at random towards one value."""

from ._stage import AcmeFade

__all__ = ["AcmeFade"]
