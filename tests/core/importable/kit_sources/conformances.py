"""The test classes of all of these sources: what the kit's own tests run pytest on, which does not look for them here."""

from . import broken_life, broken_order, broken_records
from .broken_records import OfDamaged
from .healthy import Ending, Healthy, HealthyFile, HealthyStream, InParts, Of, OfStream, OfWords, Worded


class Sequential(Healthy):
    """Not shuffled."""


class OfSequential(Of):
    config = {"type": "kit"}


OFS = {
    Healthy: Of, Sequential: OfSequential, Worded: OfWords, HealthyFile: OfDamaged,
    HealthyStream: OfStream, Ending: OfStream, InParts: OfStream,
    **broken_records.OFS, **broken_order.OFS, **broken_life.OFS,
}  # fmt: skip

for source, conformance in OFS.items():
    name = f"Test{source.__name__}"
    globals()[name] = type(name, (conformance,), {"source_class": source, "__module__": __name__})
