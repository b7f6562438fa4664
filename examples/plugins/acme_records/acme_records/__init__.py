"""The decoder `acme_records` for datarax: packets of sensors."""

from ._decoder import AcmeRecords

__all__ = ["AcmeRecords"]
