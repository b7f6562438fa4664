"""The conformance kit: a test class that shows whether a source keeps what a source promises.

For authors of sources. It needs pytest (``pip install "datarax-core[testing]"``), which nothing else in core imports.
"""

from ._conformance import SourceConformance
from ._declarations import Damaged
from ._effects import Shows

__all__ = ["Damaged", "Shows", "SourceConformance"]
