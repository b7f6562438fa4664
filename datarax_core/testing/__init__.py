"""The conformance kit: a test class that shows whether a source keeps the promises of every source.

For authors of sources. The kit needs pytest (``pip install "datarax-core[testing]"``), which nothing else in core imports.
"""

from .conformance import SourceConformance
from .declarations import Damaged, Shows

__all__ = ["Damaged", "Shows", "SourceConformance"]
