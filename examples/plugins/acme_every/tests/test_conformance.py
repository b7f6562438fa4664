"""The conformance tests of datarax sources, which hold for views."""

import numpy as np
from flax import nnx

from acme_every import AcmeEvery, AcmeEveryConfig
from datarax_core import DataSourceModule, from_sequence
from datarax_core.testing import SourceConformance

RECORDS = [{"number": np.int32(number)} for number in range(91)]


class TestAcmeEvery(SourceConformance):
    """All conformance tests, over the others of every fourth record."""

    config = {"type": "acme_every", "every": 4, "first": 1, "keep": "others", "shuffle": True}
    expected_length = 68
    expected_records = {index: {"number": number} for index, number in ((0, 0), (1, 2), (2, 3), (3, 4), (67, 90))}
    effective = {"shuffle": False}
    shown_elsewhere = {"source": "test_view.py::test_a_config_names_the_source"}

    def make_source(self, config: AcmeEveryConfig, seed: int) -> DataSourceModule:
        return AcmeEvery(config, from_sequence(RECORDS), rngs=nnx.Rngs(seed))
