"""The conformance kit: a test class for the promises of every source, and a check for those of stages on the host.

For authors of sources and stages. It needs pytest (``pip install "datarax-core[testing]"``), which nothing else in core
imports.
"""

from .conformance import SourceConformance
from .declarations import Damaged, Shows
from .host_stages import check_host_stage

__all__ = ["Damaged", "Shows", "SourceConformance", "check_host_stage"]
