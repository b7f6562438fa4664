"""Hooks for datarax: metrics of runs as JSON lines, and data sets of a catalogue by name."""

from ._catalogue import Catalogue
from ._metrics import Metrics

__all__ = ["Catalogue", "Metrics", "catalogue", "metrics"]

metrics = Metrics.of_environment()
catalogue = Catalogue.of_environment()
