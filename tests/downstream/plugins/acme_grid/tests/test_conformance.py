"""The source keeps what every source promises."""

from datarax_core.testing import SourceConformance


class TestAcmeGrid(SourceConformance):
    """All promises, held against the source that this config describes."""

    config = {"type": "acme_grid", "num_records": 300, "shuffle": True}
    expected_length = 300
    expected_records = {0: {"number": 0, "root": 0.0}, 256: {"number": 256, "root": 16.0}}
