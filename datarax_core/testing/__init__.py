"""The conformance kit: a test class for the promises of each kind of plugin, and a check for those of stages on the host.

For authors of plugins. It needs pytest (``pip install "datarax-core[testing]"``), which nothing else in core
imports.
"""

from .decoders.conformance import DecoderConformance
from .hooks.conformance import HookConformance
from .hooks.serving import ServedRun
from .options import Shows
from .sources.conformance import SourceConformance
from .sources.declarations import Damaged
from .stages.conformance import HostStageConformance, StageConformance
from .stages.host_check import check_host_stage

__all__ = [
    "Damaged",
    "DecoderConformance",
    "HookConformance",
    "HostStageConformance",
    "ServedRun",
    "Shows",
    "SourceConformance",
    "StageConformance",
    "check_host_stage",
]
