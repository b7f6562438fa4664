"""The conformance kit: a test class for the promises of every source, and a check for those of stages on the host.

For authors of sources and stages. It needs pytest (``pip install "datarax-core[testing]"``), which nothing else in core
imports.
"""

from .sources.conformance import SourceConformance
from .sources.declarations import Damaged, Shows
from .stages.host_check import check_host_stage

__all__ = ["Damaged", "Shows", "SourceConformance", "check_host_stage"]
