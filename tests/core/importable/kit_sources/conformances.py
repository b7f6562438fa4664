"""The test classes of all sources of the kit's own tests, which run pytest on this module."""

from . import broken_life, broken_order, broken_records
from .broken_records import DamagedConformance
from .healthy import (
    Conformance,
    Decides,
    DecidesConformance,
    Ending,
    Grouped,
    GroupedConformance,
    Healthy,
    HealthyFile,
    HealthyStream,
    InParts,
    StreamConformance,
    TextConformance,
    TextInShards,
    TextInShardsConformance,
    Twice,
    TwiceConformance,
    WithText,
)


class Sequential(Healthy):
    """Not shuffled."""


class SequentialConformance(Conformance):
    config = {"type": "kit"}


CONFORMANCES = {
    Healthy: Conformance,
    Sequential: SequentialConformance,
    WithText: TextConformance,
    TextInShards: TextInShardsConformance,
    Twice: TwiceConformance,
    Grouped: GroupedConformance,
    HealthyFile: DamagedConformance,
    HealthyStream: StreamConformance,
    Ending: StreamConformance,
    Decides: DecidesConformance,
    InParts: StreamConformance,
    **broken_records.CONFORMANCES,
    **broken_order.CONFORMANCES,
    **broken_life.CONFORMANCES,
}

for source, conformance in CONFORMANCES.items():
    name = f"Test{source.__name__}"
    globals()[name] = type(name, (conformance,), {"source_class": source, "__module__": __name__})
